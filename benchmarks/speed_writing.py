"""Measures the writing of nuclei, beside orjson, igzip and pyarrow on the same text and table."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip

from benchmarks.speed_bench import Bench, Line, in_turn
from wsipsm.export.geojson import GeoJsonWriter
from wsipsm.instances.cells import ROWS_PER_GROUP, CellsWriter
from wsipsm.instances.shard import read_shard
from wsipsm.instances.table import nuclei_schema
from wsipsm.rundir import RunDir
from wsipsm.slide.frame import SlideFrame
from wsipsm.stages.block import segment_block
from wsipsm.stages.plan import SlidePlan

IGZIP_LEVEL = 3
"""Level at which wsipsm compresses GeoJSON."""


def measure_writing(row: str, bench: Bench) -> list[Line]:
    """Measure cells.parquet and cells.geojson.gz of real nuclei, repeated up to a number."""
    plan = bench.plan("he", "nuclei-he")
    table = many_nuclei(plan, bench.n_nuclei)
    ours, theirs = bench.folder / "ours", bench.folder / "theirs"
    ours.mkdir()
    theirs.mkdir()
    write_as_a_run(table, plan.frame, ours)
    features = read_features(ours / "cells.geojson.gz")
    works = {
        "ours": partial(write_as_a_run, table, plan.frame, ours),
        "theirs": partial(write_plainly, table, features, theirs),
    }
    seconds = in_turn(works, bench.repeats)
    what = f"writing {table.num_rows} nuclei, Parquet and GeoJSON"
    return [
        Line(row, what, "CPU s", seconds["ours"], "orjson, igzip and pyarrow", seconds["theirs"], at_most=1.5),
    ]


def many_nuclei(plan: SlidePlan, n: int) -> pa.Table:
    """Find the nuclei of a block, and repeat them until there are enough."""
    block = plan.blocks[len(plan.blocks) // 2]
    segment_block(plan.job, block)
    found = read_shard(RunDir(plan.job.folder).shard_path(plan.job.key, block), nuclei_schema().names)
    times = -(-n // found.num_rows)
    return pa.concat_tables([found] * times).slice(0, n)


def write_as_a_run(table: pa.Table, frame: SlideFrame, folder: Path) -> None:
    """Write both files as a run does."""
    with CellsWriter(folder / "cells.parquet", {}) as cells:
        cells.add(table)
    with GeoJsonWriter(folder / "cells.geojson.gz", frame) as geojson:
        geojson.add(table)


def read_features(path: Path) -> list[Any]:
    """Read what a file of GeoJSON holds, a feature each."""
    return list(orjson.loads(gzip.decompress(path.read_bytes()))["features"])


def write_plainly(table: pa.Table, features: Sequence[Any], folder: Path) -> None:
    """Write the same by the libraries alone: features that are Python objects already, and the table as it is."""
    pq.write_table(table, folder / "cells.parquet", compression="zstd", row_group_size=ROWS_PER_GROUP)
    text = orjson.dumps({"type": "FeatureCollection", "features": features})
    (folder / "cells.geojson.gz").write_bytes(igzip.compress(text, IGZIP_LEVEL))

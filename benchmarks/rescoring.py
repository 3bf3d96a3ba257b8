"""Measures how long ``wsipsm score`` takes: without options, with another cut and with an edited region.

    python benchmarks/rescoring.py [--nuclei 500000] [--repeats 3]

A small slide is drawn and run; its nuclei are then replaced by as many as ``--nuclei`` says, in clusters on a slide of
usual size. The region has 40 parts with holes, and 25 exclusions. Times are wall-clock and processor time of the whole
command, the start of Python included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from machine import describe_machine

from wsipsm.config import RunOptions
from wsipsm.demo.draw import draw_slide
from wsipsm.events import ignore_events
from wsipsm.export.geojson import GeoJsonWriter
from wsipsm.instances.table import centroids_px0
from wsipsm.keys import Artefact, Column
from wsipsm.results.file_facts import nuclei_facts
from wsipsm.results.shown_scoring import nuclei_sha256, own_results
from wsipsm.results.stored_run import open_run
from wsipsm.stages.run import run_slide

SIDE_PX0 = 80_000


def make_result(folder: Path, n_nuclei: int) -> Path:
    """Make a finished run's folder with many nuclei."""
    slide = folder / "drawn.tiff"
    draw_slide(slide, seed=1, size=(1200, 900), n_nuclei=200)
    result = Path(run_slide(slide, folder / "out", RunOptions(workers=0), ignore_events).folder)
    rng = np.random.default_rng(0)
    centres = rng.uniform(4000, SIDE_PX0 - 4000, (n_nuclei // 500 + 1, 2))
    xy = np.clip(
        centres[rng.integers(len(centres), size=n_nuclei)] + rng.normal(0, 900, (n_nuclei, 2)), 0, SIDE_PX0 - 1
    )
    own = result / Artefact.SCORES / "run"
    table = pq.read_table(own / Artefact.CELLS)
    table = table.take(pa.array(rng.integers(table.num_rows, size=n_nuclei)))
    shift = np.rint(xy - centroids_px0(table))  # outlines lie on the grid of pixels
    outlines = shapely.from_wkb(table.column(Column.GEOMETRY.value).to_numpy(zero_copy_only=False))
    counts = shapely.get_num_coordinates(outlines)
    moved = shapely.set_coordinates(outlines, shapely.get_coordinates(outlines) + np.repeat(shift, counts, axis=0))
    place = table.schema.get_field_index(Column.GEOMETRY.value)
    wkb = pa.array(shapely.to_wkb(moved, byte_order=1), table.schema.field(place).type)
    table = table.set_column(place, table.schema.field(place), wkb)
    for axis, column in enumerate((Column.CENTROID_X_PX0, Column.CENTROID_Y_PX0)):
        place = table.schema.get_field_index(column.value)
        table = table.set_column(place, table.schema.field(place), pa.array(xy[:, axis]))
    pq.write_table(table, own / Artefact.CELLS, row_group_size=65_536, compression="zstd")
    run = orjson.loads((result / Artefact.RUN).read_bytes())
    run["slide"]["level_sizes"] = [{"width": SIDE_PX0, "height": SIDE_PX0}]
    run["region"]["px0_per_pixel"] = SIDE_PX0 / 2000
    # As large as the picture that a run keeps of such a slide: outlines are not drawn on it.
    run["picture"]["px0_per_pixel"] = SIDE_PX0 / 2000
    (result / Artefact.RUN).write_bytes(orjson.dumps(run))
    cv2.imwrite(str(result / Artefact.PICTURE), np.full((2000, 2000, 3), 240, np.uint8))
    cv2.imwrite(str(own / Artefact.TISSUE), np.full((2000, 2000), 255, np.uint8))
    write_features(result, table)
    return result


def write_features(result: Path, table: pa.Table) -> None:
    """Write the run's own GeoJSON of the nuclei, and note that nobody edited them since."""
    stored = open_run(result)
    own = own_results(stored.run_dir)
    about = nuclei_facts(stored.info, stored.frame, (stored.model, stored.weights_sha256), stored.summary.scoring)
    own.path(Artefact.GEOJSON).unlink()
    with GeoJsonWriter(own.path(Artefact.GEOJSON), stored.frame, about) as geojson:
        geojson.add(table)
    summary = orjson.loads(own.path(Artefact.SUMMARY).read_bytes())
    own.path(Artefact.SUMMARY).write_bytes(orjson.dumps({**summary, "nuclei_sha256": nuclei_sha256(own)}))


def write_region(path: Path) -> None:
    """Write a region of many parts with holes and exclusions."""
    rng = np.random.default_rng(3)
    features = []
    for kind, n, radius in (("Tumor", 40, 7000), ("Ignore*", 25, 1500)):
        for x, y in rng.uniform(5000, SIDE_PX0 - 5000, (n, 2)):
            shape = shapely.Point(x, y).buffer(radius, quad_segs=100).difference(shapely.Point(x, y).buffer(radius / 5))
            properties = {"objectType": "annotation", "classification": {"name": kind}}
            features.append({"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": properties})
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))


def time_score(result: Path, more: list[str]) -> tuple[float, float]:
    """Run the command; return its wall-clock and its processor time, seconds."""
    code = "from wsipsm.cli.main import main; main()"
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", code, "score", str(result), *more], check=True, capture_output=True)
    wall, after = time.perf_counter() - started, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wsipsm-rescoring-") as temporary:
        folder = Path(temporary)
        result, roi = make_result(folder, args.nuclei), folder / "roi.geojson"
        write_region(roi)
        ways = {"plain": [], "--dab-cut 0.3": ["--dab-cut", "0.3"], "--roi of 65 polygons": ["--roi", str(roi)]}
        for name, more in ways.items():
            times = [time_score(result, more) for _ in range(args.repeats)]
            shown = ", ".join(f"{wall:.2f} ({processor:.2f})" for wall, processor in times)
            print(f"{args.nuclei:,} nuclei, {name}: {shown} s by the clock (of the processor)")
    facts = describe_machine()
    print(f"{facts['date']}, {facts['machine']}.")


if __name__ == "__main__":
    main()

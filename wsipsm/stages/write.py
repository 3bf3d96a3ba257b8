"""The writing of results from shards in one pass, one row of blocks at a time, never the whole slide."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from wsipsm.export.geojson import GeoJsonWriter
from wsipsm.export.overview import OverviewCanvas
from wsipsm.facts import FileFacts
from wsipsm.geometry import Box
from wsipsm.instances.cells import CellsWriter
from wsipsm.instances.shard import read_seam_rows, read_shard
from wsipsm.instances.stitch import SeamRow, resolve_seams
from wsipsm.instances.table import BORDER_PX, OWNED, centroids_px0, nuclei_schema
from wsipsm.keys import Artefact, Column, NucleusClass
from wsipsm.results.shown_scoring import forget_results
from wsipsm.rundir import RunDir, write_aside
from wsipsm.stages.block import SlideJob
from wsipsm.stages.plan import SlidePlan
from wsipsm.tiling import Block
from wsipsm.timing import Steps

AREA_STEP_UM2 = 10.0
_N_AREA_STEPS = 41
_SEAM_COLUMNS = (OWNED, BORDER_PX, Column.GEOMETRY.value)


@dataclass
class Totals:
    """Counts and areas of a slide's nuclei, collected while these are written."""

    n_nuclei: int = 0
    n_positive: int = 0
    n_negative: int = 0
    n_seam_dropped: int = 0
    """Number of nuclei that another block found again."""
    n_outside: int = 0
    """Number of nuclei outside the region."""
    area_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_N_AREA_STEPS, np.int64))
    """Numbers of nuclei by area, in steps of ``AREA_STEP_UM2``; the last step is open."""
    area_sum_um2: float = 0.0

    def add(self, table: pa.Table) -> None:
        """Count nuclei."""
        kinds = table.column(Column.CLASS.value).to_numpy(zero_copy_only=False)
        positive = kinds == NucleusClass.POSITIVE.value
        self.n_nuclei += table.num_rows
        self.n_positive += int(positive.sum())
        self.n_negative += int((kinds == NucleusClass.NEGATIVE.value).sum())
        area = table.column(Column.AREA_UM2.value).to_numpy()
        steps = np.minimum((area // AREA_STEP_UM2).astype(np.int64), len(self.area_counts) - 1)
        self.area_counts += np.bincount(steps, minlength=len(self.area_counts))
        self.area_sum_um2 += float(area.sum(dtype=np.float64))


def write_cells(
    plan: SlidePlan,
    run_dir: RunDir,
    blocks: Sequence[Block],
    lost_px0: Sequence[Box],
    about: FileFacts,
    canvas: OverviewCanvas,
    steps: Steps,
) -> Totals:
    """Write cells.parquet and cells.geojson.gz from shards, and count and draw what goes into them.

    Parameters
    ----------
    plan
        Plan of the slide.
    run_dir
        Folder with the shards, which takes the results.
    blocks
        Blocks that have a shard, in row-major order.
    lost_px0
        Level-0 boxes that could not be read; nuclei that touch one are left out, whichever block found them.
    about
        Facts on their making that the files carry; they are the same for the same input.
    canvas
        Canvas of the overview, on which the nuclei are drawn.
    steps
        Times what is done to the nuclei of each block.

    Raises
    ------
    OutputError
        When the disk is full. Old results stay as they were until the new ones are complete.
    """
    totals = Totals()
    with (
        write_aside(run_dir.path(Artefact.GEOJSON)) as geojson_path,
        write_aside(run_dir.path(Artefact.CELLS)) as cells_path,
    ):
        geojson = GeoJsonWriter(geojson_path, plan.frame, about)
        try:
            with CellsWriter(cells_path, about) as cells:
                for table in steps.each("join", _final_tables(plan, run_dir, blocks, lost_px0, totals)):
                    with steps.timed("cells"):
                        cells.add(table)
                    with steps.timed("geojson"):
                        geojson.add(table)
                    with steps.timed("draw"):
                        canvas.add(table)
                    totals.add(table)
        finally:
            geojson.close()
        # From here on old results may be replaced, so the folder no longer counts as finished, whatever happens.
        forget_results(run_dir)
    return totals


def _final_tables(
    plan: SlidePlan, run_dir: RunDir, blocks: Sequence[Block], lost_px0: Sequence[Box], totals: Totals
) -> Iterator[pa.Table]:
    """Yield the nuclei of one block after the other, each nucleus at a seam once, and only those in the region."""
    names = nuclei_schema().names
    lost = shapely.union_all([shapely.box(box.x, box.y, box.right, box.bottom) for box in lost_px0])
    shapely.prepare(lost)
    for block, seam_rows, seam_kept in _resolved_blocks(plan.job, run_dir, blocks):
        table = read_shard(run_dir.shard_path(plan.job.key, block), names)
        keep = np.ones(table.num_rows, dtype=bool)
        keep[seam_rows] = seam_kept
        totals.n_seam_dropped += int((~seam_kept).sum())
        inside = np.asarray(plan.region.contains(centroids_px0(table)), dtype=bool)
        totals.n_outside += int((keep & ~inside).sum())
        if lost_px0:
            outlines = shapely.from_wkb(table.column(Column.GEOMETRY.value).to_numpy(zero_copy_only=False))
            inside &= ~shapely.intersects(lost, outlines)
        table = table.filter(pa.array(keep & inside))
        if table.num_rows:
            yield table


def _resolved_blocks(
    job: SlideJob, run_dir: RunDir, blocks: Sequence[Block]
) -> Iterator[tuple[Block, NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield each block with the shard rows that lie at seams and which of them are kept."""
    waiting: deque[tuple[list[Block], list[NDArray[np.int64]]]] = deque()

    def load() -> Iterator[SeamRow]:
        for row, group in groupby(blocks, key=lambda block: block.row):
            members = list(group)
            tables = [read_seam_rows(run_dir.shard_path(job.key, block), _SEAM_COLUMNS) for block in members]
            waiting.append((members, [table.column("row").to_numpy() for table in tables]))
            yield _seam_row(row, members, tables)

    # Nuclei may reach through the whole margin around a core, which can span several rows when blocks are small.
    rows_px = min((block.core.height for block in blocks[:1]), default=1)
    reach_rows = max(1, -(-2 * job.geometry.context_px // max(1, rows_px)))
    for kept in resolve_seams(load(), reach_rows):
        members, rows = waiting.popleft()
        cuts = np.cumsum([len(positions) for positions in rows])[:-1]
        yield from zip(members, rows, np.split(kept, cuts), strict=True)


def _seam_row(row: int, blocks: list[Block], tables: list[pa.Table]) -> SeamRow:
    whole = pa.concat_tables(tables)
    return SeamRow(
        row=row,
        block=np.repeat([block.index for block in blocks], [table.num_rows for table in tables]).astype(np.int64),
        owned=whole.column(OWNED).to_numpy(zero_copy_only=False).astype(bool),
        border_px=whole.column(BORDER_PX).to_numpy(),
        wkb=whole.column(Column.GEOMETRY.value).to_numpy(zero_copy_only=False),
    )

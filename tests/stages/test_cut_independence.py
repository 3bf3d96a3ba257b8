"""However a slide is cut and whoever works, the nuclei are the same."""

from __future__ import annotations

from pathlib import Path

import dask.config
import distributed  # noqa: F401  its defaults must be there before one is changed
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from stand_in import HERE, draw_slide

from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.keys import Artefact, Column
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")

MPP = 0.4
"""Not the model's: pixels are resampled, by a factor that is no whole number."""


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_slide(tmp_path_factory.mktemp("drawn") / "cut.png", 810, 690, seed=3, density=1.4)


def run(slide: Path, out: Path, block_px: int, tile_px: int, workers: int = 0) -> Path:
    options = RunOptions(mpp=MPP, workers=workers, block_px=block_px, tile_px=tile_px)
    with dask.config.set({"distributed.worker.preload": [HERE]}):
        return Path(run_slide(slide, out, options, ignore_events).folder) / Artefact.CELLS


def nuclei(cells: Path) -> pd.DataFrame:
    return pq.read_table(cells).to_pandas().sort_values(Column.NUCLEUS_ID.value).reset_index(drop=True)


def test_blocks_and_tiles_change_nothing(slide: Path, tmp_path: Path) -> None:
    reference = nuclei(run(slide, tmp_path / "whole", 2048, 2048))
    assert len(reference) > 280
    for block_px, tile_px in [(256, 512), (128, 128), (176, 64)]:
        found = nuclei(run(slide, tmp_path / f"{block_px}-{tile_px}", block_px, tile_px))
        pd.testing.assert_frame_equal(found, reference, rtol=1e-6)

    outlines = shapely.from_wkb(reference[Column.GEOMETRY.value])
    tree = shapely.STRtree(outlines)
    first, second = tree.query(outlines, predicate="intersects")
    first, second = first[first < second], second[first < second]
    common = shapely.area(shapely.intersection(outlines[first], outlines[second]))
    assert common.max(initial=0) == 0, "label images hold no overlaps, and seams bring none in"


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_workers_change_no_byte(slide: Path, tmp_path: Path, workers: int) -> None:
    serial = run(slide, tmp_path / "serial", 256, 256)
    assert run(slide, tmp_path / "workers", 256, 256, workers).read_bytes() == serial.read_bytes()


def test_rows_come_in_a_fixed_order(slide: Path, tmp_path: Path) -> None:
    table = pq.read_table(run(slide, tmp_path, 2048, 2048)).to_pandas()
    y, x = table[Column.CENTROID_Y_PX0.value], table[Column.CENTROID_X_PX0.value]
    assert (np.lexsort((x, y)) == np.arange(len(table))).all()

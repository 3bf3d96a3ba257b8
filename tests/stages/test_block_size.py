"""Large blocks are taken where they pay: few pixels seen twice, all workers busy, memory enough, none begun anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from stand_in import MPP, draw_slide

import wsipsm.stages.block_size
from wsipsm.config import RunOptions
from wsipsm.events import BlockDone, Event, ignore_events
from wsipsm.geometry import Size, WorkingGrid
from wsipsm.keys import Artefact, Column
from wsipsm.models.card import ModelCard
from wsipsm.models.predict import predict_tiled
from wsipsm.models.registry import list_models
from wsipsm.rundir import RunDir
from wsipsm.slide.open import open_slide
from wsipsm.stages.plan import SlidePlan, plan_slide
from wsipsm.stages.run import run_slide
from wsipsm.tiling import LARGE_SIDES, USUAL_SIDES, BlockGeometry, BlockSides

MUCH, LITTLE = 2**40, 2**30
LARGE_SIDE_PX = 256


class CountingPredictor:
    """Counts the pixels that a network is shown."""

    backend = "count"
    margin_px = 0

    def __init__(self, card: ModelCard) -> None:
        self.card, self.n_px = card, 0

    def predict(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.n_px += rgb.shape[0] * rgb.shape[1]
        return np.zeros((1, *rgb.shape[:2]), np.float32)

    def predict_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        return map(self.predict, images)


@pytest.mark.parametrize(("sides", "most"), [(LARGE_SIDES, 1.5), (USUAL_SIDES, 2.1)])
@pytest.mark.parametrize("card", list_models(), ids=lambda card: card.name)
def test_few_pixels_are_inferred_twice(card: ModelCard, sides: BlockSides, most: float) -> None:
    grid = WorkingGrid(Size(50_000, 50_000), slide_mpp=card.mpp, mpp=card.mpp)
    geometry = BlockGeometry.of_network(
        grid, sides, stride=card.stride, reach_px=card.reach_px, max_area_um2=card.decode.max_area_um2
    )
    core = geometry.block(1, 1).core
    box = geometry.read_box(core)
    predictor = CountingPredictor(card.model_copy(update={"outputs": ("nucleus",)}))
    rgb = np.zeros((box.height, box.width, 3), np.uint8)
    predict_tiled(predictor, rgb, geometry.margin_px, geometry.even_tile_px(core))
    assert 1 < predictor.n_px / core.area <= most


@pytest.fixture
def small_sides(monkeypatch: pytest.MonkeyPatch, stand_in: None) -> None:
    """Blocks a sixteenth as large, so that a drawn slide of 1200 px has 25 large and 100 usual ones."""
    monkeypatch.setattr(wsipsm.stages.block_size, "LARGE_SIDES", BlockSides(LARGE_SIDE_PX, 128))
    monkeypatch.setattr(wsipsm.stages.block_size, "USUAL_SIDES", BlockSides(LARGE_SIDE_PX // 2, 64))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_slide(tmp_path_factory.mktemp("drawn") / "case.png", 1200, 1200, seed=5)


def with_free(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    monkeypatch.setattr(wsipsm.stages.block_size, "available_bytes", lambda: n_bytes)


def nuclei(folder: Path) -> pd.DataFrame:
    table = pq.read_table(folder / Artefact.CELLS).to_pandas()
    return table.sort_values(Column.NUCLEUS_ID.value).reset_index(drop=True)


def plan(slide: Path, out: Path, **values: object) -> SlidePlan:
    with open_slide(slide, MPP) as opened:
        return plan_slide(opened, RunOptions.model_validate({"mpp": MPP, "workers": 0, **values}), RunDir(out))


@pytest.mark.usefixtures("small_sides")
@pytest.mark.parametrize(
    ("free", "values", "is_large"),
    [
        (MUCH, {}, True),
        (LITTLE, {}, False),
        (MUCH, {"workers": 1}, True),
        (MUCH, {"workers": 2}, True),
        (MUCH, {"workers": 8}, False),  # some would idle while the last blocks are worked on
        (MUCH, {"scheduler": "tcp://elsewhere:8786"}, False),  # its machines' memory is not known
        (MUCH, {"tile_px": 64}, False),
    ],
)
def test_large_blocks_are_taken_where_they_pay(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, values: dict[str, object], is_large: bool
) -> None:
    with_free(monkeypatch, free)
    side = plan(slide, tmp_path, **values).job.geometry.block_px
    assert side == (LARGE_SIDE_PX if is_large else LARGE_SIDE_PX // 2)


@pytest.mark.usefixtures("small_sides")
def test_what_the_user_names_is_taken(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, LITTLE)
    geometry = plan(slide, tmp_path, block_px=400, tile_px=96).job.geometry
    assert (geometry.block_px, geometry.tile_px) == (400, 96)


@pytest.mark.usefixtures("small_sides")
@pytest.mark.parametrize(("free", "later"), [(MUCH, LITTLE), (LITTLE, MUCH)])
def test_a_stopped_run_continues_with_the_blocks_it_began_with(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, later: int
) -> None:
    options = RunOptions(mpp=MPP, workers=0)
    with_free(monkeypatch, later)
    other = Path(run_slide(slide, tmp_path / "other", options, ignore_events).folder)
    with_free(monkeypatch, free)

    class StoppedError(Exception):
        pass

    def stop(event: Event) -> None:
        done.extend([event] if isinstance(event, BlockDone) else [])
        if len(done) == 3:
            raise StoppedError

    done: list[Event] = []
    with pytest.raises(StoppedError):
        run_slide(slide, tmp_path / "out", options, stop)
    with_free(monkeypatch, later)
    again: list[Event] = []
    folder = Path(run_slide(slide, tmp_path / "out", options, again.append).folder)
    n_blocks = len(plan(slide, tmp_path / "plan", block_px=256 if free == MUCH else 128).blocks)
    assert sum(isinstance(event, BlockDone) for event in again) == n_blocks - 3
    # The blocks of the other run are others, and its nuclei the same.
    pd.testing.assert_frame_equal(nuclei(folder), nuclei(other), rtol=1e-6)

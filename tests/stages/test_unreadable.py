"""Pixels that cannot be decoded, and disks that are full: told, and never passed off as empty."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from stand_in import MPP, draw_nuclei, draw_slide

import wsipsm.stages.block
import wsipsm.stages.brown_sample
import wsipsm.stages.finish
import wsipsm.stages.prepare
from wsipsm.config import RunOptions
from wsipsm.errors import OutputError, SlideReadError
from wsipsm.events import BlockDone, Event, StageStarted, ignore_events
from wsipsm.geometry import Box
from wsipsm.keys import Artefact, Column
from wsipsm.slide.array import ArraySlide
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")


TORN = Box(600, 100, 50, 50)
LOST = Box(512, 0, 256, 256)
"""Boxes of 128 px that it touches."""


class TornSlide(ArraySlide):
    """A slide of which one box cannot be decoded."""

    def __init__(self, pixels: NDArray[np.uint8], torn: Box) -> None:
        super().__init__(pixels, MPP, "torn")
        self.torn = torn

    def read_level(self, level: int, box: Box) -> NDArray[np.uint8]:
        if box.intersect(self.torn).area:
            raise SlideReadError("torn: tile cannot be decoded")
        return super().read_level(level, box)


@pytest.fixture
def torn(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(torn_box: Box, width: int = 1200, height: int = 700) -> Path:
        pixels = draw_nuclei(width, height, seed=2)

        def open_torn(
            path: object, mpp: float | None = None, image: int | None = None, identify: bool = True
        ) -> TornSlide:
            return TornSlide(pixels, torn_box)

        opening = (wsipsm.stages.block, wsipsm.stages.prepare, wsipsm.stages.finish, wsipsm.stages.brown_sample)
        for module in opening:
            monkeypatch.setattr(module, "open_slide", open_torn)
        return Path("torn.svs")

    return use


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 128, **values})


def cells(folder: str) -> Any:
    return pq.read_table(Path(folder) / Artefact.CELLS).to_pandas()


def inside(table: Any, box: Box) -> NDArray[np.bool_]:
    x, y = table[[Column.CENTROID_X_PX0.value, Column.CENTROID_Y_PX0.value]].to_numpy().T
    return np.asarray((x >= box.x) & (x < box.right) & (y >= box.y) & (y < box.bottom))


def names_clear_of(table: Any, box: Box) -> set[str]:
    """Nuclei so far from a box that the network cannot have seen its white."""
    return set(table[Column.NUCLEUS_ID.value][~inside(table, box.expand(48))])


def test_a_failed_tile_is_not_an_empty_tile(torn: Any, tmp_path: Path) -> None:
    path = torn(TORN)
    events: list[Event] = []
    summary = run_slide(path, tmp_path / "torn", options(), events.append)
    lost = LOST
    assert summary.coverage == pytest.approx(1 - lost.area / (1200 * 700), abs=1e-5)
    assert summary.exit_code == 7
    assert summary.n_failed_blocks == 0
    assert sum(box[2] * box[3] for box in summary.failed_boxes_px0) == lost.area
    assert summary.labelling_index is not None
    assert any("could not be read" in flag for flag in summary.labelling_index.flags)
    assert sum(bool(event.report.failed) for event in events if isinstance(event, BlockDone)) == 1

    # Outside the lost box, and clear of it, the nuclei are those of the sound slide; inside there are none.
    sound = run_slide(torn(Box(0, 0, 0, 0)), tmp_path / "sound", options(), ignore_events)
    found, expected = cells(summary.folder), cells(sound.folder)
    assert not inside(found, lost).any()
    assert inside(expected, lost).any()
    assert names_clear_of(found, lost) == names_clear_of(expected, lost)


def test_what_fails_does_not_depend_on_blocks(torn: Any, tmp_path: Path) -> None:
    path = torn(TORN)
    names = []
    for block_px in (128, 400, 2048):
        summary = run_slide(path, tmp_path / str(block_px), options(block_px=block_px), ignore_events)
        assert summary.coverage == pytest.approx(1 - LOST.area / (1200 * 700), abs=1e-5)
        found = cells(summary.folder)
        assert not inside(found, LOST).any()
        names.append(names_clear_of(found, LOST))
    assert names[0] == names[1] == names[2]


def blocks_run(events: list[Event]) -> list[int]:
    return [event.report.index for event in events if isinstance(event, BlockDone)]


def test_what_could_not_be_read_is_read_again_and_nothing_else(torn: Any, tmp_path: Path) -> None:
    path = torn(TORN)
    first = run_slide(path, tmp_path, options(), ignore_events)
    results = [first.path("cells").read_bytes(), first.path("geojson").read_bytes()]
    for _ in range(2):
        events: list[Event] = []
        again = run_slide(path, tmp_path, options(), events.append)
        assert not again.was_done
        assert (again.exit_code, again.coverage) == (7, first.coverage)
        assert blocks_run(events) == [2], "the only block with a part that could not be read"
        assert [again.path("cells").read_bytes(), again.path("geojson").read_bytes()] == results


@pytest.mark.parametrize("also_planning", [False, True])
def test_a_slide_that_was_away_for_a_moment_comes_back(
    torn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, also_planning: bool
) -> None:
    path = torn(Box(0, 0, 0, 0))
    sound = run_slide(path, tmp_path / "sound", options(), ignore_events)
    away = [Box(0, 0, 0, 0)]

    def read_level(self: TornSlide, level: int, box: Box) -> NDArray[np.uint8]:
        if box.intersect(away[0]).area:
            raise SlideReadError("torn: away")
        return ArraySlide.read_level(self, level, box)

    monkeypatch.setattr(TornSlide, "read_level", read_level)

    def go_away(event: Event) -> None:
        if isinstance(event, StageStarted) and event.name == ("plan" if also_planning else "segment"):
            away[0] = TORN
        if isinstance(event, StageStarted) and event.name == "write":
            away[0] = Box(0, 0, 0, 0)

    first = run_slide(path, tmp_path / "out", options(), go_away)
    assert first.exit_code == 7
    events: list[Event] = []
    second = run_slide(path, tmp_path / "out", options(), events.append)
    assert (second.exit_code, second.coverage) == (0, 1.0)
    assert also_planning or blocks_run(events) == [2]
    assert second.path("cells").read_bytes() == sound.path("cells").read_bytes()
    assert not (Path(second.folder) / Artefact.SHARDS).exists()
    assert run_slide(path, tmp_path / "out", options(), ignore_events).was_done


def test_an_overview_that_could_not_be_read_is_read_again(
    torn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = torn(TORN)
    monkeypatch.setattr(
        wsipsm.stages.block, "open_slide", lambda *_: TornSlide(draw_nuclei(1200, 700, 2), Box(0, 0, 0, 0))
    )
    first = run_slide(path, tmp_path, options(), ignore_events)
    assert first.is_complete
    assert not first.is_finished
    torn(Box(0, 0, 0, 0))
    second = run_slide(path, tmp_path, options(), ignore_events)
    assert not second.was_done
    assert second.is_finished


def test_a_sample_that_could_not_be_read_whole_is_read_again(
    torn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = torn(Box(0, 0, 0, 0))
    sound = run_slide(path, tmp_path / "sound", options(), ignore_events)
    n_patches = []

    def read_level(self: TornSlide, level: int, box: Box) -> NDArray[np.uint8]:
        n_patches.append(box.width == box.height == 128)
        if n_patches[-1] and sum(n_patches) == 3:
            raise SlideReadError("torn: away")
        return ArraySlide.read_level(self, level, box)

    monkeypatch.setattr(TornSlide, "read_level", read_level)
    first = run_slide(path, tmp_path / "out", options(), ignore_events)
    assert first.is_complete
    assert first.n_unread_in_plan == 1
    second = run_slide(path, tmp_path / "out", options(), ignore_events)
    assert not second.was_done
    assert second.path("cells").read_bytes() == sound.path("cells").read_bytes()
    assert run_slide(path, tmp_path / "out", options(), ignore_events).was_done


def test_nothing_readable_is_an_error(torn: Any, tmp_path: Path) -> None:
    with pytest.raises(SlideReadError, match="no part of it can be decoded"):
        run_slide(torn(Box(0, 0, 5000, 5000)), tmp_path, options(), ignore_events)
    assert not list(tmp_path.rglob("cells*"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if not is_root or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here (root is needed)")
    yield place
    # What the error that the test caught still holds open goes with it.
    gc.collect()
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_is_told_and_leaves_nothing_half_written(
    tiny_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = draw_slide(tmp_path / "case.png", 1200, 900, density=1.5)
    # The budget would refuse so small a disk at once.
    monkeypatch.setattr("wsipsm.stages.segment.check_budget", lambda *_: None)
    with pytest.raises(OutputError, match="the disk is full") as caught:
        run_slide(slide, tiny_disk, options(), ignore_events)
    assert caught.value.exit_code == 6
    # Which slide the folder is of stays, too.
    left = [path.name for path in tiny_disk.rglob("*") if path.is_file() and path.name != Artefact.SLIDE.value]
    assert left
    assert all(name.startswith("0") and name.endswith(".parquet") for name in left), "finished shards, nothing else"
    # With room again, what was finished is used.
    subprocess.run(["mount", "-o", "remount,size=20m", str(tiny_disk)], check=True)
    events: list[Event] = []
    summary = run_slide(slide, tiny_disk, options(), events.append)
    assert sum(isinstance(event, BlockDone) for event in events) == summary.n_blocks - len(left)


def test_a_disk_that_is_too_small_is_refused_before_work(tiny_disk: Path, tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "case.png", 1200, 900)
    with pytest.raises(MemoryError, match="free on that disk"):
        run_slide(slide, tiny_disk, options(), ignore_events)

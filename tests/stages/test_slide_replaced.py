"""A slide that was replaced is computed again; one that was moved or copied is not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from stand_in import MPP, draw_nuclei, draw_slide

from wsipsm.cohort.run import CohortOptions, run_cohort
from wsipsm.config import RunOptions
from wsipsm.errors import SlideOpenError
from wsipsm.events import BlockDone, Event, SlideDone, ignore_events
from wsipsm.keys import Artefact
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 128, **values})


def draw_tiff(path: Path, seed: int) -> Path:
    """Write uncompressed pixels: files of one size whatever they show."""
    draw_slide(path.with_suffix(".bmp"), 300, 280, seed=seed)
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path.with_suffix(".bmp")) as image:
        image.save(path, compression=None)
    path.with_suffix(".bmp").unlink()
    return path


def test_a_replaced_slide_of_one_size_and_time_is_computed_again(tmp_path: Path) -> None:
    slide, other = draw_tiff(tmp_path / "a.tif", 1), draw_tiff(tmp_path / "other.tif", 2)
    shutil.copystat(slide, other)
    assert slide.stat().st_size == other.stat().st_size
    first = run_slide(slide, tmp_path / "out", options(), ignore_events)
    assert run_slide(slide, tmp_path / "out", options(), ignore_events).was_done
    shutil.copy2(other, slide)
    second = run_slide(slide, tmp_path / "out", options(), ignore_events)
    assert not second.was_done
    assert second.n_nuclei != first.n_nuclei
    assert second.request_key != first.request_key


def draw_tiled(path: Path, hole: int | None = None) -> Path:
    """Write JPEG tiles of 128 px, one of them without its bytes; the file's size stays."""
    import tifffile

    pixels = draw_nuclei(640, 512, seed=4)
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", compression="jpeg", metadata=None)
    if hole is not None:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[0]
            offset, count = page.dataoffsets[hole], page.databytecounts[hole]
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(bytes(count))
    return path


def test_a_good_copy_over_a_damaged_one_is_read(tmp_path: Path) -> None:
    slide = draw_tiled(tmp_path / "x.tif", hole=7)
    good = draw_tiled(tmp_path / "good.tif")
    clean = run_slide(good, tmp_path / "clean", options(), ignore_events)
    assert slide.stat().st_size == good.stat().st_size
    for _ in range(2):
        damaged = run_slide(slide, tmp_path / "out", options(), ignore_events)
        assert damaged.exit_code == 7
        assert damaged.coverage < 1
        assert not damaged.was_done
    shutil.copyfile(good, slide)
    mended = run_slide(slide, tmp_path / "out", options(), ignore_events)
    assert (mended.exit_code, mended.coverage) == (0, 1.0)
    assert mended.path("cells").read_bytes() == clean.path("cells").read_bytes()


@pytest.mark.parametrize("retry", [0, 1])
def test_a_cohort_reads_again_what_failed(tmp_path: Path, retry: int) -> None:
    (tmp_path / "cohort").mkdir()
    slide = draw_tiled(tmp_path / "cohort" / "x.tif", hole=7)
    draw_tiled(tmp_path / "cohort" / "y.tif")
    how = CohortOptions(retry=retry, pauses_s=(0.0,))
    first = run_cohort([tmp_path / "cohort"], tmp_path / "out", options(), ignore_events, how)
    assert [(row.status, row.attempts) for row in first.rows] == [("incomplete", 1 + retry), ("done", 1)]
    assert first.exit_code == 7
    shutil.copyfile(tmp_path / "cohort" / "y.tif", slide)
    events: list[Event] = []
    second = run_cohort([tmp_path / "cohort"], tmp_path / "out", options(), events.append, how)
    assert [row.coverage for row in second.rows] == [1.0, 1.0]
    assert [event.summary.was_done for event in events if isinstance(event, SlideDone)] == [False, True]


def test_a_moved_or_copied_slide_is_not_computed_again(tmp_path: Path) -> None:
    slide = draw_tiff(tmp_path / "a.tif", 1)
    run_slide(slide, tmp_path / "out", options(), ignore_events)
    copy = tmp_path / "elsewhere" / "a.tif"
    copy.parent.mkdir()
    shutil.copyfile(slide, copy)
    again = run_slide(copy, tmp_path / "out", options(), ignore_events)
    assert again.was_done
    slide.rename(tmp_path / "moved.tif").rename(tmp_path / "elsewhere" / "a.tif")
    assert run_slide(tmp_path / "elsewhere" / "a.tif", tmp_path / "out", options(), ignore_events).was_done


def test_a_slide_that_is_replaced_during_the_run_leaves_nothing(tmp_path: Path) -> None:
    slide, other = draw_tiff(tmp_path / "a.tif", 1), draw_tiff(tmp_path / "other.tif", 2)
    shutil.copystat(slide, other)

    def replace_after_a_block(event: Event) -> None:
        if isinstance(event, BlockDone) and event.report.index == 1:
            shutil.copy2(other, slide)

    with pytest.raises(SlideOpenError, match="its content is not what the run was planned on"):
        run_slide(slide, tmp_path / "out", options(), replace_after_a_block)
    assert not (tmp_path / "out" / "a" / Artefact.SUMMARY).exists()


def test_a_slide_that_is_replaced_after_its_last_block_leaves_nothing(tmp_path: Path) -> None:
    slide, other = draw_tiff(tmp_path / "a.tif", 1), draw_tiff(tmp_path / "other.tif", 2)

    def replace_before_writing(event: Event) -> None:
        if getattr(event, "name", "") == "write":
            os.replace(other, slide)

    with pytest.raises(SlideOpenError, match="its content changed during the run"):
        run_slide(slide, tmp_path / "out", options(), replace_before_writing)
    folder = tmp_path / "out" / "a"
    assert not (folder / Artefact.SUMMARY).exists()
    assert not list(folder.rglob("*.parquet"))

"""A folder of results is of one slide: another is refused, or has its own; the same one is known again."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tifffile
from PIL import Image
from stand_in import MPP, draw_slide
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.cohort.request import CohortOptions
from wsipsm.cohort.run import run_cohort
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.events import BlockDone, Event, ignore_events
from wsipsm.folderlock import LOCK_NAME
from wsipsm.keys import Artefact
from wsipsm.results.folder_names import check_folder_name
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 128, "tile_px": 128, **values})


def drawn(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return draw_slide(path, 200, 160, seed)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def file_times(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items() if name != LOCK_NAME}


def stop_at_a_block(event: Event) -> None:
    if isinstance(event, BlockDone):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a/slide.tiff", "b/slide.tiff"),
        ("a/slide.png", "a/slide.tiff"),
        ("a/slide.ome.tiff", "a/slide.png"),
        ("a/slide.png", "b/deeper/slide.png"),
        ("a/ .png", "b/ .tiff"),
    ],
)
@pytest.mark.parametrize("again", [{}, {"overwrite": True}, {"tile_px": 64}])
def test_two_slides_of_one_name(tmp_path: Path, one: str, two: str, again: dict[str, Any]) -> None:
    out = tmp_path / "out"
    first = run_slide(drawn(tmp_path / one, 1), out, options(), ignore_events)
    kept = contents(Path(first.folder))
    second = drawn(tmp_path / two, 2)
    name = Path(first.folder).name
    with pytest.raises(UsageError, match="holds results of another slide") as caught:
        run_slide(second, out, options(**again), ignore_events, name=name)
    for told in (str(tmp_path / one), str(second), first.folder, "--name", "--out"):
        assert told in str(caught.value)
    assert contents(Path(first.folder)) == kept
    own = run_slide(second, out, options(**again), ignore_events)
    assert re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{6}}", Path(own.folder).name)
    assert Path(own.folder).parent == out
    assert run_slide(second, out, options(**{**again, "overwrite": False}), ignore_events).was_done
    named = run_slide(second, out, options(), ignore_events, name="another")
    assert Path(named.folder) == out / "another"
    assert contents(Path(first.folder)) == kept
    assert run_slide(tmp_path / one, out, options(), ignore_events).was_done


def test_names_that_differ_in_case_alone(tmp_path: Path) -> None:
    """Two folders where the file system tells them apart, else the second is refused."""
    out = tmp_path / "out"
    run_slide(drawn(tmp_path / "a" / "Slide.png", 1), out, options(), ignore_events)
    other = drawn(tmp_path / "b" / "slide.png", 2)
    try:
        run_slide(other, out, options(), ignore_events, name="slide")
    except UsageError:
        assert len(os.listdir(out)) == 1
    else:
        assert sorted(os.listdir(out)) == ["Slide", "slide"]


def test_a_slide_that_was_stopped_keeps_its_folder(tmp_path: Path) -> None:
    one, two = drawn(tmp_path / "a" / "slide.png", 1), drawn(tmp_path / "b" / "slide.png", 2)
    with pytest.raises(KeyboardInterrupt):
        run_slide(one, tmp_path / "out", options(), stop_at_a_block)
    with pytest.raises(UsageError, match="another slide"):
        run_slide(two, tmp_path / "out", options(), ignore_events, name="slide")
    assert Path(run_slide(two, tmp_path / "out", options(), ignore_events).folder).name.startswith("slide-")
    noted = file_times(tmp_path / "out" / "slide")[Artefact.SLIDE]
    assert Path(run_slide(one, tmp_path / "out", options(), ignore_events).folder).name == "slide"
    assert file_times(tmp_path / "out" / "slide")[Artefact.SLIDE] == noted, "what is known is not noted again"
    # Nothing is lost where nothing was made: a name alone holds no folder.
    folder = tmp_path / "new" / "slide"
    (folder / Artefact.SHARDS).mkdir(parents=True)
    (folder / Artefact.SLIDE).write_bytes(orjson.dumps({"source": str(one), "fingerprint": "x"}))
    assert run_slide(two, tmp_path / "new", options(), ignore_events).slide == str(two)


def test_a_slide_that_was_replaced_or_moved_is_the_same_one(tmp_path: Path) -> None:
    out, path = tmp_path / "out", drawn(tmp_path / "a" / "slide.png", 1)
    first = run_slide(path, out, options(), ignore_events)
    drawn(path, 2)
    second = run_slide(path, out, options(), ignore_events)
    assert not second.was_done
    assert second.folder == first.folder
    moved = tmp_path / "b" / "slide.png"
    moved.parent.mkdir()
    path.rename(moved)
    assert run_slide(moved, out, options(), ignore_events).was_done
    # Now the folder is of the new place, where the slide may be replaced again.
    drawn(moved, 3)
    assert not run_slide(moved, out, options(), ignore_events).was_done
    copied = Path(shutil.copy(moved, path))
    assert run_slide(copied, out, options(), ignore_events).was_done


def test_a_finished_folder_is_left_as_it_is(tmp_path: Path) -> None:
    """Looked at again, no file is written anew, not even as the same; done over, each is there again."""
    out, path = tmp_path / "out", drawn(tmp_path / "slide.png", 1)
    folder = Path(run_slide(path, out, options(), ignore_events).folder)
    kept, stamps = contents(folder), file_times(folder)
    assert run_slide(path, out, options(), ignore_events).was_done
    assert file_times(folder) == stamps
    events: list[Event] = []
    assert not run_slide(path, out, options(overwrite=True), events.append).was_done
    assert sum(isinstance(event, BlockDone) for event in events) == 4
    assert contents(folder).keys() == kept.keys()
    assert contents(folder)[Artefact.CELLS] == kept[Artefact.CELLS]


def test_a_link_that_leads_elsewhere_is_another_slide(tmp_path: Path) -> None:
    link = tmp_path / "slide.png"
    link.symlink_to(drawn(tmp_path / "a" / "one.png", 1))
    run_slide(link, tmp_path / "out", options(), ignore_events)
    link.unlink()
    link.symlink_to(drawn(tmp_path / "b" / "two.png", 2))
    with pytest.raises(UsageError, match="another slide"):
        run_slide(link, tmp_path / "out", options(), ignore_events, name="slide")
    assert Path(run_slide(link, tmp_path / "out", options(), ignore_events).folder).name.startswith("slide-")


def test_results_of_a_version_that_noted_no_slide(tmp_path: Path) -> None:
    out, one = tmp_path / "out", drawn(tmp_path / "a" / "slide.png", 1)
    first = run_slide(one, out, options(), ignore_events)
    (Path(first.folder) / Artefact.SLIDE).unlink()
    with pytest.raises(UsageError, match="another slide"):
        run_slide(drawn(tmp_path / "b" / "slide.png", 2), out, options(), ignore_events, name="slide")
    assert run_slide(one, out, options(), ignore_events).was_done


def test_a_cohort_refuses_a_slide_whose_folder_is_anothers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run_slide(drawn(tmp_path / "a" / "slide.png", 1), out, options(), ignore_events)
    kept = contents(Path(first.folder))
    slides = [drawn(tmp_path / "b" / "slide.png", 2), drawn(tmp_path / "b" / "other.png", 3)]
    summary = run_cohort(slides, out, options(), ignore_events, CohortOptions(retry=0))
    assert [row.status for row in summary.rows] == ["failed", "done"]
    assert "another slide" in summary.rows[0].reason
    assert contents(Path(first.folder)) == kept


def test_two_images_of_a_file_need_two_folders(tmp_path: Path) -> None:
    path, out = tmp_path / "slide.tiff", tmp_path / "out"
    for seed in (1, 2):
        page = np.asarray(Image.open(drawn(tmp_path / f"{seed}.png", seed)).convert("RGB"))
        tifffile.imwrite(path, page[: 160 - 10 * seed], photometric="rgb", append=seed > 1)
    first = run_slide(path, out, options(image=1), ignore_events, name="mine")
    kept = contents(Path(first.folder))
    for image, told in ((2, "--image 1"), (None, "--image 1")):
        with pytest.raises(UsageError, match=f"another image of the file .{told}"):
            run_slide(path, out, options(image=image), ignore_events, name="mine")
    assert contents(Path(first.folder)) == kept
    names = [Path(run_slide(path, out, options(image=n), ignore_events).folder).name for n in (None, 1, 2, 1)]
    assert names == ["slide", "slide-image-1", "slide-image-2", "slide-image-1"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a:b", "a ", "x" * 200, "tab\there", "cohort.csv"])
def test_names_that_no_folder_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        check_folder_name(name, "--name")
    path = drawn(tmp_path / "slide.png", 1)
    done = CliRunner().invoke(app, ["run", str(path), "--mpp", "0.5", "--out", str(tmp_path / "out"), "--name", name])
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()

"""A cohort: which slides it means, what a failure costs, and what is not done twice."""

from __future__ import annotations

import csv
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from drawn_dicom import draw_dicom
from PIL import Image
from stand_in import MPP, draw_slide

from wsipsm.cohort import flow
from wsipsm.cohort.discover import CohortSlide, list_slides
from wsipsm.cohort.fetch import Fetcher
from wsipsm.cohort.flow import SlideFlow
from wsipsm.cohort.journal import read_journal
from wsipsm.cohort.run import CohortOptions, run_cohort
from wsipsm.config import RunOptions
from wsipsm.errors import OutputError, SlideOpenError, TooManyFailuresError, UsageError
from wsipsm.events import BlockDone, CohortPlanned, Event, SlideDone, SlideFailed, ignore_events
from wsipsm.executors.serial import SerialExecutor
from wsipsm.executors.task import ExecutorLostError, Outcome
from wsipsm.folderlock import LOCK_NAME
from wsipsm.keys import Artefact


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(root: Path, *sources: Path) -> list[str]:
    return [str(slide.path.relative_to(root)) for slide in list_slides(sources or [root], root / "out")]


def test_folders_are_searched_by_the_rules_of_their_formats(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.svs",
        "a.ome.tif",
        "C.NDPI",
        "notes.txt",
        ".hidden.svs",
        "deep/er/d.png",
        "mirax.mrxs",
        "mirax/Slidedat.ini",
        "mirax/Data0000.dat",
        "mirax/preview.jpg",
        "loose.dcm",
        "image.zarr/0/.zarray",
        "scan.vsi",
        "_scan_/stack1/frame_t.tif",
        "vms/x.vms",
        "vms/x_map.jpg",
        "out/done/overview.png",
        "earlier/case/cells.parquet",
        "earlier/case/overview.png",
    )
    draw_dicom(tmp_path / "series" / "1.dcm", "1.2.3")
    draw_dicom(tmp_path / "series" / "2.dcm", "1.2.3")
    assert found(tmp_path) == [
        "C.NDPI",
        "a.ome.tif",
        "b.svs",
        "deep/er/d.png",
        "image.zarr",
        "loose.dcm",
        "mirax.mrxs",
        "scan.vsi",
        "series",
        "vms/x.vms",
    ]
    assert found(tmp_path, tmp_path / "series") == ["series"]


def test_a_slide_named_twice_is_done_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "b.svs")
    assert found(tmp_path, tmp_path / "b.svs", tmp_path, tmp_path / "." / "a.svs") == ["b.svs", "a.svs"]


@pytest.mark.parametrize("given", [{"roi_class": ("a",)}, {"exclude_class": ("a",)}, {"tma_cores": True}])
def test_choices_about_annotations_need_a_region(tmp_path: Path, given: dict[str, Any]) -> None:
    touch(tmp_path, "a.svs")
    with pytest.raises(UsageError, match=r"--(roi-class|exclude-class|tma-cores): given where no slide has a region"):
        run_cohort([tmp_path / "a.svs"], tmp_path / "out", RunOptions(**given), ignore_events)
    assert not (tmp_path / "out").exists()


def test_slides_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "x/case.svs", "y/case.ndpi", "y/other.svs", "z/CASE.svs")
    ids = [slide.id for slide in list_slides([tmp_path], tmp_path / "out")]
    assert ids[2] == "other"
    assert len({name.lower() for name in ids}) == 4
    assert all(name.lower().startswith("case-") for name in ids if name != "other")
    turned = [tmp_path / "z", tmp_path / "y", tmp_path / "x"]
    assert sorted(slide.id for slide in list_slides(turned, tmp_path / "out")) == sorted(ids)


def test_manifest(tmp_path: Path) -> None:
    touch(tmp_path, "slides/a.svs", "slides/b.svs", "roi.geojson")
    manifest = tmp_path / "cohort.csv"
    manifest.write_text(
        "\ufeffID, Slide ,mpp,model,roi,age\np/1,slides/a.svs,0.25,nuclei-he,roi.geojson,51\n,slides/b.svs,,,,\n,,,,,\n"
    )
    first, second = list_slides([manifest], tmp_path / "out")
    assert (first.id, first.path, first.mpp, first.model) == ("p_1", tmp_path / "slides/a.svs", 0.25, "nuclei-he")
    assert first.roi == tmp_path / "roi.geojson"
    assert (second.id, second.mpp, second.model, second.roi) == ("b", None, None, None)
    manifest.write_text("slide,Image,marker\nslides/a.svs,2,ER\nslides/a.svs,,\nslides/b.svs,03,pgr\n")
    slides = list_slides([manifest], tmp_path / "out")
    assert [(slide.id, slide.image, slide.marker) for slide in slides] == [
        ("a-image-2", 2, "ER"),
        ("a", None, None),
        ("b-image-3", 3, "pgr"),
    ]
    manifest.write_text("slide;mpp\nslides/a.svs;0,25\n")
    assert [slide.mpp for slide in list_slides([manifest], tmp_path / "out")] == [0.25]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path,mpp\na.svs,1\n", "columns path, mpp; a column 'slide' is needed"),
        ("", "a column 'slide' is needed"),
        ("slide,mpp\na.svs,fine\n", "line 2: mpp 'fine'"),
        ("slide,image\na.svs,second\n", "line 2: image 'second'; the number of an image"),
        ("slide,image\na.svs,0\n", "line 2: image '0'"),
        ("slide,image\na.svs,-1\n", "line 2: image '-1'"),
        ("slide,image\na.svs,1.5\n", "line 2: image '1.5'"),
        ("slide,image\na.svs,\u0662\n", "line 2: image"),
        ("slide,marker\na.svs,=ER\n", "line 2: marker '=ER'"),
        ("slide,image,group\na.svs,1,x\na.svs,1,y\n", "contradict each other"),
        ("slide,id\na.svs,x\nb.svs,X\n", "id 'x' occurs 2 times"),
        ("slide\n", "no slide found"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, content: str, told: str) -> None:
    manifest = tmp_path / "cohort.csv"
    manifest.write_text(content)
    with pytest.raises(UsageError, match=told):
        list_slides([manifest], tmp_path / "out")


def test_absent_manifest_and_empty_folder(tmp_path: Path) -> None:
    for source in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(UsageError):
            list_slides([source], tmp_path / "out")


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 128, **values})


ONCE = CohortOptions(retry=0, skip_bad=True)
AT_ONCE = CohortOptions(retry=1, pauses_s=(0.0,), skip_bad=True)


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "cohort.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def told(out: Path) -> list[tuple[str, str]]:
    return [(line.what, Path(line.slide).name) for line in read_journal(out)]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    folder = tmp_path / "cohort"
    folder.mkdir()
    for number in (1, 3):
        draw_slide(folder / f"case-{number}.png", 300, 280, seed=number)
    (folder / "case-2.svs").write_bytes(b"no slide, whatever its name says")
    return folder


@pytest.mark.usefixtures("stand_in")
def test_a_failure_is_a_row_and_the_rest_finish(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    events: list[Event] = []
    summary = run_cohort([cohort], out, options(), events.append, ONCE)
    assert (summary.n_slides, summary.n_done, summary.n_failed, summary.exit_code) == (3, 2, 1, 5)
    rows = rows_of(out)
    assert [(row["id"], row["status"]) for row in rows] == [
        ("case-1", "done"),
        ("case-2", "failed"),
        ("case-3", "done"),
    ]
    assert "a text file" in rows[1]["reason"]
    assert rows[1]["n_nuclei"] == ""
    for row in (rows[0], rows[2]):
        assert int(row["n_nuclei"]) == int(row["n_positive"]) + int(row["n_negative"]) > 20
        assert float(row["low"]) < float(row["labelling_index"]) < float(row["high"])
        assert (out / row["folder"] / Artefact.CELLS).is_file()
    assert summary.failures == [(str(cohort / "case-2.svs"), rows[1]["reason"])]
    planned = next(event for event in events if isinstance(event, CohortPlanned))
    assert [Path(name).name for name in planned.slides] == ["case-1.png", "case-2.svs", "case-3.png"]
    ends = [type(event) for event in events if isinstance(event, SlideDone | SlideFailed)]
    assert ends == [SlideFailed, SlideDone, SlideDone], "what cannot be used is told before work starts"
    assert summary.rows[0].id == "case-1"
    assert pq.read_table(out / "cohort.parquet").column("n_nuclei").to_pylist()[1] is None

    # Started again, finished slides are left alone and the table is the same.
    table = (out / "cohort.csv").read_bytes()
    events.clear()
    again = run_cohort([cohort], out, options(), events.append, ONCE)
    assert not any(isinstance(event, BlockDone) for event in events)
    assert again.n_done == 2
    assert (out / "cohort.csv").read_bytes() == table
    assert [line for line in told(out) if line[0] in ("done", "failed", "done before")] == [
        ("failed", "case-2.svs"),
        ("done", "case-1.png"),
        ("done", "case-3.png"),
        ("failed", "case-2.svs"),
        ("done before", "case-1.png"),
        ("done before", "case-3.png"),
    ]


@pytest.mark.usefixtures("stand_in")
def test_stopped_and_started_again(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    n_done = 0

    def stop_in_the_last_slide(event: Event) -> None:
        nonlocal n_done
        n_done += isinstance(event, BlockDone)
        if n_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cohort([cohort], out, options(), stop_in_the_last_slide, ONCE)
    assert [row["status"] for row in rows_of(out)] == ["done", "failed", "waiting"]
    events: list[Event] = []
    run_cohort([cohort], out, options(), events.append, ONCE)
    assert [row["status"] for row in rows_of(out)] == ["done", "failed", "done"]
    assert sum(isinstance(event, BlockDone) for event in events) == 3


@pytest.mark.usefixtures("stand_in")
def test_a_manifest_gives_each_slide_its_own_options(cohort: Path, tmp_path: Path) -> None:
    manifest = cohort / "cohort.csv"
    manifest.write_text("id,slide,mpp\nfine,case-1.png,0.5\nabsurd,case-3.png,40\n")
    summary = run_cohort([manifest], tmp_path / "out", options(mpp=None), ignore_events, ONCE)
    assert [(row.id, row.status) for row in summary.rows] == [("fine", "done"), ("absurd", "failed")]
    assert "40" in summary.rows[1].reason


@pytest.mark.usefixtures("stand_in")
def test_a_bug_in_one_slide_is_a_row_too(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = flow.prepare_slide

    def fragile(path: str, *args: Any) -> Any:
        if path.endswith("case-1.png"):
            raise ZeroDivisionError("a bug")
        return real(path, *args)

    monkeypatch.setattr(flow, "prepare_slide", fragile)
    summary = run_cohort([cohort], tmp_path / "out", options(), ignore_events, ONCE)
    assert [row.status for row in summary.rows] == ["failed", "failed", "done"]
    assert summary.rows[0].reason == "unexpected ZeroDivisionError: a bug"


@pytest.mark.usefixtures("stand_in")
def test_what_failed_is_tried_again_after_all_others(cohort: Path, tmp_path: Path) -> None:
    """A slide that comes back, as one of a share that was away does."""
    slide, away, events = cohort / "case-1.png", cohort / "away", list[Event]()

    def bring_back(event: Event) -> None:
        events.append(event)
        if isinstance(event, CohortPlanned):
            slide.rename(away)
        if isinstance(event, SlideDone) and away.exists():
            away.rename(slide)

    summary = run_cohort([cohort], tmp_path / "out", options(), bring_back, AT_ONCE)
    assert [(row.status, row.attempts) for row in summary.rows] == [("done", 2), ("failed", 0), ("done", 1)]
    assert ("trying again", "") in told(tmp_path / "out")
    assert [event.slide for event in events if isinstance(event, SlideDone)] == [str(cohort / "case-3.png"), str(slide)]


@pytest.mark.usefixtures("stand_in")
def test_too_many_failures_stop_the_cohort(cohort: Path, tmp_path: Path) -> None:
    few = CohortOptions(retry=0, max_failures=0, skip_bad=True)
    with pytest.raises(TooManyFailuresError, match=r"1 slides failed, .*case-2\.svs .*--max-failures") as caught:
        run_cohort([cohort], tmp_path / "out", options(), ignore_events, few)
    assert caught.value.exit_code == 5
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["done", "failed", "waiting"]


@pytest.mark.usefixtures("stand_in")
def test_what_no_slide_can_help_stops_the_cohort(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--scheduler"):
        run_cohort([cohort], tmp_path / "a", options(scheduler="nonsense"), ignore_events, ONCE)

    def lose(*_: Any) -> Any:
        raise ExecutorLostError("gone")

    monkeypatch.setattr(flow, "prepare_slide", lose)
    with pytest.raises(ExecutorLostError):
        run_cohort([cohort], tmp_path / "b", options(), ignore_events, ONCE)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError):
        run_cohort([cohort], tmp_path / "file", options(), ignore_events)


@pytest.mark.usefixtures("stand_in")
def test_two_commands_on_one_folder(cohort: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    def start_another(event: Event) -> None:
        if isinstance(event, CohortPlanned) and not refused:
            with pytest.raises(UsageError) as caught:
                run_cohort([cohort], tmp_path / "out", options(), ignore_events, ONCE)
            refused.append(str(caught.value))

    run_cohort([cohort], tmp_path / "out", options(), start_another, ONCE)
    assert f"process {os.getpid()} on {socket.gethostname()} works on it" in refused[0]
    assert not (tmp_path / "out" / LOCK_NAME).exists()


class Recording:
    """Runs tasks in this process as a pool of some workers would: as many in flight, done in turn."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self.started: list[flow.Task] = []

    def run(self, function: Any, tasks: Any) -> Any:
        flying: list[flow.Task] = []
        while True:
            while len(flying) < 2 * self.n_workers + 2 and (task := tasks.take()) is not None:
                self.started.append(task)
                flying.append(task)
            if not flying:
                return
            task = flying.pop(0)
            yield Outcome(task, result=function(task))


@pytest.mark.usefixtures("stand_in")
def test_slides_overlap_and_few_are_open(tmp_path: Path) -> None:
    for number in range(12):
        draw_slide(tmp_path / f"{number:02d}.png", 600 if number % 4 == 0 else 200, 200, seed=number)
    slides = list(enumerate(list_slides([tmp_path], tmp_path / "out")))
    pool = Recording(n_workers=1)
    runs = SlideFlow(slides, tmp_path / "out", lambda slide: options(), pool, ignore_events, Fetcher(None))  # type: ignore[arg-type]
    ended, most_open = [], 0
    for end in runs.run():
        assert end.summary is not None
        ended.append(end.slide)
        begun = {task.slide for task in pool.started}
        most_open = max(most_open, len(begun) - len(ended) + 1)
    assert sorted(ended) == list(range(12))
    assert 2 <= most_open <= 4  # what two workers' worth of tasks may hold, however many slides there are
    kinds = [type(task).__name__ for task in pool.started]
    assert "PrepareTask" in kinds[kinds.index("BlockTask") : len(kinds) - kinds[::-1].index("BlockTask")]


@pytest.mark.usefixtures("stand_in")
def test_every_slide_that_cannot_be_used_is_told_before_work_starts(cohort: Path, tmp_path: Path) -> None:
    manifest = cohort / "cohort.csv"
    manifest.write_text("slide,mpp,stage\ncase-1.png,0.5,II\ncase-2.svs,0.5,\nabsent.svs,0.5,\ncase-3.png,40,\n")
    events: list[Event] = []
    with pytest.raises(UsageError) as caught:
        run_cohort([manifest], tmp_path / "out", options(mpp=None), events.append)
    told_all = str(caught.value)
    assert "3 of 4 slides cannot be used" in told_all
    for name in ("case-2.svs", "absent.svs", "40", "--skip-bad"):
        assert name in told_all
    assert not any(isinstance(event, CohortPlanned | BlockDone) for event in events)
    summary = run_cohort([manifest], tmp_path / "out", options(mpp=None), ignore_events, ONCE)
    assert [row.status for row in summary.rows] == ["done", "failed", "failed", "failed"]
    assert rows_of(tmp_path / "out")[0]["stage"] == "II"


@pytest.mark.usefixtures("stand_in")
def test_slides_by_address(cohort: Path, tmp_path: Path) -> None:
    """A cache that stands for the server: what it holds is fetched, what it lacks fails alone."""
    held: list[str] = []

    class Cache:
        @contextmanager
        def fetch(self, url: str) -> Iterator[Path]:
            name = url.rpartition("/")[2]
            if name == "absent.png":
                raise SlideOpenError(f"{url}: the server has no such slide")
            held.append(name)
            yield cohort / name
            held.remove(name)

        def stop(self) -> None:
            """Nothing runs on."""

    slides = [
        (number, CohortSlide(Path(name), id=name[:-4], url=f"https://host/{name}"))
        for number, name in enumerate(["case-1.png", "absent.png", "case-3.png"])
    ]
    with Fetcher(Cache()) as fetcher:  # type: ignore[arg-type]
        runs = SlideFlow(slides, tmp_path / "out", lambda slide: options(), SerialExecutor(), ignore_events, fetcher)
        ends = {end.slide: end for end in runs.run()}
    assert held == []
    assert [ends[n].summary is not None for n in range(3)] == [True, False, True]
    assert "no such slide" in ends[1].reason


def test_images_of_a_file_are_slides_of_their_own(tmp_path: Path) -> None:
    path, out = tmp_path / "slide.tiff", tmp_path / "out"
    for seed, height in ((1, 160), (2, 150)):
        page = np.asarray(Image.open(draw_slide(tmp_path / f"{seed}.png", 200, 160, seed)).convert("RGB"))
        tifffile.imwrite(path, page[:height], photometric="rgb", append=seed > 1)
    first = run_cohort([path], out, options(image=1), ignore_events, ONCE)
    kept = (out / "slide-image-1" / "cells.parquet").read_bytes()
    second = run_cohort([path], out, options(image=2), ignore_events, ONCE)
    assert [row.id for row in (*first.rows, *second.rows)] == ["slide-image-1", "slide-image-2"]
    assert (out / "slide-image-1" / "cells.parquet").read_bytes() == kept
    rows = tmp_path / "cohort.csv"
    rows.write_text("slide,image,marker\nslide.tiff,1,ER\nslide.tiff,2,\nslide.tiff,,\n")
    both = run_cohort([rows], out, options(), ignore_events, CohortOptions(retry=0, stain_from="batch"))
    assert [(row.id, row.status, row.marker) for row in both.rows] == [
        ("slide-image-1", "done", "ER"),
        ("slide-image-2", "done", "Ki-67"),
        ("slide", "done", "Ki-67"),
    ]
    assert both.rows[0].n_nuclei != both.rows[1].n_nuclei
    # Without a number the larger one is the slide.
    assert both.rows[2].n_nuclei == both.rows[0].n_nuclei

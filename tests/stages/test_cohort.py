"""A study: which slides it means, what a failure costs, and what is not done twice."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from stand_in import MPP, draw_slide

from wsipsm.config import RunOptions
from wsipsm.engine.events import BlockDone, CohortPlanned, Event, SlideDone, SlideFailed, ignore_events
from wsipsm.engine.task import ExecutorLostError
from wsipsm.errors import OutputError, UsageError
from wsipsm.keys import Artefact
from wsipsm.stages import cohort
from wsipsm.stages.cohort import run_cohort
from wsipsm.stages.discover import list_slides


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
        "series/1.dcm",
        "series/2.dcm",
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
    manifest = tmp_path / "study.csv"
    manifest.write_text(
        "\ufeffID, Slide ,mpp,model,roi,age\np/1,slides/a.svs,0.25,nuclei-he,roi.geojson,51\n,slides/b.svs,,,,\n,,,,,\n"
    )
    first, second = list_slides([manifest], tmp_path / "out")
    assert (first.id, first.path, first.mpp, first.model) == ("p_1", tmp_path / "slides/a.svs", 0.25, "nuclei-he")
    assert first.roi == tmp_path / "roi.geojson"
    assert (second.id, second.mpp, second.model, second.roi) == ("b", None, None, None)
    manifest.write_text("slide;mpp\nslides/a.svs;0,25\n")
    assert [slide.mpp for slide in list_slides([manifest], tmp_path / "out")] == [0.25]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path,mpp\na.svs,1\n", "columns path, mpp; a column 'slide' is needed"),
        ("", "a column 'slide' is needed"),
        ("slide,mpp\na.svs,fine\n", "line 2: mpp 'fine'"),
        ("slide,id\na.svs,x\nb.svs,X\n", "id 'x' occurs 2 times"),
        ("slide\n", "no slide found"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, content: str, told: str) -> None:
    manifest = tmp_path / "study.csv"
    manifest.write_text(content)
    with pytest.raises(UsageError, match=told):
        list_slides([manifest], tmp_path / "out")


def test_absent_manifest_and_empty_folder(tmp_path: Path) -> None:
    for source in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(UsageError):
            list_slides([source], tmp_path / "out")


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 128, **values})


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "cohort.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    for number in (1, 3):
        draw_slide(folder / f"case-{number}.png", 300, 280, seed=number)
    (folder / "case-2.svs").write_bytes(b"no slide, whatever its name says")
    return folder


@pytest.mark.usefixtures("stand_in")
def test_a_failure_is_a_row_and_the_rest_finish(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    events: list[Event] = []
    summary = run_cohort([study], out, options(), events.append)
    assert (summary.n_slides, summary.n_done, summary.n_failed, summary.exit_code) == (3, 2, 1, 5)
    rows = rows_of(out)
    assert [(row["id"], row["status"]) for row in rows] == [
        ("case-1", "done"),
        ("case-2", "failed"),
        ("case-3", "done"),
    ]
    assert "no reader opens it" in rows[1]["reason"]
    assert rows[1]["n_nuclei"] == ""
    for row in (rows[0], rows[2]):
        assert int(row["n_nuclei"]) == int(row["n_positive"]) + int(row["n_negative"]) > 20
        assert float(row["low"]) < float(row["labelling_index"]) < float(row["high"])
        assert (out / row["folder"] / Artefact.CELLS).is_file()
    assert summary.failures == [(str(study / "case-2.svs"), rows[1]["reason"])]
    assert isinstance(events[0], CohortPlanned)
    assert [type(event) for event in events if isinstance(event, SlideDone | SlideFailed)] == [
        SlideDone,
        SlideFailed,
        SlideDone,
    ]
    assert summary.to_dict()["slides"][0]["id"] == "case-1"

    # Started again, finished slides are left alone and the table is the same.
    table = (out / "cohort.csv").read_bytes()
    events.clear()
    again = run_cohort([study], out, options(), events.append)
    assert not any(isinstance(event, BlockDone) for event in events)
    assert again.n_done == 2
    assert (out / "cohort.csv").read_bytes() == table


@pytest.mark.usefixtures("stand_in")
def test_stopped_and_started_again(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    n_done = 0

    def stop_in_the_last_slide(event: Event) -> None:
        nonlocal n_done
        n_done += isinstance(event, BlockDone)
        if n_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cohort([study], out, options(), stop_in_the_last_slide)
    assert [row["status"] for row in rows_of(out)] == ["done", "failed", "waiting"]
    events: list[Event] = []
    run_cohort([study], out, options(), events.append)
    assert [row["status"] for row in rows_of(out)] == ["done", "failed", "done"]
    assert sum(isinstance(event, BlockDone) for event in events) == 3


@pytest.mark.usefixtures("stand_in")
def test_a_manifest_gives_each_slide_its_own_options(study: Path, tmp_path: Path) -> None:
    manifest = study / "study.csv"
    manifest.write_text("id,slide,mpp\nfine,case-1.png,0.5\nabsurd,case-3.png,40\n")
    summary = run_cohort([manifest], tmp_path / "out", options(mpp=None), ignore_events)
    assert [(row.id, row.status) for row in summary.rows] == [("fine", "done"), ("absurd", "failed")]
    assert "40" in summary.rows[1].reason


@pytest.mark.usefixtures("stand_in")
def test_a_bug_in_one_slide_is_a_row_too(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cohort.run_slide

    def fragile(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "case-1.png":
            raise ZeroDivisionError("a bug")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(cohort, "run_slide", fragile)
    summary = run_cohort([study], tmp_path / "out", options(), ignore_events)
    assert [row.status for row in summary.rows] == ["failed", "failed", "done"]
    assert summary.rows[0].reason == "unexpected ZeroDivisionError: a bug"


@pytest.mark.usefixtures("stand_in")
def test_what_no_slide_can_help_stops_the_study(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--scheduler"):
        run_cohort([study], tmp_path / "a", options(scheduler="nonsense"), ignore_events)

    def lose(*_: Any, **__: Any) -> Any:
        raise ExecutorLostError("gone")

    monkeypatch.setattr(cohort, "run_slide", lose)
    with pytest.raises(ExecutorLostError):
        run_cohort([study], tmp_path / "b", options(), ignore_events)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError):
        run_cohort([study], tmp_path / "file", options(), ignore_events)

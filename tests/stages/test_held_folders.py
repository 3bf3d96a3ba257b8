"""Every command that writes into a folder of results holds it; a second one is refused, and nothing stays behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import shapely
from stand_in import MPP, draw_slide

from wsipsm.cohort.request import CohortOptions
from wsipsm.cohort.run import run_cohort
from wsipsm.config import RunOptions
from wsipsm.errors import BudgetError, SlideOpenError, UsageError
from wsipsm.events import BlockDone, Event, RunPlanned, StageStarted, ignore_events
from wsipsm.finished.rescore import score_result
from wsipsm.folderlock import LOCK_NAME, hold_folder
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")
HOLDER = rf"process {os.getpid()} on {socket.gethostname()}"


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 128, "tile_px": 128, **values})


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return draw_slide(tmp_path / "case.png", 400, 300, seed=5)


def write_roi(path: Path) -> Path:
    path.write_bytes(orjson.dumps(shapely.geometry.mapping(shapely.box(20, 20, 200, 200))))
    return path


def once_at(kind: type, act: Callable[[], object]) -> tuple[Callable[[Event], None], list[str]]:
    """Listener that tries another command at the first event of a kind, and what that was told."""
    refused: list[str] = []

    def listener(event: Event) -> None:
        if isinstance(event, kind) and not refused:
            with pytest.raises(UsageError) as caught:
                act()
            refused.append(str(caught.value))

    return listener, refused


@pytest.mark.parametrize("kind", [RunPlanned, BlockDone, StageStarted])
def test_two_runs_with_different_regions(slide: Path, tmp_path: Path, kind: type) -> None:
    out, roi = tmp_path / "out", write_roi(tmp_path / "roi.geojson")
    listener, refused = once_at(kind, lambda: run_slide(slide, out, options(roi=roi), ignore_events))
    first = run_slide(slide, out, options(), listener)
    assert HOLDER in refused[0]
    assert "one command at a time" in refused[0]
    assert first.n_nuclei > 20
    assert not (out / "case" / LOCK_NAME).exists()
    assert run_slide(slide, out, options(roi=roi), ignore_events).n_nuclei < first.n_nuclei


def test_runs_of_different_slides_into_one_folder(slide: Path, tmp_path: Path) -> None:
    other, out = draw_slide(tmp_path / "other.png", 200, 200), tmp_path / "out"
    inner = []

    def listener(event: Event) -> None:
        if isinstance(event, BlockDone) and not inner:
            inner.append(run_slide(other, out, options(), ignore_events))

    assert run_slide(slide, out, options(), listener).n_nuclei
    assert inner[0].n_nuclei


def test_a_score_during_a_run_and_a_run_during_a_score(slide: Path, tmp_path: Path) -> None:
    folder = Path(run_slide(slide, tmp_path, options(), ignore_events).folder)
    listener, refused = once_at(BlockDone, lambda: score_result(folder, dab_cut_od=0.3))
    run_slide(slide, tmp_path, options(overwrite=True), listener)
    assert HOLDER in refused[0]
    with hold_folder(folder):
        for act in (lambda: score_result(folder), lambda: run_slide(slide, tmp_path, options(), ignore_events)):
            with pytest.raises(UsageError, match=HOLDER):
                act()


def test_a_run_and_a_score_of_a_slide_that_a_cohort_works_on(slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_slide(slide, out, options(tile_px=64), ignore_events)
    listener, refused = once_at(BlockDone, lambda: run_slide(slide, out, options(), ignore_events))
    scoring, score_refused = once_at(RunPlanned, lambda: score_result(out / "case"))

    def both(event: Event) -> None:
        listener(event)
        scoring(event)

    summary = run_cohort([slide], out, options(), both, CohortOptions(retry=0))
    assert summary.n_done == 1
    for told in (*refused, *score_refused):
        assert f"{HOLDER} works on it, for the cohort in" in told
    assert not list(out.rglob(LOCK_NAME))


def test_a_cohort_fails_the_slide_that_a_run_works_on_and_does_it_later(slide: Path, tmp_path: Path) -> None:
    other, out = draw_slide(tmp_path / "other.png", 200, 200), tmp_path / "out"
    with hold_folder(out / "case"):
        summary = run_cohort([slide, other], out, options(), ignore_events, CohortOptions(retry=0))
        assert [row.status for row in summary.rows] == ["failed", "done"]
        assert HOLDER in summary.rows[0].reason
    again = run_cohort([slide, other], out, options(), ignore_events, CohortOptions(retry=0))
    assert [row.status for row in again.rows] == ["done", "done"]
    assert not list(out.rglob(LOCK_NAME))


def test_what_a_killed_command_left_is_taken_over(slide: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "case"
    folder.mkdir(parents=True)
    killed = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 1, "beat": 0}
    (folder / LOCK_NAME).write_bytes(orjson.dumps(killed))
    assert run_slide(slide, tmp_path / "out", options(), ignore_events).n_nuclei
    (folder / LOCK_NAME).write_bytes(orjson.dumps({**killed, "in_study": True}))
    assert score_result(folder).score.index.n_scored
    assert not (folder / LOCK_NAME).exists()


def test_a_run_that_makes_nothing_leaves_nothing(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "deep" / "out"
    with pytest.raises(SlideOpenError):
        run_slide(tmp_path / "absent.svs", out, options(), ignore_events)
    with pytest.raises(UsageError):
        run_slide(slide, out, options(roi=tmp_path / "absent.geojson"), ignore_events)
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(UsageError):
        score_result(tmp_path)
    monkeypatch.setattr("wsipsm.stages.segment.available_bytes", lambda: 1)
    with pytest.raises(BudgetError):
        run_slide(slide, out, options(), ignore_events)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, OSError])
def test_a_run_that_is_stopped_lets_the_folder_go(slide: Path, tmp_path: Path, stop: type[BaseException]) -> None:
    def listener(event: Event) -> None:
        if isinstance(event, BlockDone):
            raise stop

    with pytest.raises(stop):
        run_slide(slide, tmp_path / "out", options(), listener)
    assert not list((tmp_path / "out").rglob(LOCK_NAME))
    assert run_slide(slide, tmp_path / "out", options(), ignore_events).n_nuclei

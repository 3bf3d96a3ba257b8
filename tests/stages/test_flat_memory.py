"""Memory of client and scheduler does not grow with a cohort but for its rows."""

from __future__ import annotations

import gc
import pickle
import shutil
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from stand_in import MPP, draw_slide

import wsipsm.cohort.flow
import wsipsm.cohort.run
import wsipsm.executors.dask
from wsipsm.cohort.run import run_cohort
from wsipsm.config import RunOptions
from wsipsm.events import BlockReport, ignore_events
from wsipsm.executors.dask import DaskExecutor
from wsipsm.stages.block import segment_block
from wsipsm.stages.finish import finish_slide
from wsipsm.stages.prepare import PreparedSlide, prepare_slide
from wsipsm.stages.segment import Segmented

BYTES_A_SLIDE = 32 * 1024
"""A row and its slide are 4 KiB; with table and page of the cohort, as they are written at its end, it is 17 KiB."""
OPTIONS = RunOptions(mpp=MPP, workers=0, block_px=64, tile_px=64)


def replayed_steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every slide be the copy of one that was done, as it would come back from a worker."""
    prepared = prepare_slide(draw_slide(folder / "one.png", 200, 200), folder / "out", OPTIONS, "one")
    assert isinstance(prepared, PreparedSlide)
    reports = {block.index: segment_block(prepared.plan.job, block) for block in prepared.plan.blocks}
    before, after = pickle.dumps(prepared), pickle.dumps(finish_slide(prepared, Segmented(reports), OPTIONS))
    kept = {index: pickle.dumps(report) for index, report in reports.items()}

    def report_block(job: Any, block: Any) -> BlockReport:
        report: BlockReport = pickle.loads(kept[block.index])
        return report

    monkeypatch.setattr(wsipsm.cohort.flow, "prepare_slide", lambda *_: pickle.loads(before))
    monkeypatch.setattr(wsipsm.cohort.flow, "segment_block", report_block)
    monkeypatch.setattr(wsipsm.cohort.flow, "finish_slide", lambda *_: pickle.loads(after))
    monkeypatch.setattr(wsipsm.cohort.run, "check_slides", lambda *_: [])


def peak_of(folder: Path, n_slides: int) -> int:
    cohort = folder / f"cohort-{n_slides}"
    cohort.mkdir()
    for number in range(n_slides):
        (cohort / f"{number:04d}.png").write_bytes(b"%d" % number)
    out = folder / f"out-{n_slides}"
    shutil.copytree(folder / "out" / "one", out / "one")  # the results that every slide names
    gc.collect()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    assert run_cohort([cohort], out, OPTIONS, ignore_events).n_done == n_slides
    return tracemalloc.get_traced_memory()[1] - before


@pytest.mark.usefixtures("stand_in")
def test_a_slide_more_costs_the_client_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed_steps(tmp_path, monkeypatch)
    tracemalloc.start()
    try:
        peak_of(tmp_path, 5)  # what is loaded once
        few, many = peak_of(tmp_path, 10), peak_of(tmp_path, 100)
    finally:
        tracemalloc.stop()
    assert (many - few) / 90 < BYTES_A_SLIDE


def double(number: int) -> int:
    return 2 * number


def n_remembered(dask_scheduler: Any) -> int:
    """Entries that a scheduler keeps of submissions that ended."""
    spans = dask_scheduler.extensions["spans"].spans.values()
    return sum(len(span.metadata["collections"]) for span in spans if span.metadata)


def n_held(dask_scheduler: Any) -> int:
    """Tasks that a scheduler holds."""
    return len(dask_scheduler.tasks)


def test_scheduler_and_client_forget_tasks_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsipsm.executors.dask, "_TIDY_EVERY", 20)
    with DaskExecutor(n_workers=1) as executor:
        assert sum(outcome.result or 0 for outcome in executor.run(double, range(1, 96))) == 95 * 96
        assert executor._client.run_on_scheduler(n_remembered) <= 20
        assert len(executor._client.scheduler_comm.recent_message_log) <= 10
        deadline = time.monotonic() + 30
        while executor._client.run_on_scheduler(n_held):  # the last word of the client may be on its way
            assert time.monotonic() < deadline
            time.sleep(0.05)

"""A cohort's folder tells how far it is, while it runs and when nothing does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stand_in import MPP, draw_slide
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.cohort.run import CohortOptions, run_cohort
from wsipsm.cohort.status import CohortStatus, RunningSlide, read_status
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.events import BlockDone, Event, ignore_events


@pytest.mark.usefixtures("stand_in")
def test_while_it_runs_and_after_it_was_stopped(tmp_path: Path) -> None:
    cohort, out = tmp_path / "cohort", tmp_path / "out"
    cohort.mkdir()
    for number in range(3):
        draw_slide(cohort / f"{number}.png", 300, 280, seed=number)
    (cohort / "1.png").write_bytes(b"no image")
    seen: list[CohortStatus] = []

    def look_then_stop(event: Event) -> None:
        if isinstance(event, BlockDone) and event.slide.endswith("2.png"):
            seen.append(read_status(out))
            if len(seen) == 2:
                raise KeyboardInterrupt

    once = CohortOptions(retry=0, skip_bad=True)
    options = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128)
    with pytest.raises(KeyboardInterrupt):
        run_cohort([cohort], out, options, look_then_stop, once)
    assert f"process {os.getpid()}" in seen[0].holder
    assert [status.running for status in seen] == [(RunningSlide("2", 1, 4),), (RunningSlide("2", 2, 4),)]
    stopped = read_status(out)
    assert stopped.holder == ""
    assert stopped.n_by_status == {"done": 1, "failed": 1, "waiting": 1}
    told = CliRunner().invoke(app, ["status", str(out)]).output
    assert "3 slides: 1 done, 1 failed, 1 waiting" in told
    assert "running: 2: 2 of 4 blocks" in told
    assert "the same command continues it" in told

    run_cohort([cohort], out, options, ignore_events, once)
    ended = read_status(out)
    assert (ended.n_by_status, ended.running, ended.n_starts) == ({"done": 2, "failed": 1}, (), 2)
    assert ended.failures[0][0] == str(cohort / "1.png")


def test_a_folder_without_a_cohort(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no cohort\.parquet in it"):
        read_status(tmp_path)
    (tmp_path / "cohort.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(UsageError, match="cannot be read"):
        read_status(tmp_path)

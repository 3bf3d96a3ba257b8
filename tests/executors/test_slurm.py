"""Workers as jobs: what is asked of SLURM, and a cohort on jobs that this machine runs in its place."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from pathlib import Path

import pytest
from in_jobs import code, kill_own_process_once, where

from wsipsm.errors import UsageError
from wsipsm.executors.slurm import SlurmProfile, opened_slurm, read_slurm_profile
from wsipsm.executors.task import Outcome
from wsipsm.executors.workers import LOST

pytest.importorskip("dask_jobqueue", reason="the extra 'slurm' is not installed")

SBATCH = """#!/bin/sh
cp "$1" "{folder}/job.$$.sh"
setsid sh "{folder}/job.$$.sh" >"{folder}/job.$$.log" 2>&1 </dev/null &
echo $! >"{folder}/job.$$.pid"
echo "Submitted batch job $$"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill -- -$(cat "{folder}/job.$job.pid"); touch "{folder}/job.$job.cancelled"; done
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's commands, which start each job on this machine at once."""
    folder = tmp_path / "queue"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        script = folder / name
        script.write_text(text.format(folder=folder))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return folder


PROLOGUE = ["export SAID_BY_PROLOGUE=yes", f"export PYTHONPATH={shlex.quote(str(Path(__file__).parent))}"]


def profile(**values: object) -> SlurmProfile:
    given = {"jobs": 1, "workers_per_job": 2, "memory": "4GB", "interface": "lo", "wait_s": 120.0}
    return SlurmProfile.model_validate({**given, **values})


@pytest.mark.slow
def test_tasks_run_in_jobs_that_are_cancelled_at_the_end(queue: Path) -> None:
    asked = profile(queue="night", account="lab", directives=["--gres=gpu:1"], prologue=PROLOGUE)
    with opened_slurm(asked, code) as executor:
        assert executor.address is not None
        assert executor.address.startswith("tls://127.0.0.1")
        outcomes: list[Outcome[int, tuple[int, str | None]]] = list(executor.run(where, range(20)))
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    assert sorted(outcome.result for outcome in outcomes if outcome.result) == [(k * k, "yes") for k in range(20)]
    (script,) = queue.glob("job.*.sh")
    lines = script.read_text()
    for wanted in ("#SBATCH -p night", "#SBATCH -A lab", "#SBATCH --gres=gpu:1", "#SBATCH --cpus-per-task=2"):
        assert wanted in lines
    assert sys.executable in lines
    assert list(queue.glob("job.*.cancelled"))
    # Their keys went with them.
    assert not list(queue.parent.glob(".dask-jobqueue*"))


@pytest.mark.slow
def test_a_killed_worker_of_a_job_is_told_and_what_it_had_is_done(queue: Path) -> None:
    told: list[tuple[str, str]] = []
    trace = str(queue / "killed")
    with opened_slurm(profile(prologue=PROLOGUE), code, lambda what, reason: told.append((what, reason))) as executor:
        outcomes = list(executor.run(kill_own_process_once, [trace] * 30))
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    assert len(outcomes) == 30
    assert [what for what, _ in told] == [LOST]
    assert "tls://127.0.0.1" in told[0][1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jobs = 1\nworkers_per_job = 2\n", "memory"),
        ("jobs = 0\nworkers_per_job = 2\nmemory = '1GB'\n", "jobs = 0"),
        ("jobs = 1\nworkers = 2\n", "workers"),
        ("jobs = ", "valid TOML is needed"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "jobs.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"jobs\.toml") as caught:
        read_slurm_profile(path)
    assert told in str(caught.value)


def test_an_absent_profile_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--slurm .*absent.toml: cannot be read"):
        read_slurm_profile(tmp_path / "absent.toml")

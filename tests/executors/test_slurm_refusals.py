"""SLURM that is not there, refuses jobs, or whose jobs die at once: its own words, soon, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from in_jobs import code

from wsipsm.errors import UsageError
from wsipsm.executors.slurm import SlurmProfile, opened_slurm

pytest.importorskip("dask_jobqueue", reason="the extra 'slurm' is not installed")

REFUSES = """#!/bin/sh
echo "sbatch: error: Batch job submission failed: Invalid account \\033[31mor partition" >&2
exit 1
"""
TAKES = """#!/bin/sh
echo $$ >>"{folder}/jobs"
echo "Submitted batch job $$"
"""
DIES = """#!/bin/sh
log=$(sed -n 's/^#SBATCH -e //p' "$1" | sed 's/%J/7/')
echo "slurmstepd: error: Detected 1 oom_kill event" >"$log"
echo "Submitted batch job 7"
"""
TALKS = "#!/bin/sh\necho 'all queues are closed for the night'\n"
TAKES_SOME = """#!/bin/sh
if [ -e "{folder}/jobs" ]; then echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; fi
echo 1 >"{folder}/jobs"; echo "Submitted batch job 1"
"""
PENDING = "#!/bin/sh\necho PENDING\n"
EMPTY = "#!/bin/sh\nexit 0\n"
UNKNOWN = "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n"
CANCELS = '#!/bin/sh\necho "$@" >>"{folder}/cancelled"\n'


def install(folder: Path, **commands: str) -> Path:
    """Put commands of SLURM into a folder; gives the folder."""
    folder.mkdir(exist_ok=True)
    for name, text in commands.items():
        script = folder / name
        script.write_text(text.replace("{folder}", str(folder)))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on the PATH, and a home of its own."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'queue'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "queue"


def profile(**values: object) -> SlurmProfile:
    given = {"jobs": 2, "workers_per_job": 1, "memory": "4GB", "interface": "lo", "wait_s": 300.0}
    return SlurmProfile.model_validate({**given, **values})


def refusal(asked: SlurmProfile) -> str:
    with pytest.raises(UsageError) as caught, opened_slurm(asked, code):
        pass
    return str(caught.value)


def test_no_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no sbatch on the PATH" in refusal(profile())


@pytest.mark.parametrize(
    ("sbatch", "squeue", "words"),
    [
        (REFUSES, PENDING, "refused every job (sbatch: error: Batch job submission failed: Invalid account"),
        (TALKS, PENDING, "all queues are closed for the night"),
        (DIES, EMPTY, "ended before it started a worker (slurmstepd: error: Detected 1 oom_kill event"),
        (TAKES, UNKNOWN, "ended before it started a worker (it printed nothing)"),
        (TAKES, "#!/bin/sh\necho FAILED; echo CANCELLED\n", "ended before it started a worker"),
    ],
)
def test_words_of_the_queue(queue: Path, tmp_path: Path, sbatch: str, squeue: str, words: str) -> None:
    install(queue, sbatch=sbatch, squeue=squeue, scancel=CANCELS)
    said = refusal(profile())
    assert words in said
    assert "\033" not in said
    assert "\n" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queue"]  # neither keys nor logs are left


def test_a_queue_that_only_waits(queue: Path) -> None:
    install(queue, sbatch=TAKES, squeue=PENDING, scancel=CANCELS)
    assert "no job began within 1 s" in refusal(profile(wait_s=1))
    assert sorted((queue / "cancelled").read_text().split()) == sorted((queue / "jobs").read_text().split())


def test_jobs_that_are_taken_are_waited_for_though_others_are_refused(queue: Path) -> None:
    install(queue, sbatch=TAKES_SOME, squeue=PENDING, scancel=CANCELS)
    assert "no job began within 3 s" in refusal(profile(wait_s=3))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cohort_that_waits_is_stopped(queue: Path, tmp_path: Path, number: signal.Signals) -> None:
    from PIL import Image

    install(queue, sbatch=TAKES, squeue=PENDING, scancel=CANCELS)
    Image.new("RGB", (600, 600), (120, 60, 140)).save(tmp_path / "a.png")
    (tmp_path / "jobs.toml").write_text("jobs = 1\nworkers_per_job = 1\nmemory = '4GB'\ninterface = 'lo'\n")
    begin = "import signal; signal.signal(2, signal.default_int_handler)\nfrom wsipsm.cli.start import main; main()"
    command = ["cohort", "a.png", "--mpp", "0.25", "--out", "out", "--slurm", "jobs.toml", "-q"]
    with subprocess.Popen(
        [sys.executable, "-c", begin, *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 180
        while not (queue / "jobs").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(number)
        _, said = process.communicate(timeout=180)
    assert process.returncode == 128 + number
    assert said.startswith("stopped")
    assert said.count("\n") == 1
    assert (queue / "cancelled").read_text() == (queue / "jobs").read_text()
    assert not list(tmp_path.glob(".dask-jobqueue*"))
    assert not list(tmp_path.glob(".wsipsm*"))

"""The state of jobs between their submission and the first worker: refused, ended, or waiting in the queue."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wsipsm.errors import UsageError, one_line
from wsipsm.text import clean_text

_POLL_S = 0.5
_ASK_EVERY_S = 5.0
_ASK_TIMEOUT_S = 30.0
_GONE_POLLS = 2
"""Number of checks in a row without a job in the queue: one that was just submitted may not be listed yet."""
_MAX_CHARS = 400
"""Characters of a message of SLURM or of a job that an error quotes."""
_WAITING = frozenset({"PENDING", "CONFIGURING", "RUNNING", "REQUEUED", "RESIZING", "SUSPENDED", "STOPPED", "SIGNALING"})


class Submissions:
    """Jobs of one command: those that SLURM accepted, and its messages about those that it refused."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        """Number that SLURM gave to each job."""
        self.refused: list[str] = []
        """Message of SLURM about each refused job."""


def check_commands() -> None:
    """Make sure that this machine can submit jobs.

    Raises
    ------
    UsageError
        When SLURM's command is not installed.
    """
    if shutil.which("sbatch") is None:
        raise UsageError(
            "--slurm: there is no sbatch on the PATH; a machine that submits jobs to SLURM is needed. Log in to such "
            "a machine, load SLURM's module, or give --workers or --scheduler."
        )


def words_of(error: BaseException) -> str:
    """Extract SLURM's message from dask-jobqueue's error, which repeats the failed command before it."""
    text = str(error)
    _, found, after = text.partition("stdout:\n")
    return _cleaned(after.replace("stderr:\n", "") if found else text) or type(error).__name__


def wait_for_worker(
    submissions: Submissions, n_jobs: int, n_workers: Callable[[], int], logs: Path, wait_s: float
) -> None:
    """Wait for the first worker of any job.

    Parameters
    ----------
    submissions
        Submissions so far; the list grows while jobs are submitted.
    n_jobs
        Number of jobs that the command submits.
    n_workers
        Function that counts the workers that have joined.
    logs
        Folder of the files with what jobs print.
    wait_s
        Longest wait, seconds.

    Raises
    ------
    UsageError
        When every job was refused or has ended, with the message of SLURM or of the job; when none starts in time.
    """
    deadline, ask_at, n_gone = time.monotonic() + wait_s, time.monotonic() + _ASK_EVERY_S, 0
    while not n_workers():
        if len(submissions.refused) == n_jobs:
            raise UsageError(
                f"--slurm: SLURM refused every job ({submissions.refused[0]}); jobs that it takes are needed. Check "
                "queue, account, memory, walltime and directives of the profile."
            )
        now = time.monotonic()
        if now >= ask_at and len(submissions.accepted) + len(submissions.refused) == n_jobs:
            ask_at = now + _ASK_EVERY_S
            n_gone = n_gone + 1 if _are_gone(submissions.accepted) else 0
            if n_gone >= _GONE_POLLS and not n_workers():
                raise UsageError(
                    f"--slurm: every job ended before it started a worker ({_last_lines(logs)}); a job that runs is "
                    "needed. Check prologue, python, memory and interface of the profile."
                )
        if now >= deadline:
            raise UsageError(
                f"--slurm: no job began within {wait_s:.0f} s; one is needed. Look at the queue with squeue, or raise "
                "wait_s in the profile."
            )
        time.sleep(_POLL_S)


def _are_gone(jobs: Sequence[str]) -> bool:
    """Find out whether none of the jobs waits or runs; false when SLURM does not answer."""
    if not jobs or shutil.which("squeue") is None:
        return False
    command = ["squeue", "--noheader", "--format=%T", f"--jobs={','.join(jobs)}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    if answer.returncode:
        return "invalid job id" in answer.stderr.lower()
    return not _WAITING.intersection(answer.stdout.split())


def _last_lines(logs: Path) -> str:
    """Read the last lines that the jobs printed."""
    lines = []
    for path in sorted(logs.glob("*")):
        try:
            with open(path, "rb") as file:
                file.seek(max(0, path.stat().st_size - 10 * _MAX_CHARS))
                lines += [line for line in file.read().decode(errors="replace").splitlines() if line.strip()][-3:]
        except OSError:
            continue
    return _cleaned(" ".join(lines)) or "it printed nothing"


def _cleaned(text: str) -> str:
    return clean_text(one_line(text), _MAX_CHARS)

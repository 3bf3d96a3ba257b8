"""The fate of jobs between their submission and the first worker: refused, gone, or waiting in the queue."""

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
_WORDS = 400
_WAITING = frozenset({"PENDING", "CONFIGURING", "RUNNING", "REQUEUED", "RESIZING", "SUSPENDED", "STOPPED", "SIGNALING"})


class Submissions:
    """Jobs of one command: those that SLURM took, and its words about those that it did not."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refused: list[str] = []


def check_commands() -> None:
    """Make sure that this machine can submit jobs.

    Raises
    ------
    UsageError
        When SLURM's command is not installed.
    """
    if shutil.which("sbatch") is None:
        raise UsageError(
            "--slurm: there is no sbatch on the PATH; a machine that submits jobs to SLURM is needed. Log in to such a "
            "one, load SLURM's module, or give --workers or --scheduler."
        )


def words_of(error: BaseException) -> str:
    """Extract SLURM's words from dask-jobqueue's error, which repeats the failed command before them."""
    said = str(error)
    _, found, after = said.partition("stdout:\n")
    return _cleaned(after.replace("stderr:\n", "") if found else said) or type(error).__name__


def wait_for_worker(
    submissions: Submissions, n_jobs: int, n_workers: Callable[[], int], logs: Path, wait_s: float
) -> None:
    """Wait for the first worker of any job.

    Parameters
    ----------
    submissions
        Submissions so far; the list grows while jobs are submitted.
    n_jobs
        Number of jobs that are asked for.
    n_workers
        Function that counts the workers that joined.
    logs
        Folder of what jobs print.
    wait_s
        Longest wait, seconds.

    Raises
    ------
    UsageError
        When every job was refused or is gone, with the words of SLURM or of the job; when none starts in time.
    """
    deadline, ask_at, n_gone = time.monotonic() + wait_s, time.monotonic() + _ASK_EVERY_S, 0
    while not n_workers():
        if len(submissions.refused) == n_jobs:
            raise UsageError(
                f"--slurm: SLURM refused every job ({submissions.refused[0]}); jobs that it takes are needed. Check "
                "queue, account, memory, walltime and directives of the profile."
            )
        now = time.monotonic()
        if now >= ask_at and len(submissions.taken) + len(submissions.refused) == n_jobs:
            ask_at = now + _ASK_EVERY_S
            n_gone = n_gone + 1 if _are_gone(submissions.taken) else 0
            if n_gone >= _GONE_POLLS and not n_workers():
                raise UsageError(
                    f"--slurm: every job ended before it brought a worker ({_last_words(logs)}); a job that runs is "
                    "needed. Check prologue, python, memory and interface of the profile."
                )
        if now >= deadline:
            raise UsageError(
                f"--slurm: no job began within {wait_s:.0f} s; one is needed. Look at the queue with squeue, or raise "
                "wait_s in the profile."
            )
        time.sleep(_POLL_S)


def _are_gone(jobs: Sequence[str]) -> bool:
    """Tell whether the queue knows that none of the jobs waits or runs; false when the queue cannot be asked."""
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


def _last_words(logs: Path) -> str:
    """Give what the jobs printed last."""
    words = []
    for path in sorted(logs.glob("*")):
        try:
            with open(path, "rb") as file:
                file.seek(max(0, path.stat().st_size - 10 * _WORDS))
                words += [line for line in file.read().decode(errors="replace").splitlines() if line.strip()][-3:]
        except OSError:
            continue
    return _cleaned(" ".join(words)) or "it printed nothing"


def _cleaned(said: str) -> str:
    return clean_text(one_line(said), _WORDS)

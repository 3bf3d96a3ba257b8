"""A scheduler, workers and clients as processes of their own, watched from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

STAND_IN = Path(__file__).resolve().parents[1] / "tests" / "stages" / "stand_in.py"
"""The tests' network in a few lines; workers load it, so that a slide costs next to nothing."""
INTERVAL_S = 0.25
_START_S = 60.0


@dataclass
class Watched:
    """Memory of a process while it is watched, and what it used of the processor."""

    process: psutil.Process
    peak_bytes: int = 0
    """Largest resident set that was sampled."""
    samples: list[tuple[int, int]] = field(default_factory=list)
    """How far the work was, and the resident set."""
    cpu_s: float = 0.0

    def look(self, progress: int) -> None:
        """Take a sample; the last one stands when the process has ended."""
        try:
            with self.process.oneshot():
                resident, times = self.process.memory_info().rss, self.process.cpu_times()
        except psutil.Error:
            return
        self.peak_bytes = max(self.peak_bytes, resident)
        self.samples.append((progress, resident))
        self.cpu_s = times.user + times.system

    def kernel_peak_bytes(self) -> int:
        """Ask the kernel for the peak; 0 where it does not tell.

        Not ``ru_maxrss``: that counts what this process held when it started the other.
        """
        status = Path(f"/proc/{self.process.pid}/status")
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@contextmanager
def started(command: Sequence[str], heard: bool = False, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python with arguments, and end it."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE if heard else subprocess.DEVNULL,
        stderr=None if heard else subprocess.DEVNULL,
        env={**os.environ, **environment},
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


class Pool:
    """A `dask scheduler` and worker processes of one thread each.

    Parameters
    ----------
    folder
        For the scheduler's file and the workers' own; made where it is missing.
    n_workers
        Processes.
    preload
        File that workers load.
    crowd
        Whether ``preload`` is run as a command that holds all workers in one process.
    environment
        Of the workers, beside this process's.
    """

    def __init__(
        self, folder: Path, n_workers: int, preload: Path | None = None, crowd: bool = False, **environment: str
    ) -> None:
        self._stack = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        scheduler = self._start("-m", "distributed.cli.dask_scheduler", *options)
        deadline = time.monotonic() + _START_S
        while not file.exists() or not file.read_text():
            if time.monotonic() > deadline or scheduler.poll() is not None:
                raise RuntimeError("the scheduler does not start.")
            time.sleep(0.1)
        self.address: str = json.loads(file.read_text())["address"]
        self.scheduler = psutil.Process(scheduler.pid)
        if crowd:
            commands = [(str(preload), self.address, str(n_workers), str(folder))]
        else:
            own = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
            loaded = () if preload is None else ("--preload", str(preload))
            commands = [("-m", "distributed.cli.dask_worker", self.address, *own, *loaded)] * n_workers
        self.workers = [psutil.Process(self._start(*command, **environment).pid) for command in commands]

    def _start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return self._stack.enter_context(started(command, **environment))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@dataclass
class ClientRun:
    """What a client told at its end, and what was seen of it and of the scheduler meanwhile."""

    told: dict[str, Any]
    client: Watched
    scheduler: Watched
    scheduler_cpu_s: float
    """Of the scheduler while the client ran."""
    workers_cpu_s: float
    """Of all workers."""


def run_client(pool: Pool, command: Sequence[str]) -> ClientRun:
    """Run a client to its end; each line that it says is a step of progress, the last one is JSON."""
    scheduler = Watched(pool.scheduler)
    scheduler.look(0)
    before_s, workers_before_s = scheduler.cpu_s, cpu_of(pool.workers)
    ended, said = threading.Event(), [""]
    with started(command, heard=True) as process:
        client = Watched(psutil.Process(process.pid))

        def watch() -> None:
            while not ended.wait(INTERVAL_S):
                for watched in (client, scheduler):
                    watched.look(len(said) - 1)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        assert process.stdout is not None
        said += process.stdout
        code = process.wait()
        ended.set()
        watcher.join()
    if code:
        raise RuntimeError(f"the client ended with code {code}.")
    scheduler.look(len(said) - 1)
    used_s = (scheduler.cpu_s - before_s, cpu_of(pool.workers) - workers_before_s)
    return ClientRun(json.loads(said[-1]), client, scheduler, *used_s)


def cpu_of(processes: Sequence[psutil.Process]) -> float:
    """Seconds of the processor that processes have used."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))

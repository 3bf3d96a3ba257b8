"""Starts a scheduler, workers and clients as separate processes, and watches their memory and processor time."""

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

STAND_IN = Path(__file__).resolve().parents[1] / "tests" / "stand_ins" / "stand_in.py"
"""File of the tests' simple stand-in for a network; workers load it, so that a slide costs almost no time."""
INTERVAL_S = 0.25
_START_S = 60.0


@dataclass
class Watched:
    """Memory and processor time of a process that is watched."""

    process: psutil.Process
    peak_bytes: int = 0
    """Largest resident set that was sampled."""
    samples: list[tuple[int, int]] = field(default_factory=list)
    """Samples: number of finished steps, and resident set in bytes."""
    cpu_s: float = 0.0

    def sample(self, progress: int) -> None:
        """Take a sample; do nothing when the process has ended."""
        try:
            with self.process.oneshot():
                resident, times = self.process.memory_info().rss, self.process.cpu_times()
        except psutil.Error:
            return
        self.peak_bytes = max(self.peak_bytes, resident)
        self.samples.append((progress, resident))
        self.cpu_s = times.user + times.system

    def kernel_peak_bytes(self) -> int:
        """Read the peak from the kernel; 0 where there is none.

        ``ru_maxrss`` is not used, since it includes the memory of this process when it started the other.
        """
        status = Path(f"/proc/{self.process.pid}/status")
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@contextmanager
def started(command: Sequence[str], with_output: bool = False, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python with arguments, and end it when the block ends."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE if with_output else subprocess.DEVNULL,
        stderr=None if with_output else subprocess.DEVNULL,
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
        Folder for the files of scheduler and workers; it is made if it does not exist.
    n_workers
        Number of workers.
    preload
        Python file that workers load.
    crowd
        Whether ``preload`` is run as a command that runs all workers in one process.
    environment
        Environment variables of the workers, in addition to this process's.
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
    """What a client printed at its end, and what was measured of it, the scheduler and the workers."""

    printed: dict[str, Any]
    client: Watched
    scheduler: Watched
    scheduler_cpu_s: float
    """Processor time of the scheduler while the client ran."""
    workers_cpu_s: float
    """Processor time of all workers while the client ran."""


def run_client(pool: Pool, command: Sequence[str]) -> ClientRun:
    """Run a client to its end; each line that it prints is a step of progress, and the last one is JSON."""
    scheduler = Watched(pool.scheduler)
    scheduler.sample(0)
    before_s, workers_before_s = scheduler.cpu_s, cpu_of(pool.workers)
    ended, lines = threading.Event(), [""]
    with started(command, with_output=True) as process:
        client = Watched(psutil.Process(process.pid))

        def watch() -> None:
            while not ended.wait(INTERVAL_S):
                for watched in (client, scheduler):
                    watched.sample(len(lines) - 1)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        assert process.stdout is not None
        lines += process.stdout
        code = process.wait()
        ended.set()
        watcher.join()
    if code:
        raise RuntimeError(f"the client ended with code {code}.")
    scheduler.sample(len(lines) - 1)
    used_s = (scheduler.cpu_s - before_s, cpu_of(pool.workers) - workers_before_s)
    return ClientRun(json.loads(lines[-1]), client, scheduler, *used_s)


def cpu_of(processes: Sequence[psutil.Process]) -> float:
    """Add up the processor time that processes have used, seconds."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))

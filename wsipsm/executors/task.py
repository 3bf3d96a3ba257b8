"""The contract of an executor: one function, many tasks, outcomes in any order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from wsipsm.errors import WsipsmError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


class ExecutorLostError(WsipsmError):
    """An error that says that all workers, or the scheduler, are gone, so that no further task can be run."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T, R]):
    """The outcome of one task: a result, or the error that it ended with."""

    task: T
    result: R | None = None
    error: Exception | None = None


class Source(Protocol[T_co]):
    """A source of tasks; an executor takes one whenever it has room. Outcomes may make further tasks ready."""

    def take(self) -> T_co | None:
        """Return the next task, or None when none is ready now; executors call this again after every outcome."""
        ...


class Listed(Generic[T]):
    """A :class:`Source` of tasks that are all known beforehand.

    Parameters
    ----------
    tasks
        Tasks that are taken one by one, in order.
    """

    def __init__(self, tasks: Iterable[T]) -> None:
        self._tasks = iter(tasks)

    def take(self) -> T | None:
        """Return the next task, or None after the last."""
        return next(self._tasks, None)


class Executor(Protocol):
    """Runs one function on many tasks. It can run several batches until the code that opened it closes it."""

    @property
    def n_workers(self) -> int:
        """Number of processes that work beside this one; 0 when the work is done in this process."""
        ...

    @property
    def dashboard(self) -> str | None:
        """Address of a page that shows the work, where something serves one."""
        ...

    def run(self, function: Callable[[T], R], tasks: Source[T] | Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Yield an outcome for every task, in any order, with a bounded number in flight.

        The iteration ends when nothing is in flight and the source has nothing ready.
        """
        ...

    def close(self) -> None:
        """End the workers that the executor started, within seconds."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def as_source(tasks: Source[T] | Iterable[T]) -> Source[T]:
    """Wrap tasks that are all known beforehand as a :class:`Source`; a source is returned unchanged."""
    return Listed(tasks) if isinstance(tasks, Iterable) else tasks


def granted_cpus() -> int:
    """Count the processors that this process may use.

    On shared machines a process may use fewer than the machine has. The count is the smallest of the process's
    affinity, the cgroup's quota and ``SLURM_CPUS_PER_TASK``.

    Returns
    -------
    At least 1.
    """
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    quota = _cgroup_cpus()
    if quota is not None:
        counts.append(quota)
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit():
        counts.append(int(slurm))
    return max(1, min(counts))


def _cgroup_cpus(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Count the whole processors of the cgroup's quota, rounded down but at least 1; None without a quota."""
    try:
        quota, period = (root / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (quota.isdigit() and period.isdigit() and int(period) > 0):
        return None
    return max(1, int(quota) // int(period))

"""A local cluster: a scheduler in this process and worker processes, connected so that no other user can join."""

from __future__ import annotations

import logging
import signal
from typing import Any

import dask.config
from distributed import Nanny, Scheduler, SpecCluster, Worker

from wsipsm.errors import UsageError, one_line
from wsipsm.executors.own_keys import make_own_keys
from wsipsm.machine import ground_problems, process_problem

_HOST, _PROTOCOL = "127.0.0.1", "tls://"


class SilentScheduler(Scheduler):
    """A scheduler that serves no web pages, since they would be neither encrypted nor needed."""

    def start_http_server(self, *given: Any, **named: Any) -> None:
        """Serve nothing."""


class _SilentWorker(Worker):
    """A worker that serves no web pages, like :class:`SilentScheduler`."""

    def start_http_server(self, *given: Any, **named: Any) -> None:
        """Serve nothing."""


class _SignalBlockingNanny(Nanny):
    """A nanny whose worker ignores the signals that a terminal sends to all processes; its parent alone ends it."""

    async def instantiate(self) -> Any:
        """Start the worker; it inherits the signals that are blocked in this thread, which is not the main one."""
        _block_terminal_signals()
        return await super().instantiate()


def open_local_cluster(n_workers: int, folder: str) -> Any:
    """Start workers of one thread each.

    Parameters
    ----------
    n_workers
        Number of workers.
    folder
        Folder for what Dask writes; this user alone can enter it.

    Returns
    -------
    A Dask cluster. Every connection is encrypted with keys that are made for this cluster, and other connections are
    refused. Without that, every user of the machine could reach the scheduler over the loopback interface and run
    code in this user's name.

    Raises
    ------
    UsageError
        When the workers cannot be started; the message says what the machine lacks, and how to work without them.
    """
    # With the first lock Python starts a process that tracks resources; it, too, must ignore the terminal's signals.
    blocked_before = _block_terminal_signals()
    try:
        found = ground_problems(n_workers)  # checked first, since without loopback Dask tries for half a minute
    finally:
        if blocked_before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
    if found:
        raise _refusal(n_workers, found)
    try:
        return _start(n_workers, folder)
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise not_started(n_workers, error) from error


def not_started(n_workers: int, error: BaseException) -> UsageError:
    """Make the error that says why workers could not be started."""
    found = ground_problems(n_workers) or [process_problem() or one_line(_root_of(error)) or type(error).__name__]
    return _refusal(n_workers, found)


def _refusal(n_workers: int, found: list[str]) -> UsageError:
    return UsageError(
        f"--workers {n_workers}: worker processes cannot be started: {'; '.join(found)}. Pass --workers 0 to work in "
        "this process alone, or see 'wsipsm doctor'."
    )


def _block_terminal_signals() -> set[Any] | None:
    """Block a terminal's signals in this thread and the processes it starts; return the signals blocked before."""
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})


def _start(n_workers: int, folder: str) -> SpecCluster:
    security = make_own_keys()
    shared = {"host": _HOST, "protocol": _PROTOCOL, "security": security}
    scheduler = {"cls": SilentScheduler, "options": {**shared, "port": 0, "dashboard": False}}
    own = {
        "nthreads": 1,
        "memory_limit": None,
        "local_directory": folder,
        "silence_logs": logging.CRITICAL,
        "worker_class": _SilentWorker,
    }
    worker = {"cls": _SignalBlockingNanny, "options": {**shared, **own}}
    # By default the scheduler makes a folder whose name is the same for every user, imports from it and leaves it.
    with dask.config.set({"temporary-directory": folder}):
        return SpecCluster(  # type: ignore[no-untyped-call]
            scheduler=scheduler,
            workers=dict.fromkeys(range(n_workers), worker),
            worker=worker,
            security=security,
            silence_logs=logging.CRITICAL,
        )


def _root_of(error: BaseException) -> BaseException:
    """Find the first cause of an error; Dask's own error says only that a worker did not start."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error

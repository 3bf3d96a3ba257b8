"""The executor that runs tasks as Dask futures.

A run without workers needs ``task``, ``serial`` and ``budget`` alone, and these do not import Dask.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from asyncio import CancelledError as TaskCancelledError
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Generic, Self

import dask.config
from dask.utils import funcname
from distributed import Client, KilledWorker, wait
from distributed.client import ClosedClientError
from distributed.protocol.pickle import dumps, loads

from wsipsm.errors import UsageError, WsipsmError
from wsipsm.executors.greeting import check_scheduler
from wsipsm.executors.local import not_started, open_local_cluster
from wsipsm.executors.stalled import keep_sending
from wsipsm.executors.task import ExecutorLostError, Listed, Outcome, R, Source, T, as_source
from wsipsm.executors.workers import WorkerRegistry

ALLOWED_FAILURES = 1
"""How many workers of a local cluster a task may be lost with before it is set aside, to be tried alone at the end."""
_CONNECT_TIMEOUT_S = 15
_CLOSE_TIMEOUT_S = 3
_GRACE_S = 1.0
"""Seconds that a worker has to end by itself before it is killed."""
_END_TIMEOUT_S = 10
"""Seconds within which all workers of a local cluster must have ended."""
_POLL_S = 5.0
_JOIN_S = 20.0
_PATIENCE_S = 120.0
"""Seconds that a run waits without any worker, since lost ones may come back and others may be started."""
_TIDY_EVERY = 10_000
"""Number of tasks after which the scheduler removes what it has recorded of each."""
_QUIET_LOGGERS = (
    "distributed",
    "distributed.client",
    "distributed.nanny",
    "distributed.worker",
    "distributed.scheduler",
    "distributed.core",
)
_CANCELLED = (CancelledError, TaskCancelledError)
"""Dask raises subclasses of the first, and asyncio raises the second."""
_SETTINGS = {
    "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
    # Tasks are short and their results small, so workers need no profiler and never spill to disk or pause.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    # Dask's log of what it sent last would keep a thousand tasks, with all that they carry, in memory.
    "distributed.admin.low-level-log-length": 10,
    "distributed.comm.timeouts.connect": f"{_CONNECT_TIMEOUT_S}s",
    # A long native call delays a worker's heartbeat, which must not count as the worker's death.
    "distributed.scheduler.worker-ttl": None,
    # Dask never restarts a worker that is absent at the moment when this time has passed since its first loss. So a
    # task that crashes its worker again and again would end the whole cluster.
    "distributed.deploy.lost-worker-timeout": "1 day",
}


@dataclass(frozen=True, slots=True)
class _Flight(Generic[T]):
    """A submitted task, and the workers that may run it; an empty set allows any."""

    task: T
    workers: frozenset[str]


class DaskExecutor:
    """Runs tasks on worker processes of one thread each.

    Parameters
    ----------
    n_workers
        Processes of a local cluster; unused with ``address``.
    address
        A running scheduler, e.g. ``tcp://host:8786``.
    fingerprint
        Function that names the code and versions that a process runs, separated by commas. It is called on every
        worker of a running scheduler, and each result must equal this process's. A worker that joins later with
        another result gets no task.
    patience_s
        Seconds to wait for a worker when none is left.
    join_s
        Seconds to wait for the first worker of a running scheduler, since its workers may be restarting.
    cluster
        A Dask cluster in place of ``address``; :meth:`close` does not close it.
    announce
        Function that is called with what happened and a sentence when a worker is lost or refused later. With None,
        the sentence is logged.

    Raises
    ------
    UsageError
        When the scheduler does not answer, has no workers, or has workers that cannot be used; when this machine
        cannot start a local cluster.
    """

    def __init__(
        self,
        n_workers: int = 1,
        address: str | None = None,
        fingerprint: Callable[[], str] | None = None,
        patience_s: float = _PATIENCE_S,
        join_s: float = _JOIN_S,
        cluster: Any = None,
        announce: Callable[[str, str], None] | None = None,
    ) -> None:
        self._patience_s = patience_s
        self._cluster: Any = None
        self._folder: TemporaryDirectory[str] | None = None
        self._settings: Any = dask.config.set(_SETTINGS)
        address = address if cluster is None else str(cluster.scheduler_address)
        self._address = address
        self._n_submitted = 0
        for name in _QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self._client: Any = self._start(n_workers) if address is None else _connect(address, cluster)
            keep_sending(self._client)
            self._registry = WorkerRegistry(
                self._client, address or "", fingerprint if address else None, announce, patience_s
            )
            if address is not None:
                n_workers = self._registry.check(join_s)
        except BaseException:
            self.close()
            raise
        self._n_workers = n_workers
        self._counted_s = time.monotonic()

    def _start(self, n_workers: int) -> Any:
        try:
            self._folder = TemporaryDirectory(prefix="wsipsm-dask-", ignore_cleanup_errors=True)
        except OSError as error:
            raise not_started(n_workers, error) from error
        self._cluster = open_local_cluster(n_workers, self._folder.name)
        return Client(self._cluster, set_as_default=False)  # type: ignore[no-untyped-call]

    @property
    def dashboard(self) -> str | None:
        """Address of Dask's page of a running scheduler; None for a local cluster, since that page has no password."""
        return None if self._address is None else str(self._client.dashboard_link or "") or None

    @property
    def address(self) -> str | None:
        """Address of the scheduler; None on a local cluster."""
        return self._address

    @property
    def n_workers(self) -> int:
        """Number of worker processes."""
        return self._count_workers()

    def run(self, function: Callable[[T], R], tasks: Source[T] | Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Yield outcomes as they come; at most ``2 * n_workers + 2`` tasks are in flight.

        Dask tries a task again when its worker is lost. A task that was lost too often is tried once more alone,
        when no other is ready, since another task on the same worker may have crashed it.

        Raises
        ------
        WsipsmError
            When the scheduler goes away.
        """
        source = as_source(tasks)
        lost: deque[T] = deque()
        while True:
            for outcome in self._run_bounded(function, source, None):
                if isinstance(outcome.error, KilledWorker):
                    lost.append(outcome.task)
                else:
                    yield outcome
            if not lost:
                return
            task = lost.popleft()
            for outcome in self._run_bounded(function, Listed([task]), 1):
                yield Outcome(task, outcome.result, _explained(outcome.error))

    def _run_bounded(self, function: Callable[[T], R], source: Source[T], limit: int | None) -> Iterator[Outcome[T, R]]:
        """Run tasks with at most ``limit`` in flight; None means as many as keep the present workers busy."""
        flying: dict[Any, _Flight[T]] = {}
        retried: deque[T] = deque()

        def launch() -> None:
            most = 2 * self._count_workers() + 2 if limit is None else limit
            while len(flying) < most and (task := retried.popleft() if retried else source.take()) is not None:
                workers = self._registry.fit()
                flying[self._submit(function, task, workers)] = _Flight(task, workers)

        try:
            launch()
            while flying:
                for future in self._finished(flying):
                    flight = flying[future]
                    outcome: Outcome[T, R] | None = self._outcome(flight.task, future)
                    if outcome is None and not self._is_stranded(flight):
                        continue
                    del flying[future]
                    future.release()
                    if outcome is None or self._registry.refuse(outcome.error, flight.workers):
                        retried.append(flight.task)
                    else:
                        yield outcome
                    launch()
        except ClosedClientError as error:
            raise self._lost() from error
        finally:
            if flying:
                with suppress(OSError, TimeoutError, RuntimeError, ClosedClientError):
                    self._client.cancel(list(flying), force=True)

    def _submit(self, function: Callable[[T], R], task: T, workers: frozenset[str]) -> Any:
        """Send a task to the scheduler as bytes, so that the scheduler does not have to decode it."""
        if self._n_submitted % _TIDY_EVERY == _TIDY_EVERY - 1:
            with suppress(OSError, TimeoutError, RuntimeError, LookupError, AttributeError, TypeError):
                self._client.run_on_scheduler(_forget_metadata)
        self._n_submitted += 1
        # Dask's page groups tasks by the function's name in the key.
        key = f"{funcname(function)}-{uuid.uuid4()}"
        payload = dumps((self._registry.guarded(function), task))  # type: ignore[no-untyped-call]
        return self._client.submit(_caller(), payload, key=key, pure=False, workers=sorted(workers) or None)

    def _is_stranded(self, flight: _Flight[T]) -> bool:
        """Find out whether all workers that may run a task are gone."""
        return bool(flight.workers) and flight.workers.isdisjoint(self._registry.alive())

    def _finished(self, flying: dict[Any, _Flight[T]]) -> list[Any]:
        """Wait until a future finishes or is stranded; give up when no worker is left to finish one."""
        futures = list(flying)
        alone_since: float | None = None
        while True:
            try:
                with self._client.as_current():
                    found: Any = wait(  # type: ignore[no-untyped-call]
                        futures, timeout=min(_POLL_S, self._patience_s), return_when="FIRST_COMPLETED"
                    )
            except _CANCELLED as error:
                raise self._lost() from error
            except TimeoutError:
                if stranded := [future for future in futures if self._is_stranded(flying[future])]:
                    return stranded
                if self._registry.alive():
                    alone_since = None
                    continue
            else:
                return [future for future in futures if future in found.done]
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since >= self._patience_s:
                raise ExecutorLostError(
                    f"{self._address or 'local cluster'}: no worker is left, and none came back within "
                    f"{self._patience_s:.0f} s; at least one is needed. Run the same command again: finished blocks "
                    "are kept."
                )

    def _count_workers(self) -> int:
        """Count the workers, anew every few seconds, since those of a running scheduler come and go."""
        if time.monotonic() - self._counted_s > _POLL_S:
            n_workers = self._registry.count()
            self._counted_s = time.monotonic()
            if self._address is not None:  # a local cluster restarts its workers itself
                self._n_workers = max(1, n_workers)
        return self._n_workers

    def _outcome(self, task: T, future: Any) -> Outcome[T, R] | None:
        """Return the outcome of a future; None when its result was lost with its worker and is computed again."""
        try:
            if future.status == "finished":
                return Outcome(task, result=future.result(timeout=_CONNECT_TIMEOUT_S))
            if future.status == "error":
                error = future.exception(timeout=_CONNECT_TIMEOUT_S)
                if isinstance(error, Exception):
                    return Outcome(task, error=error)
                raise error  # KeyboardInterrupt or SystemExit, raised by a task
        except _CANCELLED as error:
            raise self._lost() from error
        except OSError:  # also a time-out; if the scheduler is lost, the future is cancelled next
            return None
        except Exception:
            if future.status != "error":
                raise
            return None  # the result was lost while it was fetched, and its second computation failed
        if future.status == "cancelled":
            raise self._lost()
        return None

    def _lost(self) -> ExecutorLostError:
        return ExecutorLostError(
            f"{self._address or 'local cluster'}: the scheduler went away; it is needed until the run ends. "
            "Run the same command again: finished blocks are kept."
        )

    def close(self) -> None:
        """End the client and, if it was started here, the cluster, within seconds."""
        ignored = (OSError, TimeoutError, RuntimeError)
        client = getattr(self, "_client", None)
        if client is not None:
            with suppress(*ignored):
                client.close(timeout=_CLOSE_TIMEOUT_S)
        if self._cluster is not None:
            # Dask's own close does not end a worker in the middle of a long task.
            with suppress(*ignored):
                workers = list(self._cluster.workers.values())
                self._cluster.sync(_end_workers, workers, callback_timeout=_END_TIMEOUT_S)
            with suppress(*ignored):
                self._cluster.close(timeout=_CLOSE_TIMEOUT_S)
            self._cluster = None
        if self._folder is not None:
            self._folder.cleanup()
        self._settings.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(address: str, cluster: Any) -> Any:
    if cluster is None:
        check_scheduler(address, _CONNECT_TIMEOUT_S)
    try:
        # A cluster object also holds the keys of its connections.
        return Client(cluster or address, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"--scheduler {address}: no scheduler answers ({str(error) or type(error).__name__}); a running one is "
            "needed. Start one with 'dask scheduler', or leave the flag out to work on this machine."
        ) from error


async def _end_workers(nannies: list[Any]) -> None:
    await asyncio.gather(*(nanny.close(timeout=_GRACE_S) for nanny in nannies), return_exceptions=True)


def _caller() -> Callable[[bytes], Any]:
    """Make the function that runs a task on a worker.

    The function is nested, so pickle sends its code and not its name. A worker that lacks this module then raises an
    error that comes back; if a name were sent, the worker would crash.
    """

    def call(payload: bytes) -> Any:
        function, task = loads(payload)  # type: ignore[no-untyped-call]
        # Imported here, since the code that is sent must not need a module that the worker may lack.
        from wsipsm.executors.stalled import keep_worker_sending

        keep_worker_sending()
        return function(task)

    return call


def _forget_metadata(dask_scheduler: Any) -> None:
    """Clear a list on the scheduler to which Dask adds an entry at every submission until the scheduler ends."""
    for span in dask_scheduler.extensions["spans"].spans.values():
        if span.metadata:
            span.metadata["collections"].clear()


def _explained(error: Exception | None) -> Exception | None:
    """Replace Dask's error about a dead worker by one that names the likely causes and the remedy."""
    if isinstance(error, KilledWorker):
        return WsipsmError(
            f"its worker died {error.allowed_failures + 1} times with this task alone; native code crashed on the "
            "slide, or memory ran out. Copy the slide again from its source, or try fewer --workers or a smaller "
            "--block-px."
        )
    return error

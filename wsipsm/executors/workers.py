"""The workers of a running scheduler; only those with the same code as this process get tasks."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from distributed import get_worker

from wsipsm.errors import UsageError, one_line
from wsipsm.executors.task import ExecutorLostError, R, T

REFUSED, LOST = "worker refused", "worker lost"
_LOGGER = logging.getLogger(__name__)
_POLL_S = 0.5
_ADVICE = "Install the same versions on every worker and start them again."


class OtherCodeError(Exception):
    """An error with which a worker refuses a task of a sender with other code; its arguments are address and code."""


class WorkerRegistry:
    """Workers of a scheduler, and those among them that get no task.

    Parameters
    ----------
    client
        Client of the scheduler.
    address
        Address as the user gave it.
    fingerprint
        Function that names the code and versions that a process runs, separated by commas; None accepts any.
    announce
        Function that is called for every worker that is lost, or refused after the start. Its arguments are ``LOST``
        or ``REFUSED``, and a sentence.
    patience_s
        Seconds to wait for a usable worker when none is left.
    """

    def __init__(
        self,
        client: Any,
        address: str,
        fingerprint: Callable[[], str] | None,
        announce: Callable[[str, str], None] | None,
        patience_s: float,
    ) -> None:
        self._client, self._address, self._fingerprint = client, address, fingerprint
        self._announce, self._patience_s = announce or functools.partial(_LOGGER.warning, "%s: %s"), patience_s
        self._own = "" if fingerprint is None else fingerprint()
        self.refused: dict[str, str] = {}
        """Reason, as a sentence, by the address of each refused worker."""
        self._asked: frozenset[str] = frozenset()
        self._seen: frozenset[str] = frozenset()

    def check(self, join_s: float) -> int:
        """Count the workers, and refuse to start if one of them would fail or give other results.

        Raises
        ------
        UsageError
            When there is no worker, or one that cannot be used.
        """
        with suppress(TimeoutError):
            self._client.wait_for_workers(1, timeout=join_s)
        workers: dict[str, dict[str, Any]] = self._client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise UsageError(
                f"--scheduler {self._address}: it has no workers; at least one is needed. "
                f"Start some with 'dask worker {self._address} --nthreads 1'."
            )
        crowded = sorted(name for name, facts in workers.items() if facts["nthreads"] != 1)
        if crowded:
            raise UsageError(
                f"--scheduler {self._address}: worker {crowded[0]} runs {workers[crowded[0]]['nthreads']} threads; an "
                "open slide belongs to one thread. Start workers with '--nthreads 1', and more of them with "
                "'--nworkers'."
            )
        unfit = self._ask_all()
        if unfit:
            raise UsageError(f"--scheduler {self._address}: {unfit[min(unfit)]}")
        self._seen = frozenset(workers)
        return len(workers)

    def guarded(self, function: Callable[[T], R]) -> Callable[[T], R]:
        """Wrap a function so that a worker with other code raises :class:`OtherCodeError` and does not call it."""
        if self._fingerprint is None:
            return function
        return functools.partial(_do_if_same, self._fingerprint, self._own, function)

    def refuse(self, error: Exception | None, workers: frozenset[str]) -> bool:
        """Find out whether a task ended because its worker is unfit, and give that worker no further task.

        Parameters
        ----------
        error
            Error that the task ended with, if any.
        workers
            Addresses of the workers that the task was allowed to run on; an empty set stands for any.

        Returns
        -------
        True when the task has to be sent to another worker.
        """
        if isinstance(error, OtherCodeError):
            worker, found = error.args
            unfit = {worker: self._sentence(worker, found)}
        elif error is not None and (isinstance(error, ImportError) or "No module named" in str(error)):
            unfit = self._ask_all()  # a worker that lacks a module cannot even send its own fingerprint
        else:
            return False
        self._refuse_all(unfit)
        # Other tasks that the unfit worker was given before it was known end in the same way.
        return bool(unfit) or (bool(self.refused) and (not workers or not workers.isdisjoint(self.refused)))

    def count(self) -> int:
        """Count the workers that may get tasks; the code of new ones is checked first."""
        alive = self.alive()
        if alive:  # an empty set may only mean that the scheduler is slow
            for worker in sorted(self._seen - alive):
                self._announce(LOST, f"worker {worker} is gone; others do its tasks.")
            self._seen = alive
        if alive - self._asked:
            self._refuse_all(self._ask_all())
        return len(alive - self.refused.keys())

    def _refuse_all(self, unfit: dict[str, str]) -> None:
        for worker, sentence in unfit.items():
            if worker not in self.refused:
                self.refused[worker] = sentence
                self._announce(REFUSED, sentence)

    def fit(self) -> frozenset[str]:
        """Wait for a usable worker, and return the addresses that tasks may go to; an empty set means any.

        Raises
        ------
        ExecutorLostError
            When no usable worker is left, and none joins in time.
        """
        if not self.refused:
            return frozenset()
        deadline = time.monotonic() + self._patience_s
        while not (found := self.alive() - self.refused.keys()):
            if time.monotonic() > deadline:
                raise ExecutorLostError(
                    f"--scheduler {self._address}: no worker is left that may take part, and none joined within "
                    f"{self._patience_s:.0f} s; {' '.join(self.refused.values())} Then run the same command again: "
                    "finished blocks are kept."
                )
            time.sleep(_POLL_S)
        return frozenset(found)

    def alive(self) -> frozenset[str]:
        """Return the addresses of all workers, refused ones included; none while the scheduler does not answer."""
        try:
            return frozenset(self._client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, TimeoutError, ValueError):
            return frozenset()

    def _ask_all(self) -> dict[str, str]:
        """Check the code of all workers that are not refused yet; return a sentence about each that is unfit."""
        if self._fingerprint is None:
            return {}
        self._asked = self.alive()
        asked = sorted(self._asked - self.refused.keys())
        # A worker that is lost during the call returns an OSError, and the others' answers still arrive.
        ask = functools.partial(_answer, self._fingerprint)
        answers: dict[str, Any] = self._client.run(ask, workers=asked, on_error="return") if asked else {}
        unfit = {}
        for worker, answer in answers.items():
            if isinstance(answer, Exception) and not isinstance(answer, OSError):
                reason = one_line(answer)
                unfit[worker] = (
                    f"worker {worker} lacks wsipsm, or has another version ({reason}); {self._own} is needed. {_ADVICE}"
                )
            elif isinstance(answer, str) and answer != self._own:
                unfit[worker] = self._sentence(worker, answer)
        return unfit

    def _sentence(self, worker: str, found: str) -> str:
        """Write which parts of the fingerprint differ, as a sentence."""
        has, needs = found.split(", "), self._own.split(", ")
        other = ", ".join(part for part in has if part not in needs) or "less"
        needed = ", ".join(part for part in needs if part not in has) or "no more than this process has"
        return f"worker {worker} has {other}; {needed} is needed. {_ADVICE}"


def _answer(fingerprint: Callable[[], str]) -> str:
    return fingerprint()


def _do_if_same(fingerprint: Callable[[], str], own: str, function: Callable[[T], R], task: T) -> R:
    found = fingerprint()
    if found != own:
        raise OtherCodeError(get_worker().address, found)
    return function(task)

"""The reference executor: every task in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from wsipsm.executors.task import Outcome, R, Source, T, as_source


class SerialExecutor:
    """Runs tasks in order, in this process."""

    @property
    def n_workers(self) -> int:
        """Always 0, since all work is done in this process."""
        return 0

    @property
    def dashboard(self) -> None:
        """Always None, since only a Dask scheduler serves such a page."""
        return None

    def run(self, function: Callable[[T], R], tasks: Source[T] | Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Yield outcomes in the order of the tasks."""
        source = as_source(tasks)
        while (task := source.take()) is not None:
            outcome: Outcome[T, R]
            try:
                outcome = Outcome(task, result=function(task))
            except Exception as error:  # noqa: BLE001  an error is the outcome of its task, and ends no other task
                outcome = Outcome(task, error=error)
            yield outcome

    def close(self) -> None:
        """Do nothing, since there is nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

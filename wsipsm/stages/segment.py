"""The step that runs a slide's blocks on an executor; blocks that have a shard are left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wsipsm.config import RunOptions
from wsipsm.errors import BudgetError, OutputError, SlideOpenError, UsageError
from wsipsm.events import BlockDone, BlockFailed, BlockReport, Listener, StageStarted
from wsipsm.executors.budget import Budget, available_bytes, check_budget, workers_that_fit
from wsipsm.executors.serial import SerialExecutor
from wsipsm.executors.task import Executor, granted_cpus
from wsipsm.results.provenance import worker_code
from wsipsm.stages.block import release_worker, segment_block
from wsipsm.stages.plan import SlidePlan
from wsipsm.stages.prepare import PreparedSlide
from wsipsm.tiling import Block

STOPS_THE_SLIDE = (OutputError, UsageError, SlideOpenError, BudgetError)
"""Errors of a block that every other block of the slide would raise too, so that the slide stops at the first."""


@contextmanager
def opened_executor(
    options: RunOptions,
    n_tasks: int | None = None,
    budget: Budget | None = None,
    apart: bool = False,
    announce: Callable[[str, str], None] | None = None,
) -> Iterator[Executor]:
    """Open the executor that the options choose: this process, a local cluster or a running scheduler.

    Parameters
    ----------
    options
        Options of the run.
    n_tasks
        Number of tasks; no more workers than tasks are started.
    budget
        Budget of one run; where the user gives no number of workers, no more are started than fit into memory.
    apart
        Whether at least one worker is started where the user gives no number, so that a slide that crashes native
        code ends a worker and not this process.
    announce
        Function that is called for a worker that is lost, or that joined a running scheduler later and is refused;
        its arguments are what happened and a sentence.

    Yields
    ------
    The executor, which is closed at the end.

    Raises
    ------
    UsageError
        When workers cannot be started, or the scheduler cannot be used.
    """
    if options.scheduler is not None:
        from wsipsm.executors.dask import DaskExecutor

        with DaskExecutor(address=options.scheduler, fingerprint=worker_code, announce=announce) as remote:
            yield remote
        return
    n_workers = granted_cpus() if options.workers is None else options.workers
    if n_tasks is not None:
        n_workers = min(n_workers, n_tasks)
    if budget is not None and options.workers is None:
        n_workers = min(n_workers, workers_that_fit(budget, max(1, n_workers), available_bytes()))
    # With a single worker this process would only wait, so it does the work itself.
    if n_workers == 0 or (options.workers is None and n_workers == 1 and not apart):
        with SerialExecutor() as serial:
            yield serial
        return
    from wsipsm.executors.dask import DaskExecutor

    with DaskExecutor(n_workers=n_workers, announce=announce) as local:
        yield local


@dataclass
class Segmented:
    """The outcome of the planned blocks."""

    reports: dict[int, BlockReport] = field(default_factory=dict)
    """Reports of the blocks that have a shard, by index."""
    failures: dict[int, str] = field(default_factory=dict)
    """Type and message of the error of each block that has no shard, by index."""
    seconds: float = 0.0


def fitted_plan(prepared: PreparedSlide, options: RunOptions, n_workers: int) -> SlidePlan:
    """Check that a slide's plan fits this machine, and set the number of threads that each worker gets.

    Parameters
    ----------
    prepared, options
        The slide and the options of its run.
    n_workers
        Worker processes on this machine; 0 when this process does the work.

    Returns
    -------
    The plan with its threads; with a running scheduler the plan as it is, since its machines are not known here.

    Raises
    ------
    BudgetError
        When memory or disk do not suffice for so many workers.
    """
    plan = prepared.plan
    if options.scheduler is not None:
        return plan
    check_budget(plan.budget, n_workers, available_bytes(), Path(prepared.folder))
    return plan.with_threads(max(1, granted_cpus() // max(1, n_workers)))


def segment_slide(
    prepared: PreparedSlide, options: RunOptions, listener: Listener, executor: Executor | None
) -> Segmented:
    """Make the missing shards of a slide.

    Parameters
    ----------
    prepared, options, listener
        The same as in `wsipsm.stages.run.run_slide`.
    executor
        Executor, which stays open; None opens one by ``options`` where there is work left, and closes it.

    Returns
    -------
    Reports and failures of all blocks, those of an earlier run included.

    Raises
    ------
    WsipsmError
        When a block raises one of ``STOPS_THE_SLIDE``. When every block failed, the first error is raised, of
        whatever type.
    """
    started = time.perf_counter()
    segmented = Segmented(dict(prepared.before))
    todo, plan = prepared.todo, prepared.plan
    if not todo:
        listener(prepared.announcement(0))
        return segmented
    with ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(opened_executor(options, len(todo), plan.budget))
        plan = fitted_plan(prepared, options, executor.n_workers)
        listener(prepared.announcement(executor.n_workers))
        listener(StageStarted("segment", prepared.slide))
        _run_blocks(prepared.slide, plan, segmented, todo, listener, executor)
    segmented.seconds = round(time.perf_counter() - started, 3)
    return segmented


def _run_blocks(
    slide: str,
    plan: SlidePlan,
    segmented: Segmented,
    todo: Sequence[Block],
    listener: Listener,
    executor: Executor,
) -> None:
    """Run blocks on an executor; a block that fails is reported and does not stop the others."""
    first: Exception | None = None
    try:
        for outcome in executor.run(partial(segment_block, plan.job), todo):
            block, report = outcome.task, outcome.result
            if report is not None:
                segmented.reports[block.index] = report
                listener(BlockDone(slide, report))
                continue
            error = outcome.error or RuntimeError("no result")
            if isinstance(error, STOPS_THE_SLIDE):
                raise error
            first = first or error
            reason = f"{type(error).__name__}: {error}"
            segmented.failures[block.index] = reason
            listener(BlockFailed(slide, block.index, plan.job.geometry.count_tiles(block.core), reason))
    finally:
        release_worker()
    if first is not None and not segmented.reports:
        raise first

"""Blocks of a slide through an executor, and which of them need no more work."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from wsipsm.config import RunOptions
from wsipsm.engine.budget import Budget, available_bytes, check_budget, workers_that_fit
from wsipsm.engine.events import BlockDone, BlockFailed, BlockReport, Listener, RunPlanned, StageStarted
from wsipsm.engine.serial import SerialExecutor
from wsipsm.engine.task import Executor, granted_cpus
from wsipsm.errors import BudgetError, OutputError, SlideOpenError, UsageError
from wsipsm.instances.shard import check_shard
from wsipsm.rundir import RunDir
from wsipsm.stages.block import release_worker, report_of, segment_block
from wsipsm.stages.plan import SlidePlan
from wsipsm.stages.provenance import worker_code
from wsipsm.tiling import Block

_STOPS_THE_RUN = (OutputError, UsageError, SlideOpenError, BudgetError)
"""What one block meets, every other would meet too."""
_SHARED_DISK_TIMEOUT_S = 60.0


@contextmanager
def opened_executor(
    options: RunOptions, n_tasks: int | None = None, budget: Budget | None = None
) -> Iterator[Executor]:
    """Open what the options ask for: this process, a local cluster or a running scheduler.

    Parameters
    ----------
    options
        Of the run.
    n_tasks
        More workers than tasks are not started.
    budget
        Where the number of workers is left to wsipsm, no more are started than memory holds.
    """
    if options.scheduler is not None:
        from wsipsm.engine.dask import DaskExecutor

        with DaskExecutor(address=options.scheduler, fingerprint=worker_code) as remote:
            yield remote
        return
    n_workers = granted_cpus() if options.workers is None else options.workers
    if n_tasks is not None:
        n_workers = min(n_workers, n_tasks)
    if budget is not None and options.workers is None:
        n_workers = min(n_workers, workers_that_fit(budget, max(1, n_workers), available_bytes()))
    # One worker process would only stand beside an idle one.
    if n_workers == 0 or (options.workers is None and n_workers == 1):
        with SerialExecutor() as serial:
            yield serial
        return
    from wsipsm.engine.dask import DaskExecutor

    with DaskExecutor(n_workers=n_workers) as local:
        yield local


class Segmented:
    """What became of the planned blocks."""

    def __init__(self) -> None:
        self.reports: dict[int, BlockReport] = {}
        self.failures: dict[int, Exception] = {}


def segment_slide(
    plan: SlidePlan,
    run_dir: RunDir,
    options: RunOptions,
    listener: Listener,
    executor: Executor | None,
) -> Segmented:
    """Make the shards that are missing.

    Parameters
    ----------
    plan, run_dir, options, listener
        Of the run.
    executor
        Stays open; None opens one by ``options`` where there is work left, and closes it.

    Raises
    ------
    WsipsmError
        When what stopped one block would stop all, or when every block failed.
    """
    segmented = Segmented()
    for block in plan.blocks:
        facts = check_shard(run_dir.shard_path(plan.job.key, block))
        if facts is not None:
            segmented.reports[block.index] = report_of(block, facts)
    todo = [block for block in plan.blocks if block.index not in segmented.reports]
    if not todo:
        _tell_plan(plan, segmented, listener, 0)
        return segmented
    budget = plan.budget(options.block_px)
    with ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(opened_executor(options, len(todo), budget))
        if options.scheduler is None:
            check_budget(budget, executor.n_workers, available_bytes(), run_dir.root)
            plan = plan.with_threads(max(1, granted_cpus() // max(1, executor.n_workers)))
        _tell_plan(plan, segmented, listener, executor.n_workers)
        _run_blocks(plan, segmented, todo, listener, executor)
    if options.scheduler is not None:
        made = [block for block in todo if block.index in segmented.reports]
        _wait_for_shards([run_dir.shard_path(plan.job.key, block) for block in made], options.scheduler)
    return segmented


def _tell_plan(plan: SlidePlan, segmented: Segmented, listener: Listener, n_workers: int) -> None:
    before = segmented.reports.values()
    reason = f"model {plan.job.card.name}: {plan.model_reason}"
    listener(
        RunPlanned(
            slide=plan.info.path,
            n_blocks=len(plan.blocks),
            n_done_before=len(before),
            n_tiles=plan.n_tiles,
            n_tiles_before=sum(report.n_tiles for report in before),
            n_nuclei_before=sum(report.n_nuclei for report in before),
            n_workers=n_workers,
            notes=(reason, *plan.notes),
        )
    )
    listener(StageStarted("segment", plan.info.path))


def _run_blocks(
    plan: SlidePlan, segmented: Segmented, todo: Sequence[Block], listener: Listener, executor: Executor
) -> None:
    """Run blocks on an executor; a block that fails is told and does not stop the others."""
    try:
        for outcome in executor.run(partial(segment_block, plan.job), todo):
            block, report = outcome.task, outcome.result
            if report is not None:
                segmented.reports[block.index] = report
                listener(BlockDone(plan.info.path, report))
                continue
            error = outcome.error or RuntimeError("no result")
            if isinstance(error, _STOPS_THE_RUN):
                raise error
            segmented.failures[block.index] = error
            reason = f"{type(error).__name__}: {error}"
            listener(BlockFailed(plan.info.path, block.index, plan.job.count_tiles(block.core), reason))
    finally:
        release_worker()
    if segmented.failures and not segmented.reports:
        raise next(iter(segmented.failures.values()))


def _wait_for_shards(paths: Sequence[Path], address: str, timeout_s: float = _SHARED_DISK_TIMEOUT_S) -> None:
    """Wait until what other machines wrote is seen here: network file systems show new files late."""
    deadline = time.monotonic() + timeout_s
    for path in paths:
        while not path.exists():
            if time.monotonic() > deadline:
                raise UsageError(
                    f"--scheduler {address}: {path} was written by a worker and is not seen here; a folder that all "
                    "machines share is needed. Choose one with --out."
                )
            os.listdir(path.parent)  # makes the client of a network file system ask again
            time.sleep(0.2)

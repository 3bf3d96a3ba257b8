"""The flow of a cohort's slides through one pool of workers: plans, blocks and results of many slides at once.

Every step of a slide is a task, so that the driving process needs little memory and the last blocks of one slide run
beside the first of the next. The number of open slides is bounded, so memory does not grow with their number.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from wsipsm.cohort.discover import CohortSlide
from wsipsm.cohort.fetch import Fetcher
from wsipsm.config import RunOptions
from wsipsm.errors import BudgetError, DiskFullError, WsipsmError, one_line
from wsipsm.events import BlockDone, BlockFailed, BlockReport, Listener, SlideDone, StageStarted
from wsipsm.executors.task import Executor, ExecutorLostError, Outcome, Source
from wsipsm.results.slide_folder import locked_slide_folder
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir
from wsipsm.stages.block import SlideJob, release_worker, segment_block
from wsipsm.stages.finish import finish_slide
from wsipsm.stages.prepare import PreparedSlide, finished_before, prepare_slide
from wsipsm.stages.segment import STOPS_THE_SLIDE, Segmented, fitted_plan
from wsipsm.tiling import Block


@dataclass(frozen=True, slots=True)
class PrepareTask:
    """A task that plans a slide."""

    slide: int
    """Position of the slide in the cohort."""
    path: str
    out_dir: str
    options: RunOptions
    name: str
    address: str = ""
    """Address that the slide was fetched from; empty for one on a disk."""


@dataclass(frozen=True, slots=True)
class BlockTask:
    """A task that finds the nuclei of a block."""

    slide: int
    job: SlideJob
    block: Block


@dataclass(frozen=True, slots=True)
class FinishTask:
    """A task that writes a slide's results."""

    slide: int
    prepared: PreparedSlide
    segmented: Segmented
    options: RunOptions


Task: TypeAlias = PrepareTask | BlockTask | FinishTask
Done: TypeAlias = PreparedSlide | RunSummary | BlockReport


def do_task(task: Task) -> Done:
    """Do one step of a slide; executors run this function, here or on a worker."""
    match task:
        case PrepareTask():
            return prepare_slide(task.path, task.out_dir, task.options, task.name, task.address)
        case BlockTask():
            return segment_block(task.job, task.block)
        case FinishTask(prepared=prepared):
            # A worker that is lost after it has done this step has removed the shards, so the step cannot be repeated.
            finished = finished_before(RunDir(prepared.folder), prepared.request)
            if finished is not None:
                return finished.replaced(was_done=False)
            return finish_slide(prepared, task.segmented, task.options)


@dataclass(slots=True)
class _Open:
    """A slide between its plan and its results."""

    prepared: PreparedSlide
    segmented: Segmented
    n_left: int
    first_error: Exception | None = None
    started: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, slots=True)
class SlideEnd:
    """The outcome of a slide: a summary, or the reason why there is none."""

    slide: int
    summary: RunSummary | None
    reason: str = ""


class SlideFlow:
    """A :class:`~wsipsm.executors.task.Source` of the tasks of many slides, which also receives their outcomes.

    Parameters
    ----------
    slides
        Slides to run, each with its position in the cohort, in this order.
    out_dir
        Folder of the cohort.
    options
        Function that returns the options of a slide.
    executor
        Executor that runs the tasks.
    listener
        Listener that is called with every event.
    fetcher
        Fetcher of the slides' files.
    """

    def __init__(
        self,
        slides: Sequence[tuple[int, CohortSlide]],
        out_dir: Path,
        options: Callable[[CohortSlide], RunOptions],
        executor: Executor,
        listener: Listener,
        fetcher: Fetcher,
    ) -> None:
        self._slides = dict(slides)
        self._waiting = deque(self._slides)
        self._out_dir = out_dir
        self._options = options
        self._executor = executor
        self._announce = listener
        self._fetcher = fetcher
        self._opened: dict[int, _Open] = {}
        self._ready: deque[Task] = deque()
        self._n_begun = 0
        self._n_in_flight = 0
        self._not_begun: list[tuple[int, Exception]] = []
        self._locks: dict[int, ExitStack] = {}
        """Locks of the folders of the slides that are between their plan and their results."""

    def run(self) -> Iterator[SlideEnd]:
        """Run all slides and yield the end of each, in the order in which they finish."""
        try:
            source: Source[Task] = self
            while self._waiting:
                for outcome in self._executor.run(do_task, source):
                    self._n_in_flight -= 1
                    if isinstance(outcome.error, (DiskFullError, ExecutorLostError)):
                        raise outcome.error
                    yield from self._take_outcome(outcome)
                    yield from self._end_not_begun()
                yield from self._end_not_begun()
        finally:
            for lock in self._locks.values():
                lock.close()
            release_worker()

    def take(self) -> Task | None:
        """Return the next task: the plan of a further slide where blocks run low, else a task that is ready."""
        task = self._next_plan() or (self._ready.popleft() if self._ready else None)
        self._n_in_flight += task is not None
        return task

    def _next_plan(self) -> PrepareTask | None:
        """Make the task that plans the next slide, if blocks run low, one more may be open and its file is there."""
        n_workers = self._executor.n_workers
        # Enough slides are open to keep every worker busy even when each slide has a single block.
        most = 2 * n_workers + 2 if n_workers else 1
        more_needed = len(self._ready) < most and self._n_begun < most
        while self._waiting and more_needed and (n_workers or not self._ready):
            number = self._waiting[0]
            slide = self._slides[number]
            try:
                # Wait for the file only when no other work is left.
                path = self._fetcher.path_of(number, slide, wait=not self._ready and not self._n_in_flight)
                if path is None:
                    return None
                self._lock(number)
            except Exception as error:  # noqa: BLE001  the failure ends this slide, not the cohort
                self._not_begun.append((self._waiting.popleft(), error))
                continue
            self._waiting.popleft()
            self._n_begun += 1
            if self._waiting:
                self._fetcher.start(self._waiting[0], self._slides[self._waiting[0]])
            self._announce(StageStarted("plan", slide.source))
            # The paths must be absolute, since each worker of a running scheduler has another current folder.
            absolute, out_dir = os.path.abspath(path), os.path.abspath(self._out_dir)
            address = "" if slide.url is None else slide.source
            return PrepareTask(number, absolute, out_dir, self._options(slide), slide.id, address)
        return None

    def _lock(self, number: int) -> None:
        """Lock a slide's folder until the slide has ended, since no other command may write into it meanwhile."""
        self._locks[number] = ExitStack()
        self._locks[number].enter_context(locked_slide_folder(self._out_dir / self._slides[number].id, in_cohort=True))

    def _end_not_begun(self) -> Iterator[SlideEnd]:
        while self._not_begun:
            number, error = self._not_begun.pop(0)
            if isinstance(error, DiskFullError):
                raise error
            self._n_begun += 1  # _end, which every slide comes to, decreases it by one
            yield self._fail(number, error)

    def _take_outcome(self, outcome: Outcome[Task, Done]) -> Iterator[SlideEnd]:
        task = outcome.task
        match outcome.result:
            case None:
                yield from self._take_error(task, outcome.error or RuntimeError("no result"))
            case RunSummary() as summary:
                yield self._end(SlideEnd(task.slide, summary))
            case PreparedSlide() as prepared:
                yield from self._open(task.slide, prepared)
            case BlockReport() as report if task.slide in self._opened:
                opened = self._opened[task.slide]
                opened.segmented.reports[report.index] = report
                self._announce(BlockDone(self._source_of(task.slide), report))
                yield from self._count_down(task.slide)

    def _open(self, number: int, prepared: PreparedSlide) -> Iterator[SlideEnd]:
        n_workers = self._executor.n_workers
        self._announce(replace(prepared.announcement(n_workers), slide=self._source_of(number)))
        todo = prepared.todo
        self._opened[number] = _Open(prepared, Segmented(dict(prepared.before)), len(todo))
        if not todo:
            self._finish(number)
            return
        try:
            plan = fitted_plan(prepared, self._options(self._slides[number]), n_workers)
        except (BudgetError, OSError) as error:  # too large for the memory, or the folder is absent now
            yield self._fail(number, error)
            return
        self._announce(StageStarted("segment", self._source_of(number)))
        self._ready.extend(BlockTask(number, plan.job, block) for block in todo)

    def _take_error(self, task: Task, error: Exception) -> Iterator[SlideEnd]:
        if not isinstance(task, BlockTask):
            yield self._fail(task.slide, error)
            return
        opened = self._opened.get(task.slide)
        if opened is None:
            return  # the slide has failed since this block was started
        if isinstance(error, STOPS_THE_SLIDE):
            yield self._fail(task.slide, error)
            return
        reason = f"{type(error).__name__}: {error}"
        opened.segmented.failures[task.block.index] = reason
        opened.first_error = opened.first_error or error
        n_tiles = task.job.geometry.count_tiles(task.block.core)
        self._announce(BlockFailed(self._source_of(task.slide), task.block.index, n_tiles, reason))
        yield from self._count_down(task.slide)

    def _count_down(self, number: int) -> Iterator[SlideEnd]:
        opened = self._opened[number]
        opened.n_left -= 1
        if opened.n_left:
            return
        if opened.first_error is not None and not opened.segmented.reports:
            yield self._fail(number, opened.first_error)
        else:
            self._finish(number)

    def _finish(self, number: int) -> None:
        opened = self._opened[number]
        opened.segmented.seconds = round(time.perf_counter() - opened.started, 3)
        self._announce(StageStarted("write", self._source_of(number)))
        options = self._options(self._slides[number])
        self._ready.appendleft(FinishTask(number, opened.prepared, opened.segmented, options))

    def _fail(self, number: int, error: Exception) -> SlideEnd:
        # The slide's other blocks would fail too, or be computed without use.
        self._ready = deque(task for task in self._ready if task.slide != number)
        known = isinstance(error, WsipsmError)
        text = one_line(error)
        return self._end(SlideEnd(number, None, text if known else f"unexpected {type(error).__name__}: {text}"))

    def _end(self, end: SlideEnd) -> SlideEnd:
        self._n_begun -= 1
        self._opened.pop(end.slide, None)
        self._fetcher.release(end.slide)
        if (lock := self._locks.pop(end.slide, None)) is not None:
            lock.close()
        if end.summary is not None:
            self._announce(SlideDone(self._source_of(end.slide), end.summary))
        return end

    def _source_of(self, number: int) -> str:
        return self._slides[number].source

"""Listeners that show the progress of a run on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO

from wsipsm.cli.terminal import clean_line, show_on
from wsipsm.events import (
    BlockDone,
    BlockFailed,
    CohortPlanned,
    Event,
    Listener,
    PoolOpened,
    RunPlanned,
    SlideDone,
    SlideFailed,
    SlidesChecked,
    StageStarted,
    ignore_events,
)

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_PERIOD_S = 5.0
"""Seconds between plain lines; these often go to log files, which more lines would fill."""

N_SHOWN_FAILURES = 5
"""Number of failed blocks that are shown for one slide; the same cause often makes all blocks fail."""

_STAGE_TEXTS = {"plan": "examining the slide", "segment": "finding nuclei", "write": "writing results"}


@dataclass
class SlideCounts:
    """Counts of blocks, tiles and nuclei in the run of one slide."""

    slide: str
    n_blocks: int = 0
    n_blocks_done: int = 0
    n_failed: int = 0
    n_tiles: int = 0
    n_tiles_done: int = 0
    n_tiles_before: int = 0
    n_nuclei: int = 0
    clock: Callable[[], float] = time.monotonic
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.clock()

    @classmethod
    def of_plan(cls, plan: RunPlanned, clock: Callable[[], float] = time.monotonic) -> SlideCounts:
        """Start with the counts of blocks, tiles and nuclei that an earlier run left."""
        return cls(
            slide=plan.slide,
            n_blocks=plan.n_blocks,
            n_blocks_done=plan.n_done_before,
            n_tiles=plan.n_tiles,
            n_tiles_done=plan.n_tiles_before,
            n_tiles_before=plan.n_tiles_before,
            n_nuclei=plan.n_nuclei_before,
            clock=clock,
        )

    def add(self, event: BlockDone | BlockFailed) -> None:
        """Count a block."""
        self.n_blocks_done += 1
        if isinstance(event, BlockFailed):
            self.n_failed += 1
            self.n_tiles_done += event.n_tiles
        else:
            self.n_failed += bool(event.report.failed)
            self.n_tiles_done += event.report.n_tiles
            self.n_nuclei += event.report.n_nuclei

    @property
    def tiles_per_s(self) -> float:
        """Tiles per second of this run; tiles of an earlier run do not count."""
        elapsed = self.clock() - self.started_s
        return (self.n_tiles_done - self.n_tiles_before) / elapsed if elapsed > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until the last tile, at the speed so far; None before the first tile."""
        speed = self.tiles_per_s
        return (self.n_tiles - self.n_tiles_done) / speed if speed > 0 else None

    def __str__(self) -> str:
        left = "" if self.left_s is None else f", {_duration(self.left_s)} left"
        failed = f", {self.n_failed} with failed parts" if self.n_failed else ""
        return (
            f"{self.n_blocks_done}/{self.n_blocks} blocks, {self.n_tiles_done}/{self.n_tiles} tiles "
            f"({self.tiles_per_s:.1f}/s), {self.n_nuclei:,} nuclei so far{failed}{left}"
        )


class PlainProgress:
    """Writes a line when a stage begins or a slide ends, and every few seconds in between."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._counts: dict[str, SlideCounts] = {}
        self._last_s = clock()

    def __call__(self, event: Event) -> None:
        """Take an event of a run."""
        match event:
            case SlidesChecked(n_done, n_slides):
                self._tick_check(n_done, n_slides)
            case CohortPlanned(slides):
                self._line(f"{len(slides)} slides")
            case PoolOpened():
                self._line(_pool_line(event))
            case StageStarted(name, slide):
                self._line(f"{_short(slide)}: {_STAGE_TEXTS.get(name, name)}")
            case RunPlanned():
                self._counts[event.slide] = SlideCounts.of_plan(event, self._clock)
                self._last_s = self._clock()
                for line in _plan_lines(event):
                    self._line(line)
            case BlockDone() | BlockFailed():
                counts = self._counts.setdefault(event.slide, SlideCounts(event.slide, clock=self._clock))
                counts.add(event)
                for line in _failure_lines(event, counts.n_failed):
                    self._line(line)
                self._tick(counts)
            case SlideFailed(slide, reason):
                self._counts.pop(slide, None)
                self._line(f"{_short(slide)}: failed: {reason}")
            case SlideDone(slide):
                self._counts.pop(slide, None)
                self._line(f"{_short(slide)}: done")

    def _tick_check(self, n_done: int, n_slides: int) -> None:
        now = self._clock()
        if now - self._last_s >= PLAIN_PERIOD_S:
            self._last_s = now
            self._line(f"checked {n_done} of {n_slides} slides")

    def _tick(self, counts: SlideCounts) -> None:
        now = self._clock()
        if now - self._last_s >= PLAIN_PERIOD_S or counts.n_blocks_done == counts.n_blocks:
            self._last_s = now
            self._line(f"{_short(counts.slide)}: {counts}")

    def _line(self, text: str) -> None:
        show_on(self._stream, text)


class BarProgress:
    """Draws a bar for each slide in progress, and above them one for the cohort where there is one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._counts: dict[str, SlideCounts] = {}
        self._cohort: Any = None
        self._check: Any = None
        self._bars: dict[str, Any] = {}
        self._ended: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Take an event of a run."""
        match event:
            case SlidesChecked(n_done, n_slides):
                self._show_check(n_done, n_slides)
            case CohortPlanned(slides):
                self._cohort = self._progress.add_task("slides", total=len(slides), facts=f"0/{len(slides)}")
            case PoolOpened():
                self._line(_pool_line(event))
            case StageStarted(name, slide):
                self._show_stage(name, slide)
            case RunPlanned():
                counts = self._counts[event.slide] = SlideCounts.of_plan(event)
                for line in _plan_lines(event):
                    self._line(line)
                self._show_counts(counts)
            case BlockDone() | BlockFailed():
                counts = self._counts.setdefault(event.slide, SlideCounts(event.slide))
                counts.add(event)
                for line in _failure_lines(event, counts.n_failed):
                    self._line(line)
                self._show_counts(counts)
            case SlideFailed(slide, reason):
                self._line(f"{_short(slide)}: failed: {reason}")
                self._end_slide(slide)
            case SlideDone(slide):
                self._end_slide(slide)

    def _line(self, text: str) -> None:
        self._progress.console.print(clean_line(text), markup=False, highlight=False)

    def _show_check(self, n_done: int, n_slides: int) -> None:
        if self._check is None:
            self._check = self._progress.add_task("checking the slides", total=n_slides, facts="")
        self._progress.update(self._check, completed=n_done, facts=f"{n_done}/{n_slides}")
        if n_done == n_slides:
            self._progress.remove_task(self._check)
            self._check = None

    def _show_stage(self, name: str, slide: str) -> None:
        if slide not in self._bars:
            self._bars[slide] = self._progress.add_task("", total=None, facts="")
        text = f"{_short(slide)}: {_STAGE_TEXTS.get(name, name)}"
        if name == "segment":
            self._progress.update(self._bars[slide], description=text)
        else:
            self._progress.update(self._bars[slide], description=text, total=None, facts="")

    def _show_counts(self, counts: SlideCounts) -> None:
        if counts.slide not in self._bars:
            self._show_stage("segment", counts.slide)
        total = max(1, counts.n_tiles)
        bar = self._bars[counts.slide]
        self._progress.update(bar, total=total, completed=counts.n_tiles_done, facts=str(counts))

    def _end_slide(self, slide: str) -> None:
        self._counts.pop(slide, None)
        if slide in self._bars:
            self._progress.remove_task(self._bars.pop(slide))
        if self._cohort is not None and slide not in self._ended:
            self._ended.add(slide)  # a failed slide is tried again and ends twice
            self._progress.advance(self._cohort)
            task = next(task for task in self._progress.tasks if task.id == self._cohort)
            self._progress.update(self._cohort, facts=f"{task.completed:.0f}/{task.total:.0f}")


@contextmanager
def open_listener(silent: bool) -> Iterator[Listener]:
    """Give a listener that draws bars where stderr is a terminal, and writes plain lines elsewhere.

    Parameters
    ----------
    silent
        Whether nothing is shown, as for ``--quiet`` and ``--json``.
    """
    if silent:
        yield ignore_events
    elif not sys.stderr.isatty():
        yield PlainProgress(sys.stderr)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}", markup=False),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield BarProgress(progress)


@contextmanager
def open_announcer(silent: bool) -> Iterator[Callable[[str], None]]:
    """Give a function that writes a line to stderr, or does nothing."""

    def announce(line: str) -> None:
        show_on(sys.stderr, line)

    yield (lambda line: None) if silent else announce


def _short(slide: str) -> str:
    return clean_line(PurePath(slide).name)


def _pool_line(pool: PoolOpened) -> str:
    workers = f"{pool.n_workers} workers" if pool.n_workers else "working in this process"
    return workers if pool.dashboard is None else f"{workers}, shown on {pool.dashboard}"


def _plan_lines(plan: RunPlanned) -> list[str]:
    slide = _short(plan.slide)
    where = "this process" if plan.n_workers == 0 else f"{plan.n_workers} worker{'s' if plan.n_workers > 1 else ''}"
    before = f", {plan.n_done_before} of them done before" if plan.n_done_before else ""
    lines = [f"{slide}: FLAG: {flag}" for flag in plan.flags]
    lines += [f"{slide}: {note}" for note in plan.notes]
    return [*lines, f"{slide}: {plan.n_blocks} blocks, {plan.n_tiles} tiles{before}; {where}"]


def _failure_lines(event: BlockDone | BlockFailed, n_failed: int) -> list[str]:
    if isinstance(event, BlockDone) or n_failed > N_SHOWN_FAILURES:
        return []
    line = f"{_short(event.slide)}: block {event.index} failed: {event.reason}"
    return [line, "further failures are only counted"] if n_failed == N_SHOWN_FAILURES else [line]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

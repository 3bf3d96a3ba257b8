"""A study: every slide through one pool of workers, and a table with a row a slide."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from wsipsm.config import RunOptions
from wsipsm.engine.budget import project_budget
from wsipsm.engine.events import CohortPlanned, Event, Listener, SlideFailed, SlidesChecked
from wsipsm.engine.task import Executor
from wsipsm.errors import TooManyFailuresError
from wsipsm.folderlock import FolderLock, hold_folder
from wsipsm.rundir import output_error
from wsipsm.slide.remote import DEFAULT_CACHE_BYTES, SlideCache
from wsipsm.stages.check import check_slides
from wsipsm.stages.cohort_table import COLUMNS, CSV_NAME, FAILED, INCOMPLETE, CohortRow, CohortSummary, write_table
from wsipsm.stages.discover import CohortSlide, Problem, read_study, refusal
from wsipsm.stages.fetch import Fetcher
from wsipsm.stages.flow import SlideEnd, SlideFlow
from wsipsm.stages.journal import Journal
from wsipsm.stages.segment import opened_executor

_USUAL_HALO_PX, _USUAL_MARGIN_PX = 288, 160
_TABLE_PERIOD_S = 2.0
"""A table of ten thousand rows is not written after each of them."""
CACHE_NAME = "slides-by-address"
PAUSES_S = (5.0, 60.0)
"""Before the second try of what failed, and before each further one: a shared folder may be away for a minute."""


@dataclass(frozen=True, slots=True)
class CohortOptions:
    """How a study deals with failures."""

    retry: int = 1
    """Further tries of a slide that failed or is incomplete, after all others."""
    max_failures: int | None = None
    """The study stops when more slides than that failed; None: it never does."""
    pauses_s: tuple[float, ...] = PAUSES_S
    """Before each further try; the last one holds for all that follow."""
    skip_bad: bool = False
    """Go on without slides that cannot be used; they are rows that say why."""
    cache: Path | None = None
    """Folder for slides by address; None: one in the study's folder."""
    cache_bytes: int = DEFAULT_CACHE_BYTES
    """That it may hold."""


def run_cohort(
    sources: Sequence[str | Path],
    out_dir: str | Path,
    options: RunOptions,
    listener: Listener,
    cohort_options: CohortOptions | None = None,
) -> CohortSummary:
    """Run every slide of a study.

    All slides are looked at before work starts. A slide that fails later becomes a row that says why. ``cohort.csv``
    and ``cohort.parquet`` show slides as they finish; started again, finished slides are not done twice.

    Parameters
    ----------
    sources
        Slides, folders of slides, patterns, addresses, or manifests.
    out_dir
        Takes the table, the journal and a folder a slide.
    options
        Of every run; a manifest's mpp, model and roi take their place where given.
    listener
        Told what happens.
    cohort_options
        How failures are dealt with.

    Raises
    ------
    UsageError
        When the sources name no slide, slides cannot be used (all are told, unless ``skip_bad``), another command
        works on the folder, or what runs the blocks cannot be opened.
    OutputError
        When table or journal cannot be written, or the disk is full.
    TooManyFailuresError
        When more slides failed than ``max_failures``.
    """
    out, how = Path(out_dir), cohort_options or CohortOptions()
    found = read_study([str(source) for source in sources], out, tuple(COLUMNS))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    with hold_folder(out) as lock, Journal(out) as journal:
        cache = _open_cache(found.slides, out, how)
        looked = check_slides(found.slides, options, cache, lambda n, of: listener(SlidesChecked(n, of)))
        problems = [*found.problems, *looked]
        if problems and not how.skip_bad:
            raise refusal(problems, len(found.slides))
        with Fetcher(cache) as fetcher:
            study = RunningStudy(out, found.slides, options, how, listener, journal, lock, fetcher)
            study.run(problems)
    return CohortSummary(str(out / CSV_NAME), tuple(study.rows))


def _open_cache(slides: Sequence[CohortSlide], out: Path, how: CohortOptions) -> SlideCache | None:
    if not any(slide.url for slide in slides):
        return None
    return SlideCache(how.cache or out / CACHE_NAME, how.cache_bytes)


class RunningStudy:
    """The rows of a study, and what is still to be done for them.

    Parameters
    ----------
    out, slides, options, cohort_options, listener
        As `run_cohort` has them.
    journal, lock, fetcher
        Of the folder, open.
    """

    def __init__(
        self,
        out: Path,
        slides: Sequence[CohortSlide],
        options: RunOptions,
        cohort_options: CohortOptions,
        listener: Listener,
        journal: Journal,
        lock: FolderLock,
        fetcher: Fetcher,
    ) -> None:
        self._fetcher = fetcher
        self._out, self._slides, self._options, self._how = out, slides, options, cohort_options
        self._listener, self._journal, self._lock = listener, journal, lock
        self._written_s = -_TABLE_PERIOD_S
        self.rows = [_row_of(slide) for slide in slides]

    def run(self, problems: Sequence[Problem] = ()) -> None:
        """Do all slides without a problem, then those that failed again."""
        bad = {problem.slide_id: problem.reason for problem in reversed(problems)}
        self.rows = [replace(row, status=FAILED, reason=bad[row.id]) if row.id in bad else row for row in self.rows]
        write_table(self._out, self.rows)
        self._journal.write("started", n_slides=len(self.rows), note=self._lock.told)
        self._tell(CohortPlanned(tuple(row.slide for row in self.rows)))
        for row in self.rows:
            if row.status == FAILED:
                self._tell(SlideFailed(row.slide, row.reason))
        todo = [number for number, row in enumerate(self.rows) if row.status != FAILED]
        try:
            with self._opened_executor() as executor:
                for attempt in range(self._how.retry + 1):
                    if attempt:
                        self._pause(attempt, len(todo))
                    todo = self._attempt(todo, executor)
                    if not todo:
                        break
        finally:
            write_table(self._out, self.rows)
        self._journal.write("ended", n_failed=sum(row.status == FAILED for row in self.rows))

    def _opened_executor(self) -> AbstractContextManager[Executor]:
        options = self._options
        budget = project_budget(options.block_px, _USUAL_HALO_PX, options.tile_px * 5 // 4, _USUAL_MARGIN_PX, 0.0)
        return opened_executor(options, budget=budget)

    def _attempt(self, todo: Sequence[int], executor: Executor) -> list[int]:
        """Try slides; gives those that may be tried again."""
        again = []
        flow = SlideFlow(
            [(number, self._slides[number]) for number in todo],
            self._out,
            self._options_of,
            executor,
            self._tell,
            self._fetcher,
        )
        for end in flow.run():
            self._lock.check()
            row = self._take_end(end)
            if row.status in (FAILED, INCOMPLETE):
                again.append(end.slide)
            self._check_failures()
        return sorted(again)

    def _take_end(self, end: SlideEnd) -> CohortRow:
        row = self.rows[end.slide]
        row = replace(row, attempts=row.attempts + 1)
        if end.summary is not None:
            row = row.finished(end.summary)
        else:
            row = replace(row, status=FAILED, reason=end.reason)
            self._tell(SlideFailed(row.slide, end.reason))
        self.rows[end.slide] = row
        if time.monotonic() - self._written_s >= _TABLE_PERIOD_S:
            write_table(self._out, self.rows)
            self._written_s = time.monotonic()
        return row

    def _check_failures(self) -> None:
        most = self._how.max_failures
        if most is None:
            return
        failed = [row for row in self.rows if row.status == FAILED]
        if len(failed) > most:
            raise TooManyFailuresError(
                f"{self._out}: {len(failed)} slides failed, the last one {failed[-1].slide} ({failed[-1].reason}); at "
                f"most {most} are allowed by --max-failures. Correct what failed, then run the same command again."
            )

    def _pause(self, attempt: int, n_slides: int) -> None:
        pause_s = self._how.pauses_s[min(attempt, len(self._how.pauses_s)) - 1]
        self._journal.write("trying again", attempt=attempt + 1, n_slides=n_slides, pause_s=pause_s)
        time.sleep(pause_s)

    def _options_of(self, slide: CohortSlide) -> RunOptions:
        own = {name: value for name in ("mpp", "model", "roi") if (value := getattr(slide, name)) is not None}
        return RunOptions(**{**self._options.model_dump(), **own})

    def _tell(self, event: Event) -> None:
        self._journal(event)
        self._listener(event)


def _row_of(slide: CohortSlide) -> CohortRow:
    return CohortRow(slide.id, slide.source, slide.group, slide.patient, extra=dict(slide.extra))

"""The run of a cohort: all slides go through one pool of workers, and a table gets a row for each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from wsipsm.cohort.check import check_slides
from wsipsm.cohort.discover import CohortSlide, Problem, read_cohort, refusal
from wsipsm.cohort.fetch import Fetcher
from wsipsm.cohort.fixed_stain import (
    BATCH,
    MAX_SLIDES,
    SampleTask,
    StainSample,
    fit_fixed_stain,
    read_fixed_stain,
    sample_stain,
    write_fixed_stain,
)
from wsipsm.cohort.flow import SlideEnd, SlideFlow
from wsipsm.cohort.ids import keep_known, read_known
from wsipsm.cohort.journal import Journal
from wsipsm.cohort.page import CohortReport, flag_drift
from wsipsm.cohort.request import CohortOptions, keep_request
from wsipsm.cohort.table import (
    COLUMNS,
    CSV_NAME,
    DONE,
    FAILED,
    INCOMPLETE,
    CohortRow,
    CohortSummary,
    write_table,
)
from wsipsm.config import FixedStain, RunOptions
from wsipsm.errors import DiskFullError, TooManyFailuresError, UsageError, WsipsmError, one_line
from wsipsm.events import CohortPlanned, Event, Listener, PoolOpened, SlideFailed, SlidesChecked, StageStarted
from wsipsm.executors.budget import project_budget
from wsipsm.executors.task import Executor
from wsipsm.folderlock import FolderLock, hold_folder
from wsipsm.keys import Artefact
from wsipsm.remote.cache import SlideCache
from wsipsm.results.provenance import worker_code
from wsipsm.stages.block_size import wanted_sides
from wsipsm.stages.segment import opened_executor

_USUAL_HALO_PX, _USUAL_MARGIN_PX = 288, 160
_TABLE_PERIOD_S = 2.0
"""Seconds between two versions of the table, since writing ten thousand rows after each slide would take too long."""
CACHE_NAME = "slides-by-address"


def run_cohort(
    sources: Sequence[str | Path],
    out_dir: str | Path,
    options: RunOptions,
    listener: Listener,
    cohort_options: CohortOptions | None = None,
) -> CohortSummary:
    """Run every slide of a cohort.

    All slides are checked before work starts. For a slide that fails later the table has the reason. ``cohort.csv``,
    ``cohort.parquet`` and the page ``cohort.html`` show slides as they finish. When the cohort is started again,
    finished slides are not analysed anew.

    Parameters
    ----------
    sources
        Slides, folders of slides, patterns, addresses, or manifests.
    out_dir
        Folder that takes the table, the journal and a folder for each slide.
    options
        Options of every run; a manifest's mpp, image, model, marker and roi take their place where given.
    listener
        Listener that is called with every event.
    cohort_options
        Options on failures and on what slides share; None stands for the defaults.

    Raises
    ------
    UsageError
        When the sources name no slide, slides cannot be used (all are named, unless ``skip_bad``), another command
        works on the folder, or the executor cannot be started.
    OutputError
        When table or journal cannot be written, or the disk is full.
    TooManyFailuresError
        When more slides failed than ``max_failures``.

    Examples
    --------
    >>> events = []
    >>> cohort = run_cohort(["case.tif"], "cohort", RunOptions(workers=0), listener=events.append)
    >>> [row.status for row in cohort.rows]
    ['done']
    """
    out, how = Path(out_dir), cohort_options or CohortOptions()
    # A class that is absent from some slides' annotations only is hardly a typing error.
    options = options.model_copy(update={"absent_class_is_error": False})
    chosen = options.with_inference(elsewhere=how.slurm is not None)
    found = read_cohort([str(source) for source in sources], out, tuple(COLUMNS), options.image)
    _require_annotations(options, found.slides)
    with hold_folder(out) as lock, Journal(out) as journal:
        cache = _open_cache(found.slides, out, how, journal)
        unusable = check_slides(found.slides, options, cache, lambda n, of: listener(SlidesChecked(n, of)))
        problems = [*found.problems, *unusable]
        if problems and not how.skip_bad:
            raise refusal(problems, len(found.slides))
        if read_known(out) != found.known_before:
            raise UsageError(f"{out}: another command has changed its list of slides. Run the command again.")
        keep_known(out, found.known)
        keep_request(out, [str(source) for source in sources], options, how)
        with Fetcher(cache) as fetcher:
            cohort = RunningCohort(out, found.slides, chosen, how, listener, journal, lock, fetcher)
            cohort.run(problems)
    return CohortSummary(str(out / CSV_NAME), tuple(cohort.rows))


def _require_annotations(options: RunOptions, slides: Sequence[CohortSlide]) -> None:
    """Refuse a choice of annotations when no slide has any, since it would have no effect and nobody would notice."""
    given = {
        "--roi-class": options.roi_class,
        "--exclude-class": options.exclude_class,
        "--tma-cores": options.tma_cores or None,
    }
    flags = [flag for flag, value in given.items() if value is not None]
    if flags and options.roi is None and all(slide.roi is None for slide in slides):
        raise UsageError(
            f"{flags[0]}: given where no slide has a region; a GeoJSON with annotations is needed. Add --roi, or a "
            "column roi to the manifest."
        )


def _open_cache(slides: Sequence[CohortSlide], out: Path, how: CohortOptions, journal: Journal) -> SlideCache | None:
    if not any(slide.url for slide in slides):
        return None
    return SlideCache(
        how.cache or out / CACHE_NAME,
        how.cache_bytes,
        allow_private=how.allow_private_addresses,
        announce=lambda sentence: journal.write("redirected", reason=sentence),
    )


class RunningCohort:
    """A cohort while it runs: its rows, and the attempts to fill them.

    Parameters
    ----------
    out, slides, options, cohort_options, listener
        The same as in `run_cohort`.
    journal, lock, fetcher
        Open journal, lock and fetcher of the folder.
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
        self._report = CohortReport(out)
        self.rows = [_row_of(slide) for slide in slides]

    def run(self, problems: Sequence[Problem] = ()) -> None:
        """Run all slides without a problem, then try again those that failed.

        Parameters
        ----------
        problems
            Problems of slides that are left out; their rows get the first reason.
        """
        bad = {problem.slide_id: problem.reason for problem in reversed(problems)}
        self.rows = [replace(row, status=FAILED, reason=bad[row.id]) if row.id in bad else row for row in self.rows]
        write_table(self._out, self.rows)
        self._report.write(self.rows)
        self._journal.write("started", n_slides=len(self.rows), note=self._lock.note)
        self._announce(CohortPlanned(tuple(row.slide for row in self.rows)))
        for row in self.rows:
            if row.status == FAILED:
                self._announce(SlideFailed(row.slide, row.reason))
        todo = [number for number, row in enumerate(self.rows) if row.status != FAILED]
        with self._journalled_when_stopped(), self._opened_executor() as executor:
            self._announce(PoolOpened(executor.n_workers, executor.dashboard))
            self._fix_stain(todo, executor)
            for attempt in range(self._how.retry + 1):
                if attempt:
                    self._pause(attempt, len(todo))
                todo = self._attempt(todo, executor)
                if not todo:
                    break
        self._end()
        self._journal.write("ended", n_failed=sum(row.status == FAILED for row in self.rows))

    @contextmanager
    def _journalled_when_stopped(self) -> Iterator[None]:
        """Write the table, and the reason to the journal, when an error stops the cohort and the disk has room."""
        try:
            yield
        except BaseException as error:
            with suppress(OSError):
                self._journal.write("stopped", reason=f"{type(error).__name__}: {one_line(error)}")
            with suppress(OSError):
                self._end()
            raise

    def _end(self) -> None:
        self.rows = flag_drift(self.rows)
        write_table(self._out, self.rows)
        self._report.write(self.rows, ended=True)

    @contextmanager
    def _opened_executor(self) -> Iterator[Executor]:
        options = self._options
        if self._how.slurm is not None:
            from wsipsm.executors.slurm import opened_slurm, read_slurm_profile

            with opened_slurm(read_slurm_profile(self._how.slurm), worker_code, self._announce_worker) as jobs:
                self._options = options.model_copy(update={"scheduler": jobs.address})
                yield jobs
            return
        # The budget is of blocks of usual size: a slide gets large ones only where memory suffices for all workers.
        sides = wanted_sides(options)[-1]
        budget = project_budget(sides.block_px, _USUAL_HALO_PX, sides.tile_px * 5 // 4, _USUAL_MARGIN_PX, 0.0)
        with opened_executor(options, budget=budget, apart=True, announce=self._announce_worker) as executor:
            yield executor

    def _announce_worker(self, what: str, reason: str) -> None:
        self._journal.write(what, reason=reason)

    def _fix_stain(self, todo: Sequence[int], executor: Executor) -> None:
        """Fit the stains and the cut once for all slides, when the options ask for shared ones."""
        given, seed = self._how.stain_from, self._options.seed
        if given is None:
            return
        if given == BATCH:
            fixed = read_fixed_stain(self._out) or self._fit_batch(todo, executor)
        else:
            (outcome,) = executor.run(sample_stain, [SampleTask(os.path.abspath(given), self._options.mpp, seed)])
            if outcome.result is None:
                raise outcome.error or RuntimeError("no result")
            fixed = fit_fixed_stain([outcome.result], Path(given).name, seed)
        self._journal.write("stain fixed", source=fixed.source, dab_cut_od=fixed.dab_cut_od)
        self._options = self._options.model_copy(update={"stain": fixed})

    def _fit_batch(self, todo: Sequence[int], executor: Executor) -> FixedStain:
        source = f"{len(self._slides)} slides of the cohort"
        fixed = fit_fixed_stain(self._sample(todo, executor), source, self._options.seed)
        write_fixed_stain(self._out, fixed)
        return fixed

    def _sample(self, todo: Sequence[int], executor: Executor) -> list[StainSample]:
        """Sample the pixels of some slides, evenly spaced in the list; one that cannot be read is left out."""
        tasks, options = [], self._options
        chosen = todo[:: max(1, -(-len(todo) // MAX_SLIDES))]
        for number in chosen:
            slide = self._slides[number]
            with suppress(WsipsmError):
                path = self._fetcher.path_of(number, slide, wait=True)
                tasks.append(
                    SampleTask(
                        os.path.abspath(str(path)),
                        slide.mpp or options.mpp,
                        options.seed,
                        slide.image or options.image,
                    )
                )
        samples = {outcome.task: outcome.result for outcome in executor.run(sample_stain, tasks)}
        for number in chosen:
            self._fetcher.release(number)
        # Samples are in the order of the slides, so that the order in which they arrive does not matter.
        return [sample for task in tasks if (sample := samples[task]) is not None]

    def _attempt(self, todo: Sequence[int], executor: Executor) -> list[int]:
        """Try slides, and return those that failed and may be tried again."""
        again = []
        flow = SlideFlow(
            [(number, self._slides[number]) for number in todo],
            self._out,
            self._options_of,
            executor,
            self._announce,
            self._fetcher,
        )
        for end in flow.run():
            self._lock.check()
            row = self._take_end(end)
            if row.status in (FAILED, INCOMPLETE):
                again.append(end.slide)
            self._check_failures()
        again += self._vanished(todo)
        return sorted(again)

    def _vanished(self, tried: Sequence[int]) -> list[int]:
        """Find the slides that finished but whose results are missing now, and mark them as failed.

        A network disk that is absent for a moment can lose files that were written to it.
        """
        missing = []
        for number in tried:
            row = self.rows[number]
            if row.status == DONE and not _has_results(self._out / row.folder):
                reason = f"{self._out / row.folder}: its results are missing; was the folder's disk absent for a while?"
                self.rows[number] = replace(row, status=FAILED, reason=reason)
                self._announce(SlideFailed(row.slide, reason))
                missing.append(number)
        return missing

    def _take_end(self, end: SlideEnd) -> CohortRow:
        row = self.rows[end.slide]
        row = replace(row, attempts=row.attempts + 1)
        if end.summary is not None:
            row = row.finished(end.summary)
        else:
            row = replace(row, status=FAILED, reason=end.reason)
            self._announce(SlideFailed(row.slide, end.reason))
        self.rows[end.slide] = row
        if time.monotonic() - self._written_s >= _TABLE_PERIOD_S:
            self._show_table()
            self._written_s = time.monotonic()
        return row

    def _show_table(self) -> None:
        """Write the table during the run; a folder that cannot be reached for a while does not stop the cohort."""
        try:
            write_table(self._out, self.rows)
            self._report.write(self.rows)
        except DiskFullError:
            raise
        except OSError as error:
            self._journal.write("table not written", reason=one_line(error))

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
        own = {
            name: value
            for name in ("mpp", "image", "model", "marker", "roi")
            if (value := getattr(slide, name)) is not None
        }
        return RunOptions(**{**self._options.model_dump(), **own})

    def _announce(self, event: Event) -> None:
        if isinstance(event, StageStarted) and event.name == "plan":
            self._journal.write("begun", slide=event.slide)  # names the slide if it kills the process
        self._journal(event)
        self._listener(event)


def _row_of(slide: CohortSlide) -> CohortRow:
    return CohortRow(slide.id, slide.source, slide.group, slide.patient, extra=dict(slide.extra))


def _has_results(folder: Path) -> bool:
    try:
        return Artefact.SUMMARY.value in os.listdir(folder)  # a listing renews what a network file system has cached
    except OSError:
        return False

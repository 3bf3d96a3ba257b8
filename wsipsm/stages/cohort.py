"""A study: every slide through the same engine, and a table with a row a slide."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsipsm.config import RunOptions
from wsipsm.engine.budget import project_budget
from wsipsm.engine.events import CohortPlanned, Listener, SlideFailed
from wsipsm.engine.task import Executor, ExecutorLostError, Outcome, R, T
from wsipsm.errors import EXIT_COHORT_PARTIAL, EXIT_INCOMPLETE, EXIT_OK, WsipsmError
from wsipsm.rundir import output_error, write_aside
from wsipsm.stages.discover import CohortSlide, list_slides
from wsipsm.stages.run import run_slide
from wsipsm.stages.segment import opened_executor
from wsipsm.stages.summary import RunSummary

TABLE_NAME = "cohort.csv"
WAITING, DONE, INCOMPLETE, FAILED = "waiting", "done", "incomplete", "failed"
_USUAL_HALO_PX, _USUAL_MARGIN_PX = 288, 160


@dataclass(frozen=True, slots=True)
class CohortRow:
    """A slide in the table; columns in this order."""

    id: str
    slide: str
    status: str = WAITING
    """'waiting', 'done', 'incomplete' (part of the slide was not scored) or 'failed'."""
    reason: str = ""
    model: str = ""
    stain: str = ""
    region: str = ""
    n_nuclei: int | None = None
    n_positive: int | None = None
    n_negative: int | None = None
    labelling_index: float | None = None
    low: float | None = None
    high: float | None = None
    region_area_mm2: float | None = None
    coverage: float | None = None
    seconds: float | None = None
    folder: str = ""

    def finished(self, summary: RunSummary) -> CohortRow:
        """Fill the row from a slide's results."""
        index = summary.labelling_index or {}
        n_lost = len(summary.failed_boxes_px0)
        return replace(
            self,
            status=DONE if summary.is_complete else INCOMPLETE,
            reason="" if summary.is_complete else f"{n_lost} parts could not be read or scored",
            model=summary.model,
            stain=summary.stain,
            region=str(summary.region["name"]),
            n_nuclei=summary.n_nuclei,
            n_positive=summary.n_positive if index else None,
            n_negative=summary.n_negative if index else None,
            labelling_index=index.get("value"),
            low=index.get("low"),
            high=index.get("high"),
            region_area_mm2=summary.region_area_mm2,
            coverage=summary.coverage,
            seconds=summary.seconds.get("total"),
            folder=Path(summary.folder).name,
        )


@dataclass(frozen=True, slots=True)
class CohortSummary:
    """What became of a study."""

    table: str
    """Path of cohort.csv."""
    rows: tuple[CohortRow, ...]

    @property
    def n_slides(self) -> int:
        """All slides."""
        return len(self.rows)

    @property
    def n_done(self) -> int:
        """Slides with results, complete or not."""
        return sum(row.status in (DONE, INCOMPLETE) for row in self.rows)

    @property
    def n_failed(self) -> int:
        """Slides without."""
        return sum(row.status == FAILED for row in self.rows)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Slide and reason."""
        return [(row.slide, row.reason) for row in self.rows if row.status == FAILED]

    @property
    def exit_code(self) -> int:
        """0; 5 when some slides failed; 7 when none did but some are incomplete."""
        if self.n_failed:
            return EXIT_COHORT_PARTIAL
        return EXIT_INCOMPLETE if any(row.status == INCOMPLETE for row in self.rows) else EXIT_OK

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "table": self.table,
            "n_slides": self.n_slides,
            "n_done": self.n_done,
            "n_failed": self.n_failed,
            "slides": [asdict(row) for row in self.rows],
            "exit_code": self.exit_code,
        }


class _SharedExecutor:
    """Opens an executor when the first slide needs one, and keeps it for the others."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._stack = ExitStack()
        self._opened: Executor | None = None
        self.failure: WsipsmError | None = None
        """Why none could be opened: no slide can change that."""

    def _executor(self) -> Executor:
        if self._opened is None:
            options = self._options
            budget = project_budget(options.block_px, _USUAL_HALO_PX, options.tile_px * 5 // 4, _USUAL_MARGIN_PX, 0.0)
            try:
                self._opened = self._stack.enter_context(opened_executor(options, budget=budget))
            except WsipsmError as error:
                self.failure = error
                raise
        return self._opened

    @property
    def n_workers(self) -> int:
        return self._executor().n_workers

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[Outcome[T, R]]:
        return self._executor().run(function, tasks)

    def close(self) -> None:
        self._stack.close()
        self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_cohort(
    sources: Sequence[str | Path], out_dir: str | Path, options: RunOptions, listener: Listener
) -> CohortSummary:
    """Run every slide of a study.

    A slide that fails becomes a row that says why. ``cohort.csv`` is written anew after every slide; started again,
    finished slides are not done twice.

    Parameters
    ----------
    sources
        Slides, folders of slides, or manifests.
    out_dir
        Takes cohort.csv and a folder a slide.
    options
        Of every run; a manifest's mpp, model and roi take their place where given.
    listener
        Told what happens.

    Raises
    ------
    UsageError
        When the sources name no slide, or what runs the blocks cannot be opened.
    OutputError
        When the table cannot be written.
    """
    out = Path(out_dir)
    slides = list_slides(sources, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    rows = [CohortRow(slide.id, str(slide.path)) for slide in slides]
    table = out / TABLE_NAME
    write_table(table, rows)
    listener(CohortPlanned(tuple(row.slide for row in rows)))
    with _SharedExecutor(options) as executor:
        for position, slide in enumerate(slides):
            rows[position] = _run_one(slide, rows[position], out, options, listener, executor)
            write_table(table, rows)
    return CohortSummary(str(table), tuple(rows))


def _run_one(
    slide: CohortSlide, row: CohortRow, out: Path, options: RunOptions, listener: Listener, executor: _SharedExecutor
) -> CohortRow:
    own = {name: value for name in ("mpp", "model", "roi") if (value := getattr(slide, name)) is not None}
    try:
        summary = run_slide(
            slide.path, out, RunOptions(**{**options.model_dump(), **own}), listener, executor, name=slide.id
        )
        return row.finished(summary)
    except ExecutorLostError:
        raise
    except WsipsmError as error:
        if error is executor.failure:
            raise
        reason = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001  the boundary of a slide: no other slide may suffer for it
        reason = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
    listener(SlideFailed(row.slide, reason))
    return replace(row, status=FAILED, reason=reason)


def write_table(path: Path, rows: Sequence[CohortRow]) -> None:
    """Write the table aside and rename it; a missing value is an empty cell."""
    with write_aside(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in fields(CohortRow)])
        for row in rows:
            writer.writerow([_cell(getattr(row, column.name)) for column in fields(CohortRow)])


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value

"""The table of a cohort, with one row per slide, as cohort.csv and cohort.parquet."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wsipsm.errors import EXIT_COHORT_PARTIAL, EXIT_INCOMPLETE, EXIT_OK
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import write_aside
from wsipsm.text import MAX_JSON_CHARS, cell_text, clean_text

CSV_NAME, PARQUET_NAME, PAGE_NAME = "cohort.csv", "cohort.parquet", "cohort.html"
WAITING, DONE, INCOMPLETE, FAILED = "waiting", "done", "incomplete", "failed"


@dataclass(frozen=True, slots=True)
class CohortRow:
    """A slide's row in the table; the columns stand in this order, then come the manifest's other columns."""

    id: str
    """Id of the slide in the cohort, and its folder's name."""
    slide: str
    """Path or address, as given."""
    group: str = ""
    patient: str = ""
    status: str = WAITING
    """'waiting', 'done', 'incomplete' (part of the slide was not scored) or 'failed'."""
    reason: str = ""
    """Why the slide failed or is incomplete."""
    attempts: int = 0
    """Number of times that this command tried the slide."""
    model: str = ""
    stain: str = ""
    marker: str = ""
    """Name of the marker, as reports spell it."""
    region: str = ""
    """Name of what was scored; 'all nuclei' without a region of interest."""
    n_nuclei: int | None = None
    n_positive: int | None = None
    n_negative: int | None = None
    labelling_index: float | None = None
    """Share of positive nuclei, 0..1; None on H&E and where the index is withheld."""
    low: float | None = None
    high: float | None = None
    """95 % Wilson interval of the index, as if nuclei were independent."""
    spatial_low: float | None = None
    spatial_high: float | None = None
    """95 % interval of the index by a spatial-block bootstrap, which allows for clusters of like nuclei."""
    field_mean: float | None = None
    """Mean index over fields of 500 um, each counting once; none where no field holds enough nuclei."""
    field_mean_by_area: float | None = None
    """Mean index over the same fields, each weighted by its area in the region."""
    n_fields: int | None = None
    """Number of fields that were averaged."""
    hot_spot_index: float | None = None
    """Labelling index of the hottest field; none where no place is scorable."""
    hot_spot_n: int | None = None
    hot_spot_low: float | None = None
    hot_spot_high: float | None = None
    """95 % interval of the hot spot's index, corrected for the search for the highest."""
    dab_cut_od: float | None = None
    """DAB optical density from which a nucleus is positive."""
    dab_cut_from: str = ""
    """How the cut was found."""
    share_near_cut: float | None = None
    """Share of nuclei within 0.05 of the cut, 0..1."""
    region_area_mm2: float | None = None
    nuclei_per_mm2: float | None = None
    coverage: float | None = None
    """Share of the region that was read and scored, 0..1."""
    hematoxylin_od: float | None = None
    dab_od: float | None = None
    dab_od_positive: float | None = None
    dab_od_negative: float | None = None
    """Medians over nuclei, optical density."""
    background_level: float | None = None
    """Grey level of empty glass, 0..255."""
    seconds: float | None = None
    """Seconds that the slide's steps took, including the blocks of other slides that ran in between."""
    flags: str = ""
    """Sentences of the picture's checks that are not ok; where one withholds the index, the index is empty."""
    warnings: str = ""
    """Sentences on what limits the index, and notes about the slide."""
    drift: str = ""
    """Which stain statistics lie outside the limits of the cohort's control charts."""
    version: str = ""
    """Version of wsipsm."""
    folder: str = ""
    """Folder of the results, in the cohort's folder."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """The manifest's other columns, unchanged."""

    def finished(self, summary: RunSummary) -> CohortRow:
        """Fill the row from a slide's results."""
        index = summary.labelling_index
        is_scored = summary.scoring.dab_cut_od is not None
        n_lost = len(summary.failed_boxes_px0)
        row = replace(
            self,
            status=DONE if summary.is_complete else INCOMPLETE,
            reason="" if summary.is_complete else f"{n_lost} parts could not be read or scored",
            model=summary.model,
            stain=summary.stain,
            marker=summary.scoring.marker if is_scored else "",
            region=summary.region.name,
            n_nuclei=summary.n_nuclei,
            n_positive=summary.n_positive if is_scored else None,
            n_negative=summary.n_negative if is_scored else None,
            labelling_index=None if index is None else index.value,
            low=None if index is None else index.low,
            high=None if index is None else index.high,
            **asdict(summary.stain_statistics),
            region_area_mm2=summary.region_area_mm2,
            nuclei_per_mm2=summary.nuclei_per_mm2,
            coverage=summary.coverage,
            seconds=summary.seconds.get("total"),
            flags=" ".join(summary.flags),
            warnings=" ".join([*(index.flags if index is not None else ()), *summary.notes]),
            version=summary.version,
            folder=Path(summary.folder).name,
        )
        return row._with_cut(summary)._with_scores(summary)

    def _with_cut(self, summary: RunSummary) -> CohortRow:
        """Fill in the cut, by which nuclei are classed also where the index is withheld; nothing on H&E."""
        cut_od = summary.scoring.dab_cut_od
        if cut_od is None:
            return self
        # Where no fitted cut is plausible, a fixed one is used, and a note says so.
        not_fitted = next((note for note in summary.notes if note.startswith("DAB cut: ")), None)
        cut_from = not_fitted.removeprefix("DAB cut: ") if not_fitted else summary.scoring.cut_from
        return replace(self, dab_cut_od=cut_od, dab_cut_from=cut_from)

    def _with_scores(self, summary: RunSummary) -> CohortRow:
        """Fill in the scores of a slide; one without an index has none."""
        scores = summary.scores
        if scores is None:
            return self
        interval, spot = scores.interval, scores.hot_spot.spot
        return replace(
            self,
            spatial_low=None if interval is None else interval.low,
            spatial_high=None if interval is None else interval.high,
            field_mean=scores.unweighted_mean.value,
            field_mean_by_area=scores.area_weighted_mean.value,
            n_fields=scores.unweighted_mean.n_fields,
            hot_spot_index=None if spot is None else spot.index,
            hot_spot_n=None if spot is None else spot.n,
            hot_spot_low=None if spot is None else spot.low,
            hot_spot_high=None if spot is None else spot.high,
            share_near_cut=scores.cut.share_near,
        )


@dataclass(frozen=True, slots=True)
class CohortSummary:
    """The result of a cohort."""

    table: str
    """Path of cohort.csv."""
    rows: tuple[CohortRow, ...]

    @property
    def page(self) -> str:
        """Path of cohort.html."""
        return str(Path(self.table).with_name(PAGE_NAME))

    @property
    def n_slides(self) -> int:
        """Number of all slides."""
        return len(self.rows)

    @property
    def n_done(self) -> int:
        """Number of slides with results, complete or not."""
        return sum(row.status in (DONE, INCOMPLETE) for row in self.rows)

    @property
    def n_failed(self) -> int:
        """Number of slides without results."""
        return sum(row.status == FAILED for row in self.rows)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Each failed slide and the reason."""
        return [(row.slide, row.reason) for row in self.rows if row.status == FAILED]

    @property
    def exit_code(self) -> int:
        """Exit code: 5 when some slides failed, 7 when none failed but some are incomplete, else 0."""
        if self.n_failed:
            return EXIT_COHORT_PARTIAL
        return EXIT_INCOMPLETE if any(row.status == INCOMPLETE for row in self.rows) else EXIT_OK


_KINDS = {"str": pa.string(), "int": pa.int64(), "int | None": pa.int64(), "float | None": pa.float64()}
COLUMNS: dict[str, pa.DataType] = {
    column.name: _KINDS[str(column.type)] for column in fields(CohortRow) if column.name != "extra"
}
"""Name and type of each column; the manifest's other columns follow as text."""


def write_table(folder: Path, rows: Sequence[CohortRow]) -> None:
    """Write ``cohort.csv`` and ``cohort.parquet``; in the CSV file a missing value is an empty cell.

    Raises
    ------
    OutputError
        When they cannot be written.
    """
    extra = list(dict.fromkeys(name for row in rows for name in row.extra))
    with write_aside(folder / CSV_NAME) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *map(cell_text, extra)])
        for row in rows:
            own = [_cell(getattr(row, name)) for name in COLUMNS]
            writer.writerow([*own, *(_cell(row.extra.get(name, "")) for name in extra)])
    values = {name: pa.array([_plain(getattr(row, name)) for row in rows], kind) for name, kind in COLUMNS.items()}
    carried = {clean_text(name): pa.array([_plain(row.extra.get(name, "")) for row in rows]) for name in extra}
    with write_aside(folder / PARQUET_NAME) as temporary:
        pq.write_table(pa.table({**values, **carried}), temporary)


def _plain(value: Any) -> Any:
    return clean_text(value, MAX_JSON_CHARS) if isinstance(value, str) else value


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return cell_text(value)
    return f"{value:.6g}" if isinstance(value, float) else value

"""Compares a cohort's table with a reference's: reads and joins both, computes agreement, and writes the results."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsipsm.agree.markdown import agreement_markdown
from wsipsm.agree.reader_table import (
    INDEX_COLUMN,
    ReaderTable,
    Reading,
    Source,
    Unit,
    join_tables,
    listed,
    plain_name,
    read_table,
)
from wsipsm.errors import UsageError
from wsipsm.markers.bands import ComparedBands
from wsipsm.markers.registry import DEFAULT_MARKER, marker_of
from wsipsm.rundir import output_error, write_aside
from wsipsm.text import cell_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsipsm.metrics.agreement import BandAgreement, Estimate, LimitsOfAgreement

REPORT_NAME, TABLE_NAME, PLOT_NAME = "agreement.md", "agreement.csv", "bland_altman.png"
_MIN_SLIDES = 3
_ROUND = 9


@dataclass(frozen=True, slots=True)
class AgreementOptions:
    """Options for the columns that are compared, and for the units of their numbers."""

    ref_column: str | None = None
    """Column of the reference; None: the one whose name is usual for an index."""
    column: str | None = None
    """Column of the cohort's table; None: the one whose name is usual for an index."""
    unit: Unit | None = None
    """Unit of the reference; ``count`` applies to both tables. None: found from the values, or an error if unclear."""
    cohort_unit: Unit | None = None
    """Unit of the cohort's table; None: a fraction for ``labelling_index``, as ``wsipsm cohort`` writes it."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the two tables, with the slides that were not compared."""

    path: str
    column: str
    unit: str
    only_here: tuple[str, ...]
    """Slides that the other table lacks."""
    without_value: tuple[tuple[str, str], ...]
    """Slides of both tables that have no value here, and why."""


@dataclass(frozen=True, slots=True)
class AgreementSummary:
    """The result of a comparison: values in percent and differences in percentage points, or both as counts."""

    folder: str
    unit: str
    """'percent' or 'count'."""
    n_slides: int
    reference: Compared
    cohort: Compared
    limits: LimitsOfAgreement
    icc: Estimate
    """ICC(2,1) for absolute agreement."""
    bands: tuple[BandAgreement, ...]
    """Agreement by each banding; empty for counts."""
    notes: tuple[str, ...]


def compare_tables(
    reference_path: str | Path, cohort_path: str | Path, out_dir: str | Path, options: AgreementOptions | None = None
) -> AgreementSummary:
    """Compare a table of reference counts or indices with a cohort's, and write report, table and plot.

    Parameters
    ----------
    reference_path
        CSV file with a column ``slide`` (or ``id``) and an index, or counts.
    cohort_path
        ``cohort.csv``, or a table like the reference.
    out_dir
        Folder for agreement.md, agreement.csv and bland_altman.png; it is made if it does not exist.
    options
        Columns and units; None: those that are found from the tables.

    Raises
    ------
    UsageError
        When a table is invalid or unclear, fewer than three slides are common, all values of a table are equal, or the
        extra ``agree`` is not installed.
    OutputError
        When the results cannot be written.
    """
    options = options or AgreementOptions()
    out = Path(out_dir)
    paths = (Path(reference_path), Path(cohort_path))
    _refuse_overwriting(out, paths)
    sources = _sources(*paths, options)
    tables = (read_table(sources[0]), read_table(sources[1]))
    pairs, *unmatched = join_tables(*tables)
    usable = [pair for pair in pairs if pair[0].value is not None and pair[1].value is not None]
    _check_pairs(tables, sources, pairs, usable, unmatched)
    compared = [
        Compared(
            path=str(table.path),
            column=table.column,
            unit=table.unit.value,
            only_here=tuple(reading.name for reading in rest),
            without_value=tuple((pair[1].name, pair[side].reason) for pair in pairs if pair[side].value is None),
        )
        for side, (table, rest) in enumerate(zip(tables, unmatched, strict=True))
    ]
    notes = [*tables[0].notes, *tables[1].notes]
    partial = [reading.name for _, reading in usable if reading.reason]
    if partial:
        notes.append(f"scored in part only ({len(partial)}): {', '.join(partial)}")
    return _compare(out, usable, (compared[0], compared[1]), tuple(notes))


def _compare(
    out: Path, pairs: Sequence[tuple[Reading, Reading]], compared: tuple[Compared, Compared], notes: tuple[str, ...]
) -> AgreementSummary:
    try:
        from wsipsm.agree.plot import AgreementPicture, draw_agreement
        from wsipsm.metrics import agreement
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("wsipsm"):
            raise
        raise UsageError(
            f"wsipsm agree: {error.name} is not installed; statistics and plot need it. pip install 'wsipsm[agree]'"
        ) from error

    values = np.array([[reference.value, cohort.value] for reference, cohort in pairs], np.float64)
    reference, measured = np.ascontiguousarray(values[:, 0]), np.ascontiguousarray(values[:, 1])
    are_counts = compared[0].unit == Unit.COUNT
    limits = agreement.limits_of_agreement(reference, measured)
    compared_by, why_none = ((), ()) if are_counts else _bands_to_compare_by(pairs)
    bandings = [agreement.Bands.of(one) for one in compared_by]
    summary = AgreementSummary(
        folder=str(out),
        unit="count" if are_counts else "percent",
        n_slides=len(pairs),
        reference=compared[0],
        cohort=compared[1],
        limits=limits,
        icc=agreement.intraclass_correlation(values),
        bands=tuple(agreement.band_agreement(reference, measured, banding) for banding in bandings),
        notes=(*notes, *why_none),
    )
    band_names = [[[b.labels[i] for i in b.assign(column)] for b in bandings] for column in (reference, measured)]
    picture = AgreementPicture(
        slides=[cohort.name for _, cohort in pairs],
        reference=reference,
        cohort=measured,
        bias=limits.bias,
        lower=limits.lower,
        upper=limits.upper,
        unit="" if are_counts else "%",
        cuts=sorted(edge for banding in bandings for edge, _ in banding.edges),
    )
    _make_folder(out)
    with write_aside(out / PLOT_NAME) as temporary:
        draw_agreement(temporary, picture)
    band_columns = [f"{side}_{one.column}" for one in compared_by for side in ("reference", "cohort")]
    _write_table(out / TABLE_NAME, pairs, values, (band_columns, band_names), "" if are_counts else "_percent")
    with write_aside(out / REPORT_NAME) as temporary:
        temporary.write_text(agreement_markdown(summary, PLOT_NAME, compared_by), encoding="utf-8")
    return summary


def _bands_to_compare_by(
    pairs: Sequence[tuple[Reading, Reading]],
) -> tuple[tuple[ComparedBands, ...], tuple[str, ...]]:
    """Choose the bands of the marker that the tables name, or of the default marker; or say why there are none."""
    named = {
        marker_of(reading.marker).name: marker_of(reading.marker)
        for pair in pairs
        for reading in pair
        if reading.marker
    }
    if not named:
        return DEFAULT_MARKER.compared_by, ()
    if len(named) > 1:
        return (), (f"slides of several markers ({', '.join(sorted(named))}): they are not compared by bands",)
    (marker,) = named.values()
    return marker.compared_by, () if marker.compared_by else (f"{marker.name}: no bands of this marker are known",)


def _sources(reference: Path, cohort: Path, options: AgreementOptions) -> tuple[Source, Source]:
    cohort_unit = options.cohort_unit
    if options.unit is Unit.COUNT or cohort_unit is Unit.COUNT:
        if cohort_unit not in (None, Unit.COUNT) or options.unit not in (None, Unit.COUNT):
            raise UsageError(
                f"--unit {options.unit}: given together with --cohort-unit {cohort_unit}; counts can only be compared "
                "with counts. Leave --cohort-unit out."
            )
        return (
            Source(reference, options.ref_column, Unit.COUNT),
            Source(cohort, options.column, Unit.COUNT, "--column", "--unit"),
        )
    if cohort_unit is None and plain_name(options.column or INDEX_COLUMN) == INDEX_COLUMN:
        cohort_unit = Unit.FRACTION
    return (
        Source(reference, options.ref_column, options.unit),
        Source(cohort, options.column, cohort_unit, "--column", "--cohort-unit"),
    )


def _check_pairs(
    tables: Sequence[ReaderTable],
    sources: Sequence[Source],
    pairs: Sequence[tuple[Reading, Reading]],
    usable: Sequence[tuple[Reading, Reading]],
    unmatched: Sequence[Sequence[Reading]],
) -> None:
    """Refuse pairs for which the statistics are not defined."""
    if len(usable) < _MIN_SLIDES:
        empty = [cohort.name for pair in pairs if pair not in usable for cohort in pair[1:]]
        raise UsageError(
            f"{tables[0].path} and {tables[1].path}: {len(usable)} slides have a value in both; at least {_MIN_SLIDES} "
            f"are needed. In both without a value: {listed(empty)}; in the first only: "
            f"{listed([reading.name for reading in unmatched[0]])}; in the second only: "
            f"{listed([reading.name for reading in unmatched[1]])}. Name slides alike in both tables."
        )
    for side, (table, source) in enumerate(zip(tables, sources, strict=True)):
        values = {pair[side].value for pair in usable}
        if len(values) == 1:
            unit = "" if table.unit is Unit.COUNT else " %"
            raise UsageError(
                f"{table.path}: column {table.column!r} is {values.pop():g}{unit} on all {len(usable)} common slides; "
                f"agreement is defined for values that differ. Name another column with {source.column_flag}, or take "
                "slides over the whole range."
            )


def _refuse_overwriting(out: Path, inputs: Sequence[Path]) -> None:
    for path in inputs:
        if path.resolve() in [(out / name).resolve() for name in (REPORT_NAME, TABLE_NAME, PLOT_NAME)]:
            raise UsageError(f"{path}: would be replaced by the result of that name; choose another folder with --out.")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error


def _write_table(
    path: Path,
    pairs: Sequence[tuple[Reading, Reading]],
    values: NDArray[np.float64],
    bands: tuple[Sequence[str], Sequence[Sequence[Sequence[str]]]],
    suffix: str,
) -> None:
    """Write the joined rows with values, mean, difference and bands."""
    band_columns, band_names = bands
    header = ["slide", "reference_name", *(name + suffix for name in ("reference", "cohort", "mean")), "difference"]
    header += band_columns
    with write_aside(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row, ((reference, cohort), (first, second)) in enumerate(zip(pairs, values.tolist(), strict=True)):
            numbers = (first, second, (first + second) / 2, second - first)
            here = [cell_text(side[banding][row]) for banding in range(len(band_names[0])) for side in band_names]
            writer.writerow(
                [
                    cell_text(cohort.name),
                    cell_text(reference.name),
                    *(f"{round(x, _ROUND):.10g}" for x in numbers),
                    *here,
                ]
            )

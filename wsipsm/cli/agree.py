"""``wsipsm agree``: how well a cohort agrees with a pathologist, or with another tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsipsm.cli.options import AsJson, Quiet
from wsipsm.cli.terminal import show_json, show_lines
from wsipsm.errors import UsageError

if TYPE_CHECKING:
    from wsipsm.agree.compare import AgreementSummary
    from wsipsm.agree.reader_table import Unit

Reference = Annotated[
    Path,
    typer.Argument(
        metavar="REF.csv", help="Table with a column slide, and an index or counts of each slide.", show_default=False
    ),
]
Cohort = Annotated[
    Path,
    typer.Argument(
        metavar="COHORT.csv", help="cohort.csv of wsipsm cohort, or a table like REF.csv.", show_default=False
    ),
]
OutDir = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder to write agreement.md, agreement.csv and bland_altman.png into.",
        show_default=False,
    ),
]
RefColumn = Annotated[
    str | None,
    typer.Option("--ref-column", metavar="NAME", help="Column of REF.csv to compare.", show_default="its only index"),
]
Column = Annotated[
    str | None,
    typer.Option("--column", metavar="NAME", help="Column of COHORT.csv to compare.", show_default="its index"),
]
UnitOption = Annotated[
    str | None,
    typer.Option(
        "--unit",
        metavar="percent|fraction|count",
        help="Unit of the numbers in REF.csv; with count, both tables hold counts.",
        show_default="percent if the median is above 1, else needed",
    ),
]
CohortUnit = Annotated[
    str | None,
    typer.Option(
        "--cohort-unit",
        metavar="percent|fraction",
        help="Unit of the numbers in COHORT.csv.",
        show_default="fraction for labelling_index",
    ),
]


def agree(
    reference: Reference,
    cohort: Cohort,
    out: OutDir,
    ref_column: RefColumn = None,
    column: Column = None,
    unit: UnitOption = None,
    cohort_unit: CohortUnit = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare a cohort with reference counts or indices.

    Slides are joined by name. The report gives bias and limits of agreement (Bland-Altman), ICC and kappa by band, each
    with its interval, as a page, a table and a plot, and names slides that only one table has. It needs wsipsm[agree].

    Example: wsipsm agree pathologist.csv results/cohort.csv --out agreement
    """
    from wsipsm.agree.compare import AgreementOptions, compare_tables

    options = AgreementOptions(
        ref_column=ref_column,
        column=column,
        unit=_unit("--unit", unit, "percent, fraction, count"),
        cohort_unit=_unit("--cohort-unit", cohort_unit, "percent, fraction"),
    )
    summary = compare_tables(reference, cohort, out, options)
    if as_json:
        show_json(summary)
    elif not quiet:
        show_lines(_lines_about(summary))


def _unit(flag: str, text: str | None, allowed: str) -> Unit | None:
    from wsipsm.agree.reader_table import Unit

    if text is None:
        return None
    if text not in allowed.split(", "):
        raise UsageError(f"{flag} {text}: unknown; one of {allowed} is needed. See --help.")
    return Unit(text)


def _lines_about(summary: AgreementSummary) -> list[str]:
    from wsipsm.agree.markdown import measure_rows
    from wsipsm.agree.reader_table import listed

    lines = [f"{summary.n_slides} slides compared"]
    for row in measure_rows(summary):
        beside = f"95 % interval {row.interval}" if row.interval else row.note
        lines.append(f"  {row.name}: {row.value} ({beside})")
    for what, table in (("reference", summary.reference), ("cohort", summary.cohort)):
        if table.only_here:
            lines.append(f"  in the {what} only ({len(table.only_here)}): {listed(table.only_here)}")
        if table.without_value:
            named = listed([f"{name} ({reason})" for name, reason in table.without_value])
            lines.append(f"  no value in the {what} ({len(table.without_value)}): {named}")
    lines += [f"  note: {note}" for note in summary.notes]
    return [*lines, f"report in {summary.folder}"]

"""Writes a comparison as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsipsm.agree.compare import AgreementSummary, Compared
    from wsipsm.markers.bands import ComparedBands
    from wsipsm.metrics.agreement import BandAgreement, Estimate

_METHODS = """\
## How the numbers are made
- Differences are cohort minus reference. Limits of agreement are bias ± 1.96 standard deviations of the differences,
  with the intervals of Bland & Altman (Lancet 1986;327:307-310). They presume that the spread of the differences does
  not depend on the mean: look at the plot.
- ICC(2,1) of Shrout & Fleiss (1979), that is ICC(A,1) of McGraw & Wong (1996): two-way random effects, absolute
  agreement, single measurement; interval of McGraw & Wong; computed by pingouin. It depends on the range of the slides.
"""
_BAND_METHODS = """\
- Cohen's kappa, unweighted, with the large-sample interval of Fleiss, Cohen & Everitt (1969), computed by statsmodels.
  With few slides, or an interval that meets 1 or -1, it is rough.
"""
_CAUTION = """\
- Intervals are 95 %, and hold for slides drawn like these. Research use only, not for diagnosis.
"""


def agreement_markdown(summary: AgreementSummary, plot_name: str, compared_by: Sequence[ComparedBands] = ()) -> str:
    """Write a comparison as a page.

    Parameters
    ----------
    summary
        Result of the comparison.
    plot_name
        File name of the plot, in the same folder.
    compared_by
        Bandings by which the slides were compared.
    """
    reference, cohort = summary.reference, summary.cohort
    parts = [
        "# Agreement",
        f"{summary.n_slides} slides: column `{cohort.column}` of `{cohort.path}` ({cohort.unit}) against column "
        f"`{reference.column}` of `{reference.path}` ({reference.unit}).",
        _measures(summary),
        f"![Bland-Altman plot]({plot_name})",
        *(_band_table(bands) for bands in summary.bands),
        "## Slides not compared",
        "\n".join(_not_compared(reference, "reference") + _not_compared(cohort, "cohort")) or "None.",
    ]
    if summary.notes:
        parts += ["## To be checked", "\n".join(f"- {_escaped(note)}" for note in summary.notes)]
    return "\n\n".join([*parts, _METHODS + _band_methods(compared_by) + _CAUTION])


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """A measure of agreement as text."""

    name: str
    value: str
    interval: str
    """95 % interval; empty where there is none."""
    note: str
    """Reason why there is no interval; empty where there is one."""


def measure_rows(summary: AgreementSummary) -> list[MeasureRow]:
    """Write every measure of a comparison as text."""
    limits = summary.limits
    points = " points" if summary.unit == "percent" else ""
    rows = [
        ("bias (cohort - reference)", limits.bias, "+.2f", points),
        ("lower limit of agreement", limits.lower, "+.2f", points),
        ("upper limit of agreement", limits.upper, "+.2f", points),
        ("ICC(2,1), absolute agreement", summary.icc, ".3f", ""),
        *((f"Cohen's kappa, {bands.name}", bands.kappa, ".3f", "") for bands in summary.bands),
    ]
    return [
        MeasureRow(name, _value(estimate, form, unit), _interval(estimate, form), estimate.note)
        for name, estimate, form, unit in rows
    ]


def _value(estimate: Estimate, form: str, unit: str) -> str:
    return "undefined" if estimate.value is None else f"{estimate.value:{form}}{unit}"


def _interval(estimate: Estimate, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:{form}} to {estimate.high:{form}}"


def _measures(summary: AgreementSummary) -> str:
    rows = [f"| {row.name} | {row.value} | {row.interval or row.note} |" for row in measure_rows(summary)]
    points = " points" if summary.unit == "percent" else ""
    rows.insert(3, f"| standard deviation of differences | {summary.limits.sd:.2f}{points} | |")
    return "\n".join(["| measure | value | 95 % interval |", "|---|---|---|", *rows])


def _band_methods(compared_by: Sequence[ComparedBands]) -> str:
    if not compared_by:
        return ""
    words = " ".join(one.words for one in compared_by)
    return f"{_BAND_METHODS}{fill(words, 120, initial_indent='- ', subsequent_indent='  ', break_on_hyphens=False)}\n"


def _band_table(bands: BandAgreement) -> str:
    lines = [
        f"## {bands.name}",
        "",
        f"{bands.share_agreeing:.0%} of the slides lie in the same band.",
        "",
        "| reference \\ cohort | " + " | ".join(bands.labels) + " |",
        "|---" * (len(bands.labels) + 1) + "|",
        *(
            f"| {label} | " + " | ".join(str(count) for count in row) + " |"
            for label, row in zip(bands.labels, bands.table, strict=True)
        ),
    ]
    return "\n".join(lines)


def _not_compared(table: Compared, what: str) -> list[str]:
    lines = []
    if table.only_here:
        lines.append(f"- in the {what} only ({len(table.only_here)}): {_escaped(', '.join(table.only_here))}")
    if table.without_value:
        shown = ", ".join(f"{name} ({reason})" for name, reason in table.without_value)
        lines.append(f"- without a value in the {what} ({len(table.without_value)}): {_escaped(shown)}")
    return lines


def _escaped(text: str) -> str:
    """Escape a text, so that Markdown shows it unchanged."""
    return "".join("\\" + character if character in "\\`*_[]<>|" else character for character in " ".join(text.split()))

"""Writes the tables of a benchmark: Markdown and CSV with a row for each method, CSV with a row for each image."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from wsipsm.benchmark.names import ScoringProtocol, SetName
from wsipsm.benchmark.printed import CAVEATS, PRINTED
from wsipsm.rundir import output_error, write_aside
from wsipsm.text import cell_text

LABEL_COLUMNS: Mapping[str, str] = {
    "AJI": "aggregated Jaccard index as the MoNuSeg organisers' code (a prediction may be taken again)",
    "AJI+": "the same, one to one",
    "PQ": "panoptic quality, instances at IoU above 0.5",
    "SQ": "its segmentation quality",
    "DQ": "its detection quality",
    "Dice": "of the foreground, pixel by pixel; the same as pixel F1",
    "IoU": "of the foreground, pixel by pixel",
    "Dice_obj": "object by object, weighted by area (GlaS)",
    "P_pool": "precision of instances at IoU above 0.5",
    "R_pool": "recall, likewise",
    "F1_pool": "F1, likewise",
    "F1_c_pool": "F1 of centroids one to one within the radius",
}
POINT_COLUMNS: Mapping[str, str] = {
    **{
        f"{score}_{kind}": f"{name} of {which} nuclei, one to one within the radius, %"
        for kind, which in (("pos", "positive"), ("neg", "negative"), ("any", "all (classes merged)"))
        for score, name in (("P", "precision"), ("R", "recall"), ("F1", "F1"))
    },
    "MP": "mean absolute error of the positive count an image",
    "MN": "the same of the negative count",
    "index_error": "mean absolute error of the labelling index an image, points",
    "index_bias": "mean of predicted minus true index, points",
    "index_true": "true index, pooled, %",
    "index_predicted": "predicted index, pooled, %",
}


@dataclass(frozen=True)
class MethodResult:
    """Scores of one method on one set."""

    method: str
    scores: Mapping[str, float]
    """Scores of the set by name."""
    rows: Sequence[Mapping[str, Any]]
    """Scores of each image."""
    seconds: float
    """Seconds by the clock that prediction took on all images together."""


@dataclass(frozen=True)
class BenchReport:
    """Scores of all methods on one set, and the rules of scoring."""

    set_name: SetName
    protocol: ScoringProtocol
    results: Sequence[MethodResult]
    header: Sequence[str]
    """Sentences on date, machine, versions and rules of scoring."""
    notes: Sequence[str] = ()
    """Sentences on faults of the set's files."""


def markdown(report: BenchReport) -> str:
    """Write a report as Markdown: header, table of methods, meaning of the columns, printed figures and notes."""
    columns = columns_of(report.set_name)
    n_images = len(report.results[0].rows) if report.results else 0
    parts = [
        f"# {report.set_name}, protocol {report.protocol}, {n_images} images",
        "\n".join(f"- {line}" for line in report.header),
        "\n".join(_method_table(report, columns)),
        "Columns: " + "; ".join(f"**{_short(name)}** {what}" for name, what in columns.items()) + ".",
    ]
    if organs := _organ_table(report):
        parts += ["## AJI by organ", "\n".join(organs)]
    if report.set_name in PRINTED:
        parts += [
            "## Printed in the paper, not measured here",
            "\n".join(_printed_table(report.set_name)),
            f"Chen et al., MICCAI 2023, arXiv:2308.11144. {CAVEATS[report.set_name]}",
        ]
    if report.notes:
        parts += ["## Oddities of the annotation files", "\n".join(f"- {note}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


def write_tables(report: BenchReport, out: Path) -> list[Path]:
    """Write ``<set>-<protocol>.md``, the same as ``.csv``, and ``-images.csv``; each appears only when it is complete.

    Returns
    -------
    Paths of the files.

    Raises
    ------
    OutputError
        When the folder cannot be written.
    """
    stem = f"{report.set_name}-{report.protocol}"
    texts = {
        f"{stem}.md": markdown(report),
        f"{stem}.csv": csv_text(_method_rows(report)),
        f"{stem}-images.csv": csv_text([row for result in report.results for row in result.rows]),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    for name, text in texts.items():
        with write_aside(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def columns_of(set_name: SetName) -> Mapping[str, str]:
    """Return the scores that a set's table shows, with their meaning."""
    return LABEL_COLUMNS if set_name == SetName.MONUSEG else POINT_COLUMNS


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV; columns are in the order of their first appearance, and empty where a row lacks one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(cell_text, names))
    for row in rows:
        cells = (row.get(name, "") for name in names)
        writer.writerow(cell_text(cell) if isinstance(cell, str) else cell for cell in cells)
    return text.getvalue()


def _method_table(report: BenchReport, columns: Mapping[str, str]) -> list[str]:
    cell_of = _label_cell if report.set_name == SetName.MONUSEG else _point_cell
    head = ["method", *(_short(name) for name in columns), "s an image"]
    rows = [
        [r.method, *(cell_of(c, r.scores[c]) for c in columns), f"{r.seconds / max(1, len(r.rows)):.1f}"]
        for r in report.results
    ]
    return _table(head, rows)


def _organ_table(report: BenchReport) -> list[str]:
    """Write the mean AJI of each method over the images of each organ; empty when no organ is known."""
    organs = Counter(row.get("organ") or "" for row in report.results[0].rows) if report.results else Counter[str]()
    if not any(organs):
        return []
    rows = [
        [organ or "not known", str(n)]
        + [f"{fmean(row['AJI'] for row in r.rows if row['organ'] == organ):.3f}" for r in report.results]
        for organ, n in sorted(organs.items())
    ]
    return _table(["organ", "images", *(r.method for r in report.results)], rows)


def _printed_table(set_name: SetName) -> list[str]:
    rows = PRINTED[set_name]
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    digits: dict[str, Callable[[float], str]] = {
        n: "{:.2f}".format if n in ("MP", "MN") else "{:.3f}".format for n in names
    }
    cells = [
        [f"{row.method} (printed)", row.labels, f"Table {row.table}"]
        + [digits[n](row.scores[n]) if n in row.scores else "" for n in names]
        for row in rows
    ]
    return _table(["method", "trained", "source", *names], cells)


def _method_rows(report: BenchReport) -> list[dict[str, Any]]:
    shared = {"set": str(report.set_name), "protocol": str(report.protocol)}
    measured = [
        {**shared, "source": "measured", "method": r.method, "n_images": len(r.rows), **r.scores, "seconds": r.seconds}
        for r in report.results
    ]
    printed = [
        # The columns have their own names, since the paper computes these scores in another way.
        {"set": str(report.set_name), "source": f"printed, Table {row.table}", "method": row.method}
        | {f"printed_{name}": value for name, value in row.scores.items()}
        for row in PRINTED.get(report.set_name, ())
    ]
    return measured + printed


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]


def _short(name: str) -> str:
    return name.removesuffix("_pool")


def _label_cell(name: str, value: float) -> str:
    return f"{value:.3f}"


def _point_cell(name: str, value: float) -> str:
    return f"{value:.1f}" if name.startswith(("M", "index")) else f"{100 * value:.1f}"

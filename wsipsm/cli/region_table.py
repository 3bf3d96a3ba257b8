"""The table of annotations in a drawn region, with the use that each was put to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsipsm.region import AnnotationFacts

_MAX_ROWS = 20
_MAX_CHARS = 36
_TITLES = ("annotation", "class", "taken as", "area mm2", "nuclei")


def lines_about_annotations(rows: Sequence[AnnotationFacts], indent: str = "  ") -> list[str]:
    """Write a table of annotation, class, use, area and nuclei as lines of text.

    Parameters
    ----------
    rows
        Rows that `wsipsm.region.annotation_rows` returned; without rows there are no lines.
    indent
        Text before each line.
    """
    if not rows:
        return []
    cells = [_TITLES, *(_cells(row) for row in rows[:_MAX_ROWS])]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_TITLES))]
    lines = [
        indent
        + "  ".join(text.ljust(width) for text, width in zip(row[:3], widths[:3], strict=True))
        + "".join("  " + text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True))
        for row in cells
    ]
    rest = Counter(row.use.value for row in rows[_MAX_ROWS:])
    uses = ", ".join(f"{n:,} {use}" for use, n in rest.items())
    return [*lines, *([f"{indent}and {rest.total():,} more ({uses}), which --json lists"] if rest else [])]


def _cells(row: AnnotationFacts) -> tuple[str, ...]:
    return (
        _short(row.annotation) or "-",
        _short(row.classification) or "-",
        row.use.value,
        f"{row.area_mm2:.4f}",
        "not searched" if row.n_nuclei is None else f"{row.n_nuclei:,}",
    )


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"

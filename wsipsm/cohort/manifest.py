"""The manifest of a cohort: a CSV file with one row per slide. It may come from anywhere, so nothing in it is trusted.

Cells are text and stay text: what a spreadsheet would take for a formula is copied unchanged.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.paths import find_no_file

OWN_COLUMNS = ("slide", "id", "mpp", "image", "model", "marker", "roi", "group", "patient")
"""Columns with a meaning for the run; any other is copied to the results."""
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
"""Largest manifest that is read; a hundred thousand rows of two kilobytes fit."""
MAX_COLUMNS = 1000
_N_SHOWN = 20
_DECLARED = re.compile(r'"?sep=([,;\t|])"?[,;\t ]*(?:\r\n|\n|\r|$)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row, as text without surrounding blanks; absent cells are empty."""

    line: int
    """Number of the line at which the row begins, from 1."""
    slide: str
    id: str = ""
    mpp: str = ""
    image: str = ""
    model: str = ""
    marker: str = ""
    roi: str = ""
    group: str = ""
    patient: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    """Name and cell of every other column, unchanged, in the file's order."""


def read_manifest(path: Path, table_columns: Collection[str] = ()) -> list[ManifestRow]:
    """Read the rows of a manifest.

    Parameters
    ----------
    path
        CSV file in UTF-8, separated by commas, semicolons or tabs. Its first line holds the names of the columns; a
        line such as ``sep=;`` may stand before it.
    table_columns
        Names of the results' own columns; no other column of a manifest may have one of them.

    Returns
    -------
    Rows in the file's order; those whose cells are all empty are left out.

    Raises
    ------
    UsageError
        When the file cannot be read as such a table. The message names the first faulty lines at once; no such line is
        guessed at, since cells that moved to another column would get another meaning.
    """
    text = _read_text(path)
    declared, n_skipped = declared_separator(text)
    body = text[n_skipped:]
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=declared or _separator(body), strict=True)
    first_line = 2 if n_skipped else 1
    faults: list[str] = []
    rows: list[ManifestRow] = []
    line = first_line
    try:
        names = _column_names(path, next(reader, []), table_columns)
        own = [(name, names.index(name)) for name in OWN_COLUMNS if name in names]
        slide, unnamed = names.index("slide"), [position for position, name in enumerate(names) if not name]
        carried = [(name, position) for position, name in enumerate(names) if name and name not in OWN_COLUMNS]
        line = reader.line_num + first_line
        for cells in reader:
            if any(map(str.strip, cells)):
                fault = _fault(names, slide, unnamed, cells)
                if fault:
                    faults.append(f"line {line}: {fault}")
                else:
                    cells += [""] * (len(names) - len(cells))  # spreadsheets leave out empty cells at the end
                    values = {name: cells[position].strip() for name, position in own}
                    extra = tuple([(name, cells[position]) for name, position in carried])
                    rows.append(ManifestRow(line, **values, extra=extra))
            line = reader.line_num + first_line
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {line}: no valid CSV ({error}); every quote must be closed and every cell be under "
            f"{csv.field_size_limit():,} characters. Correct the line, or save the table as CSV UTF-8 again."
        ) from error
    if faults:
        raise UsageError(
            f"{path}: {_listed(faults)}; a slide and no more cells than columns are needed in every row. "
            "Correct the lines; cells that hold the separator need quotes."
        )
    return rows


def declared_separator(text: str) -> tuple[str | None, int]:
    """Find the separator that a first line such as ``sep=;`` declares, as Excel writes it, and that line's length."""
    match = _DECLARED.match(text)
    return (match[1], match.end()) if match else (None, 0)


def _read_text(path: Path) -> str:
    try:
        missing = find_no_file(path)
        if missing is not None:
            raise UsageError(f"{path}: {missing[0]}; a CSV file in UTF-8 is needed. {missing[1]}")
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise UsageError(
                f"{path}: {path.stat().st_size / 2**20:.0f} MiB; a manifest of at most {MAX_MANIFEST_BYTES >> 20} MiB "
                "is read. Check the path, or divide it."
            )
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror or error}); a CSV file in UTF-8 is needed. Check the path."
        ) from error
    wanted = "a CSV file in UTF-8 is needed. Save it as 'CSV UTF-8'."
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UsageError(f"{path}: text in UTF-16; {wanted}")
    if b"\0" in content:
        raise UsageError(f"{path}, line {_line_of(content, content.index(0))}: a NUL byte; {wanted}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}, line {_line_of(content, error.start)}: byte 0x{content[error.start]:02x} is no UTF-8; {wanted}"
        ) from error


def _line_of(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _separator(text: str) -> str:
    """Guess the separator from the first line: spreadsheets of many countries write semicolons, others tabs."""
    header = text[: text.find("\n")] if "\n" in text else text
    return "," if "," in header else ";" if ";" in header else "\t" if "\t" in header else ","


def _column_names(path: Path, cells: Sequence[str], table_columns: Collection[str]) -> list[str]:
    """Read the names of the columns; those of ``OWN_COLUMNS`` are changed to lower case."""
    stripped = [cell.strip() for cell in cells]
    names = [name.lower() if name.lower() in OWN_COLUMNS else name for name in stripped]
    if len(names) > MAX_COLUMNS:
        raise UsageError(f"{path}: {len(names)} columns; at most {MAX_COLUMNS} are read. Check the separator.")
    if "slide" not in names:
        raise UsageError(
            f"{path}: columns {', '.join(names) or 'none'}; a column 'slide' is needed; {', '.join(OWN_COLUMNS[1:])} "
            "and others are optional. Name it in the first line."
        )
    folded = [name.casefold() for name in names]
    twice = [name for position, name in enumerate(names) if name and name.casefold() in folded[:position]]
    if twice:
        raise UsageError(
            f"{path}: more than one column is called {_listed([repr(name) for name in twice])}; names of columns must "
            "differ in more than upper and lower case. Rename one."
        )
    taken = {name.casefold() for name in table_columns}
    colliding = [repr(name) for name in names if name not in OWN_COLUMNS and name.casefold() in taken]
    if colliding:
        raise UsageError(
            f"{path}: column {_listed(colliding)} is also a column of the results; every column is copied there, so "
            "its name must be free. Rename it."
        )
    return names


def _fault(names: Sequence[str], slide: int, unnamed: Sequence[int], cells: Sequence[str]) -> str:
    """Return what makes a row unusable as a whole; an empty text when nothing does."""
    if len(cells) > len(names) and any(map(str.strip, cells[len(names) :])):
        return f"{len(cells)} cells under {len(names)} columns"
    if slide >= len(cells) or not cells[slide].strip():
        return "no slide"
    lost = [cells[position].strip() for position in unnamed if position < len(cells) and cells[position].strip()]
    return f"{lost[0][:40]!r} stands in a column without a name" if lost else ""


def _listed(faults: Sequence[str]) -> str:
    more = f", and {len(faults) - _N_SHOWN} more" if len(faults) > _N_SHOWN else ""
    return ", ".join(faults[:_N_SHOWN]) + more

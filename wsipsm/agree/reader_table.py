"""Reads tables of counts or indices with one row for each slide, checks them, and joins two by slide name."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from wsipsm.cohort.manifest import declared_separator
from wsipsm.errors import UsageError
from wsipsm.markers.known import known_markers
from wsipsm.paths import find_no_file
from wsipsm.results.folder_names import slide_stem
from wsipsm.slide.formats import SLIDE_SUFFIXES

NAME_COLUMNS = ("id", "slide")
INDEX_COLUMN = "labelling_index"
"""Column of the index in tables of ``wsipsm cohort``."""
COUNT_PAIRS = (("n_positive", "n_negative"), ("positive", "negative"))
_NO_VALUE = frozenset({"", "-", "na", "n/a", "nan", "none", "null"})
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_SEPARATORS = (",", ";", "\t")
_N_NAMED = 5


class Unit(StrEnum):
    """The kinds of numbers that a column may hold."""

    PERCENT = "percent"
    FRACTION = "fraction"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Source:
    """A table, and the options for reading it."""

    path: Path
    column: str | None = None
    """Column of the values; None: the one whose name is usual for an index."""
    unit: Unit | None = None
    """Unit of the values; None: found from the values, or an error if unclear."""
    column_flag: str = "--ref-column"
    """Option that names the column, for error messages."""
    unit_flag: str = "--unit"
    """Option that names the unit, for error messages."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of one slide in a table; a reader, or a program, gave it."""

    line: int
    id: str
    slide: str
    value: float | None
    """Value in percent, or a count; None when the table gives none."""
    reason: str = ""
    """Reason why there is no value, or what limits it."""
    marker: str = ""
    """Name of the stained marker, as the table gives it; empty where the table gives none."""

    @property
    def name(self) -> str:
        """Name of the slide in messages and results."""
        return self.id or self.slide

    def names(self) -> tuple[str, ...]:
        """List the names of the slide in lower case, the most specific first."""
        path = self.slide.replace("\\", "/")
        file_name = PurePosixPath(path).name
        is_file = PurePosixPath(file_name).suffix.lower() in SLIDE_SUFFIXES
        return tuple(
            name.casefold() for name in (self.id, path, file_name, slide_stem(file_name) if is_file else file_name)
        )


@dataclass(frozen=True, slots=True)
class ReaderTable:
    """A table that was read."""

    path: Path
    column: str
    unit: Unit
    """Unit of the numbers in the file; ``Reading.value`` is percent for both kinds of index."""
    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()


def read_table(source: Source) -> ReaderTable:
    """Read a table of slides and values.

    Parameters
    ----------
    source
        CSV file in UTF-8 with one header line; separated by commas, semicolons or tabulators; decimal points, or for
        indices decimal commas.

    Raises
    ------
    UsageError
        When the table is invalid or unclear; the message names the file, the line and the option to set.
    """
    text = _text(source.path)
    _, n_declared = declared_separator(text)
    if n_declared:
        text = "\n" + text[n_declared:]  # a blank line replaces it, so that lines keep their numbers
    separator, names = _layout(source.path, text)
    lines = list(_rows(source.path, text, separator, names))
    column, needed = _value_columns(source, names)
    if not lines:
        raise UsageError(f"{source.path}: a header and no slides; a line a slide is needed. Check the file.")
    cells = {line: tuple(_number(source, line, name, row[name]) for name in needed) for line, row in lines}
    unit, notes = _decide_unit(source, column, needed, cells)
    in_percent = _converter(unit, is_pair=len(needed) > 1)
    readings = tuple(_reading(line, _named(row), in_percent(cells[line]), column) for line, row in lines)
    _refuse_duplicates(source.path, readings)
    return ReaderTable(source.path, column, unit, readings, notes)


def join_tables(
    reference: ReaderTable, cohort: ReaderTable
) -> tuple[list[tuple[Reading, Reading]], list[Reading], list[Reading]]:
    """Join the readings of two tables by slide name.

    A name in the reference may be the id, the path, the file name or the file name without suffix of a cohort's slide.

    Returns
    -------
    Pairs in the cohort's order; readings that only the reference has; readings that only the cohort has.

    Raises
    ------
    UsageError
        When a name fits several slides, or two lines name the same slide.
    """
    known: dict[str, list[tuple[int, Reading]]] = defaultdict(list)
    for reading in cohort.readings:
        for tier, name in enumerate(reading.names()):
            known[name].append((tier, reading))
    partner: dict[int, Reading] = {}
    only_reference: list[Reading] = []
    for reading in reference.readings:
        meant = _meant(reading, known)
        if not meant:
            only_reference.append(reading)
            continue
        if len(meant) > 1:
            raise UsageError(
                f"{reference.path}, line {reading.line}: {reading.name!r} may be {listed([r.name for r in meant])} of "
                f"{cohort.path}; one slide a name is needed. Write the id of the slide."
            )
        earlier = partner.setdefault(meant[0].line, reading)
        if earlier is not reading:
            raise UsageError(
                f"{reference.path}: lines {earlier.line} and {reading.line} both mean {meant[0].name!r} of "
                f"{cohort.path}; one line a slide is needed. Remove one, or average the readings first."
            )
    pairs = [(partner[reading.line], reading) for reading in cohort.readings if reading.line in partner]
    return pairs, only_reference, [reading for reading in cohort.readings if reading.line not in partner]


def _meant(reading: Reading, known: Mapping[str, list[tuple[int, Reading]]]) -> list[Reading]:
    """Find the slides that the most specific known name of a reading fits most specifically."""
    for name in reading.names():
        if name and (hits := known.get(name)):
            best = min(tier for tier, _ in hits)
            return [slide for tier, slide in hits if tier == best]
    return []


def listed(names: Sequence[str]) -> str:
    """Join the first five names with commas, and add the number of the others; 'none' without names."""
    shown = ", ".join(names[:_N_NAMED])
    return shown + (f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else "") if names else "none"


def index_columns() -> tuple[str, ...]:
    """List the usual names of a column that holds the index of a known marker."""
    of_markers = (name for marker in known_markers() for name in marker.index_columns)
    return (INDEX_COLUMN, "labeling_index", *of_markers, "index")


def _layout(path: Path, text: str) -> tuple[str, list[str]]:
    """Find the separator and the names of the columns in the first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    headers = {mark: [plain_name(name) for name in next(csv.reader([first], delimiter=mark))] for mark in _SEPARATORS}
    separator = next((mark for mark, names in headers.items() if set(NAME_COLUMNS) & set(names)), ",")
    names = headers[separator]
    if not set(NAME_COLUMNS) & set(names):
        raise UsageError(
            f"{path}: columns {', '.join(name for name in names if name) or 'none'}; a column 'slide' or 'id' is "
            "needed. Name it in the first line."
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UsageError(f"{path}: column {twice[0]!r} occurs twice; every column needs its own name. Rename one.")
    return separator, names


def _rows(path: Path, text: str, separator: str, names: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield every row that is not blank, with the number of its line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows = (row for row in reader if any(cell.strip() for cell in row))
    try:
        next(rows)  # the header
        for row in rows:
            if any(cell.strip() for cell in row[len(names) :]):
                raise UsageError(
                    f"{path}, line {reader.line_num}: {len(row)} values under {len(names)} columns; one value a column "
                    "is needed. Decimal commas in a table separated by commas do this: write decimal points."
                )
            padded = [cell.strip() for cell in row] + [""] * len(names)
            yield reader.line_num, dict(zip(names, padded, strict=False))
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {reader.line_num}: {error}; a CSV file is needed. Save it again as CSV."
        ) from error


def _named(row: dict[str, str]) -> dict[str, str]:
    """Empty the id of a row in which it may be a patient's or a line's number and not the slide's."""
    if "slide" in row and not {"id", "status"} <= set(row):
        return {**row, "id": ""}
    return row


def _text(path: Path) -> str:
    missing = find_no_file(path)
    if missing is not None:
        raise UsageError(f"{path}: {missing[0]}; a CSV file is needed. {missing[1]}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); a CSV file is needed. Check the path.") from error
    if not data.strip():
        raise UsageError(f"{path}: the file is empty; a header and a line a slide are needed. Check the path.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = "a spreadsheet" if data[:2] == b"PK" else f"not UTF-8 (byte {error.start})"
        raise UsageError(f"{path}: {what}; a CSV file in UTF-8 is needed. Save it as 'CSV UTF-8'.") from error


def plain_name(name: str) -> str:
    """Convert a column's name to the form that is compared: lower case, with underscores for all other characters."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def _value_columns(source: Source, columns: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Find the name of the value, and the one or two columns from which it is computed."""
    offered = ", ".join(name for name in columns if name not in NAME_COLUMNS) or "none"
    flag = source.column_flag
    if source.column is not None:
        wanted = plain_name(source.column)
        if wanted not in columns:
            raise UsageError(
                f"{source.path}: no column {source.column!r}; it has {offered}. Name one of them with {flag}."
            )
        return wanted, (wanted,)
    if source.unit is Unit.COUNT:
        raise UsageError(
            f"{source.path}: {source.unit_flag} count without a column; it has {offered}. Name the counts with {flag}."
        )
    usual = index_columns()
    found = [name for name in usual if name in columns]
    if len(found) > 1:
        raise UsageError(
            f"{source.path}: columns {' and '.join(found)} may both be the index; one is needed. Name it with {flag}."
        )
    if found:
        return found[0], (found[0],)
    for pair in COUNT_PAIRS:
        if set(pair) <= set(columns):
            return f"{pair[0]} / ({pair[0]} + {pair[1]})", pair
    raise UsageError(
        f"{source.path}: no column of an index; it has {offered}, and one of {', '.join(usual)}, or "
        f"{' and '.join(COUNT_PAIRS[0])}, is looked for. Name the column with {flag}."
    )


def _number(source: Source, line: int, column: str, text: str) -> float | None:
    if text.casefold() in _NO_VALUE:
        return None
    where = f"{source.path}, line {line}: {text!r} in column {column!r}"
    if not _NUMBER.fullmatch(text):
        raise UsageError(
            f"{where} is no number; digits alone are needed, or an empty cell for no value. Correct the line."
        )
    if "," in text and (source.unit is Unit.COUNT or any(column in pair for pair in COUNT_PAIRS)):
        raise UsageError(
            f"{where} may be thousands or a decimal comma; a plain number is needed. Write it without comma."
        )
    value = float(text.replace(",", "."))
    if not math.isfinite(value) or value < 0:
        raise UsageError(
            f"{where}; counts and indices start at 0. Correct the line, or name a column with {source.column_flag}."
        )
    return value


def _decide_unit(
    source: Source, column: str, needed: Sequence[str], cells: Mapping[int, tuple[float | None, ...]]
) -> tuple[Unit, tuple[str, ...]]:
    """Check the given unit against the values, or find the only one that they allow."""
    if len(needed) > 1:
        return Unit.FRACTION, ()
    values = {line: value for line, (value, *_) in cells.items() if value is not None}
    if not values:
        raise UsageError(
            f"{source.path}: column {column!r} is empty on all {len(cells)} lines; numbers are needed. "
            f"Name another column with {source.column_flag}."
        )
    unit = source.unit
    if unit is Unit.COUNT:
        return unit, ()
    if unit is None:
        if statistics.median(values.values()) <= 1:
            raise UsageError(
                f"{source.path}: column {column!r} runs from {min(values.values()):g} to {max(values.values()):g}, "
                "which may be fractions or percent; the unit is needed. "
                f"Pass {source.unit_flag} fraction or {source.unit_flag} percent."
            )
        unit = Unit.PERCENT
    limit = 100.0 if unit is Unit.PERCENT else 1.0
    beyond = next((line for line, value in values.items() if value > limit), None)
    if beyond is not None:
        way_out = (
            f"pass {source.unit_flag} percent" if unit is Unit.FRACTION else f"name a column with {source.column_flag}"
        )
        raise UsageError(
            f"{source.path}, line {beyond}: {values[beyond]:g} in column {column!r}; an index as {unit} lies from 0 to "
            f"{limit:g}. Correct the line, or {way_out}."
        )
    if unit is Unit.PERCENT and max(values.values()) <= 1:
        doubt = f"no value above 1 % in {column!r}; if they are fractions, pass {source.unit_flag} fraction"
        return unit, (f"{source.path}: {doubt}",)
    return unit, ()


def _converter(unit: Unit, is_pair: bool) -> Callable[[tuple[float | None, ...]], float | None]:
    def convert(cells: tuple[float | None, ...]) -> float | None:
        numbers = [number for number in cells if number is not None]
        if len(numbers) < len(cells):
            return None
        if is_pair:
            return round(100.0 * numbers[0] / sum(numbers), 9) if sum(numbers) else None
        # Rounding makes exactly 30 % of 0.3, which is the limit of a band.
        return round(100.0 * numbers[0], 9) if unit is Unit.FRACTION else numbers[0]

    return convert


def _reading(line: int, row: Mapping[str, str], value: float | None, column: str) -> Reading:
    status = row.get("status", "")
    reason = ": ".join(part for part in (status, row.get("reason", "")) if part)
    if value is None:
        reason = reason or f"no value in column {column!r}"
    elif status != "incomplete":
        reason = ""
    return Reading(line, row.get("id", ""), row.get("slide", ""), value, reason, row.get("marker", ""))


def _refuse_duplicates(path: Path, readings: Sequence[Reading]) -> None:
    seen: dict[str, int] = {}
    for reading in readings:
        if not reading.name:
            raise UsageError(f"{path}, line {reading.line}: no slide named; every line needs one. Fill it in.")
        first = seen.setdefault(reading.name.casefold(), reading.line)
        if first != reading.line:
            raise UsageError(
                f"{path}: lines {first} and {reading.line} both name slide {reading.name!r}; one line a slide is "
                "needed. Remove one, or average the readings first."
            )

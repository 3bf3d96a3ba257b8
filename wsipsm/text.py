"""Cleaning of strings from outside, so that a terminal, JSON, a table and a page can show them safely.

File names, annotation names, metadata, cells of a manifest and messages of other programs may hold any characters. Some
of these move the cursor, reverse the reading order or hide letters, so that a reader sees something else than the text,
and a lone surrogate cannot be written at all.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object in the format of another program, or one that is not checked yet; wsipsm's own files have models."""

MAX_CHARS = 4096
"""Most characters of a cleaned text; the longest path of common systems has fewer."""

MAX_JSON_CHARS = 1 << 20
"""Most characters of a string in a JSON file; notes and lists are longer than names."""

_MAX_MARKS = 8
"""Most combining marks on one letter; no script needs more, and a pile of them covers the lines around it."""

_JOINERS = "\u200c\u200d"
"""Joiners, which are part of the spelling of Persian and Indic words and of emoji."""

_SHOWN_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Visible characters in the category of format characters, such as the Arabic number sign."""

_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800")
"""Characters of the categories of letters and marks that are invisible."""

_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?", re.ASCII)
_NAMED = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINED_CATEGORIES = frozenset({"Lo", "Mc", "Mn", "Sk", "So"})


def clean_text(text: object, max_chars: int = MAX_CHARS) -> str:
    r"""Escape the characters of a text that could mislead a reader or break a writer, such as ``\x1b`` or ``\u202e``.

    Control characters, lone surrogates (bytes of a file name that is not UTF-8 read as ``\xff``), line and paragraph
    separators, reading-order and other format characters, invisible letters and piles of combining marks are escaped.
    Letters of all scripts, their marks and joiners, and emoji stay. Cleaning twice changes nothing.

    Parameters
    ----------
    text
        Any object; it is converted by ``str``.
    max_chars
        Most characters of the result, at least 1; longer text is cut and ends in an ellipsis.

    Returns
    -------
    One printable line that can be encoded as UTF-8.
    """
    raw = str(text)
    if len(raw) <= max_chars and raw.isascii() and raw.isprintable():
        return raw
    pieces = _pieces(raw[: max_chars + 1])
    if sum(map(len, pieces)) <= max_chars:
        return "".join(pieces)
    kept, n_chars = [], 1
    for piece in pieces:
        n_chars += len(piece)
        if n_chars > max_chars:
            break
        kept.append(piece)
    while kept and kept[-1] in _JOINERS:
        kept.pop()
    return "".join(kept) + "…"


def clean_json(value: Any) -> Any:
    """Clean every string, path and key of a JSON value by `clean_text`; other values stay as they are.

    A dataclass becomes a JSON object with a key for each field.
    """
    if isinstance(value, (str, PurePath)):
        return clean_text(value, MAX_JSON_CHARS)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: clean_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {clean_json(key): clean_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean_json(item) for item in value]
    return value


def range_text(low: float | None, high: float | None) -> str:
    """Format the interval of a share, 0..1, as every message and page shows it; empty where there is none."""
    return "" if low is None or high is None else f"{low:.1%} to {high:.1%}"


def cell_text(text: str) -> str:
    """Format a text as a cell of a CSV file that no spreadsheet takes for a formula; numbers stay as they are.

    Spreadsheets run a text that begins with ``=``, ``+``, ``-`` or ``@``, also after blanks, and some do so for the
    full-width forms of these. An apostrophe before it prevents this.
    """
    cleaned = clean_text(text, MAX_JSON_CHARS)
    first = unicodedata.normalize("NFKC", cleaned.lstrip()[:1])
    return f"'{cleaned}" if first in _FORMULA and not _NUMBER.fullmatch(cleaned.strip()) else cleaned


def is_writable_text(text: str) -> bool:
    """Check whether a text can be encoded as UTF-8; a file name of other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pieces(raw: str) -> list[str]:
    """List the characters of a text as they are shown."""
    pieces = []
    n_marks = 0
    for place, char in enumerate(raw):
        category = unicodedata.category(char)
        n_marks = n_marks + 1 if category in ("Mn", "Me") else 0
        if char in _JOINERS:
            is_kept = 0 < place < len(raw) - 1 and _joins(raw[place - 1]) and _joins(raw[place + 1])
        else:
            is_kept = n_marks <= _MAX_MARKS and not _is_hidden(char, category)
        pieces.append(char if is_kept else _escape(char))
    return pieces


def _joins(char: str) -> bool:
    """Check whether a joiner is kept beside a character; in Latin text it would only be invisible."""
    category = unicodedata.category(char)
    return category in _JOINED_CATEGORIES and not char.isascii() and not _is_hidden(char, category)


def _is_hidden(char: str, category: str) -> bool:
    if category in _HIDDEN_CATEGORIES:
        return char not in _SHOWN_FORMATS
    code = ord(char)
    is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    # U+FE0F, the only common variation selector, turns a sign into an emoji and is kept.
    is_selector = 0xFE00 <= code <= 0xFE0E or 0x180B <= code <= 0x180F or 0xE0000 <= code <= 0xE0FFF
    return char in _BLANK_LETTERS or is_noncharacter or is_selector


def _escape(char: str) -> str:
    code = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    if 0xDC80 <= code <= 0xDCFF:  # Python represents a byte of a file name that is not UTF-8 in this way
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

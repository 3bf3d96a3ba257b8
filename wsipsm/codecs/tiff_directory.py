"""A check that a TIFF is whole: every directory and every value that its directories point to must lie in the file.

tifffile only logs such faults and goes on without the damaged part, so that a level or the pixel size would be missing.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import tifffile

TIFF_PARSE_ERRORS = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    EOFError,
    SyntaxError,
    struct.error,
)
"""Errors that tifffile and imagecodecs raised on damaged files; ElementTree's ParseError is a SyntaxError."""

MAX_DIRECTORIES = 4096
"""Most directories that a slide may have; a longer chain is circular, or belongs to an image stack."""

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def find_cut(path: Path) -> str | None:
    """Describe what lies beyond the end of a TIFF or BigTIFF; None when its chain of directories is whole.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            return _walk(stream, size)
        except struct.error:
            return f"cut short: a directory runs past the end of the file at byte {size:,}"


def _walk(stream: BinaryIO, size: int) -> str | None:
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = head[2:3] == b"+" or head[3:4] == b"+"
    count_format, entry_format, offset_format = ("Q", "HHQ8s", "Q") if is_big else ("H", "HHI4s", "I")
    (offset,) = struct.unpack_from(order + offset_format, head, 8 if is_big else 4)
    for _ in range(MAX_DIRECTORIES):
        if offset == 0:
            return None
        if offset >= size:
            return f"cut short: a directory should start at byte {offset:,}, the file has {size:,}"
        stream.seek(offset)
        (n_entries,) = _unpack(stream, order + count_format)
        for _ in range(n_entries):
            tag, kind, count, value = _unpack(stream, order + entry_format)
            n_bytes = _TYPE_BYTES.get(kind, 1) * count
            if n_bytes <= len(value):
                continue
            end = struct.unpack(order + offset_format, value)[0] + n_bytes
            if end > size:
                return f"cut short: the value of tag {tag} should end at byte {end:,}, the file has {size:,}"
        (offset,) = _unpack(stream, order + offset_format)
    return f"over {MAX_DIRECTORIES} directories"


def _unpack(stream: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))

"""Recognition of DICOM files by their bytes, and of the files of a folder that form one slide.

The four bytes ``DICM`` at offset 128 decide, never a file's name. Only the header elements up to SeriesInstanceUID are
read; a whole DICOM parser for two values would be a further dependency.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PREFIX_AT, PREFIX = 128, b"DICM"
_WHOLE_SLIDE = b"1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of whole-slide microscopy images."""
_TRANSFER_SYNTAX, _SOP_CLASS, _SERIES = (0x0002, 0x0010), (0x0008, 0x0016), (0x0020, 0x000E)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_IMPLICIT, _BIG_ENDIAN = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2"
_LONG_FORMS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Value representations whose length takes four bytes."""
_UNDEFINED = 0xFFFFFFFF
_HEAD_BYTES = (1 << 16, 1 << 22)
"""Bytes of a header that are read at first, and those that are read where the series is stated later."""
_MAX_DEPTH = 32

_Tag = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DicomHead:
    """The values of a DICOM header that say which slide a file belongs to."""

    series: bytes
    """SeriesInstanceUID (0020,000E); empty where none is stated."""
    sop_class: bytes
    """SOPClassUID (0008,0016); empty where none is stated."""

    @property
    def is_slide_part(self) -> bool:
        """Whether the file states a series, and no other class of image than that of whole slides."""
        return bool(self.series) and self.sop_class in (b"", _WHOLE_SLIDE)


def is_dicom(path: Path) -> bool:
    """Check by its bytes whether a file is DICOM; False for a folder and for an unreadable file."""
    try:
        return read_dicom_head(path) is not None
    except OSError:
        return False


def read_dicom_head(path: Path) -> DicomHead | None:
    """Read which series a file belongs to; None when it is no DICOM file.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        head = stream.read(PREFIX_AT + len(PREFIX))
        if head[PREFIX_AT:] != PREFIX:
            return None
        found: dict[_Tag, bytes] = {}
        for n_bytes in _HEAD_BYTES:
            head += stream.read(n_bytes - len(head))
            try:
                found = _HeaderWalk(head).find((_SOP_CLASS, _SERIES))
                break
            except (struct.error, IndexError):
                continue  # the header goes on after the bytes that were read
            except ValueError:
                break  # the header is malformed, and further bytes would not help
    return DicomHead(found.get(_SERIES, b""), found.get(_SOP_CLASS, b""))


def series_files(path: Path) -> list[Path]:
    """List the files of the series that a DICOM file belongs to, from its folder, itself included, sorted by name.

    Raises
    ------
    OSError
        When the file or its folder cannot be read.
    """
    head = read_dicom_head(path)
    if head is None or not head.series:
        return [path]
    alike = {file for file in path.parent.iterdir() if _series_of(file) == head.series}
    return sorted(alike | {path})


def slides_in(files: Iterable[Path]) -> dict[bytes, list[Path]]:
    """Group files by the whole-slide series that they belong to; other and unreadable files are left out.

    Returns
    -------
    Files of each series, keyed by SeriesInstanceUID and sorted by name.
    """
    found: dict[bytes, list[Path]] = {}
    for file in sorted(files):
        if series := _series_of(file):
            found.setdefault(series, []).append(file)
    return found


def largest_of(files: Iterable[Path]) -> Path:
    """Choose the file of a series that holds the slide at full size: the largest."""
    return max(files, key=lambda file: (file.stat().st_size, file.name))


def _series_of(file: Path) -> bytes:
    if file.name.startswith("."):
        return b""
    try:
        head = read_dicom_head(file)
    except OSError:
        return b""  # opening the file reports the error
    return head.series if head is not None and head.is_slide_part else b""


class _HeaderWalk:
    """A walk over the top-level elements of a DICOM header, which skips sequences of undefined length.

    Parameters
    ----------
    head
        First bytes of a DICOM file.

    Raises
    ------
    struct.error, IndexError
        When the header goes on after these bytes.
    ValueError
        When the header is malformed.
    """

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._order, self._implicit = "<", False

    def find(self, wanted: tuple[_Tag, ...]) -> dict[_Tag, bytes]:
        """Find the values of top-level elements; those that are absent are left out."""
        found: dict[_Tag, bytes] = {}
        at, last, in_meta = PREFIX_AT + len(PREFIX), max(wanted), True
        syntax = b""
        while at < len(self._head):
            if in_meta and self._head[at : at + 2] != b"\x02\x00":
                in_meta = False
                self._order = ">" if syntax == _BIG_ENDIAN else "<"
                self._implicit = syntax == _IMPLICIT
            tag, start, length = self._element(at)
            if tag > last:
                return found
            if length == _UNDEFINED:
                at = self._skip_sequence(start, 0)
                continue
            value = self._head[start : start + length].rstrip(b"\0 ")
            if tag in wanted or tag == _TRANSFER_SYNTAX:
                if start + length > len(self._head):
                    raise IndexError
                found[tag] = value
            if tag == last:
                return found
            if tag == _TRANSFER_SYNTAX:
                syntax = value
            at = start + length
        raise IndexError

    def _element(self, at: int) -> tuple[_Tag, int, int]:
        """Read a tag, the offset of its value, and the length of the value in bytes."""
        group, element = struct.unpack_from(f"{self._order}HH", self._head, at)
        tag = (group, element)
        if self._implicit or group == _ITEM[0]:
            (length,) = struct.unpack_from(f"{self._order}I", self._head, at + 4)
            return tag, at + 8, length
        kind = self._head[at + 4 : at + 6]
        if kind in _LONG_FORMS:
            (length,) = struct.unpack_from(f"{self._order}I", self._head, at + 8)
            return tag, at + 12, length
        if len(kind) == 2 and not kind.isalpha():
            raise ValueError(f"no value representation: {kind!r}")
        (length,) = struct.unpack_from(f"{self._order}H", self._head, at + 6)
        return tag, at + 8, length

    def _skip_sequence(self, at: int, depth: int) -> int:
        """Return the offset after a sequence of undefined length whose items begin at ``at``."""
        if depth > _MAX_DEPTH:
            raise ValueError("sequences too deep")
        while True:
            tag, at, length = self._element(at)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise ValueError(f"no item of a sequence: {tag}")
            at = self._skip_item(at, depth) if length == _UNDEFINED else at + length

    def _skip_item(self, at: int, depth: int) -> int:
        while True:
            tag, at, length = self._element(at)
            if tag == _ITEM_END:
                return at
            at = self._skip_sequence(at, depth + 1) if length == _UNDEFINED else at + length

"""DICOM files by their bytes: what is one, and which files of a folder are one slide.

The four bytes ``DICM`` at offset 128 decide, never a file's name. Of the header only the few elements before the
series' name are walked; a whole DICOM parser for two texts would be a further dependency.
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
"""Read first, and read where the series is named later than that."""
_MAX_DEPTH = 32

_Tag = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DicomHead:
    """The facts in a DICOM header about the series it belongs to."""

    series: bytes
    """SeriesInstanceUID (0020,000E); empty where none is stated."""
    sop_class: bytes
    """SOPClassUID (0008,0016); empty where none is stated."""

    @property
    def is_slide_part(self) -> bool:
        """Whether it is an image of a whole slide, as far as it says."""
        return bool(self.series) and self.sop_class in (b"", _WHOLE_SLIDE)


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM by its bytes; False for a folder and for what cannot be read."""
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
                found = _Walk(head).find((_SOP_CLASS, _SERIES))
                break
            except (struct.error, IndexError):
                continue  # cut off by the end of what was read
            except ValueError:
                break  # no header that can be followed
    return DicomHead(found.get(_SERIES, b""), found.get(_SOP_CLASS, b""))


def series_files(path: Path) -> list[Path]:
    """List the DICOM files beside a DICOM file that belong to its series, itself included, sorted by name.

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
    """Sort files by the series of the whole slide that they belong to; others are left out, as is what is unreadable.

    Returns
    -------
    Files by SeriesInstanceUID, sorted by name.
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
        return b""  # an error when it is opened
    return head.series if head is not None and head.is_slide_part else b""


class _Walk:
    """Steps from element to element of a header, over sequences whose length is not stated.

    Parameters
    ----------
    head
        First bytes of a DICOM file.

    Raises
    ------
    struct.error, IndexError
        When the header goes on behind the bytes.
    ValueError
        When it cannot be followed.
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
                at = self._behind_sequence(start, 0)
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
        """Read a tag, the place of its value, and its length."""
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

    def _behind_sequence(self, at: int, depth: int) -> int:
        """Place behind a sequence of undefined length whose items begin at ``at``."""
        if depth > _MAX_DEPTH:
            raise ValueError("sequences too deep")
        while True:
            tag, at, length = self._element(at)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise ValueError(f"no item of a sequence: {tag}")
            at = self._behind_item(at, depth) if length == _UNDEFINED else at + length

    def _behind_item(self, at: int, depth: int) -> int:
        while True:
            tag, at, length = self._element(at)
            if tag == _ITEM_END:
                return at
            at = self._behind_sequence(at, depth + 1) if length == _UNDEFINED else at + length

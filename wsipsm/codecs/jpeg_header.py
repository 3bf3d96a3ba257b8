"""The headers of compressed tiles, read before the tiles are decoded.

The photometric tag of a TIFF or DICOM file can be wrong in both directions: Bio-Formats 6.7 writes RGB on YCbCr tiles,
and other writers do the reverse. The JPEG stream itself usually states the right one. Its size is checked as well, so
that a damaged or malicious tile cannot make the decoder allocate gigabytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from wsipsm.geometry import Size

_DECODABLE = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential and progressive Huffman
_SEQUENTIAL = _DECODABLE[:2]
_SCAN, _RESTART_INTERVAL = 0xDA, 0xDD
_BLOCK_PX = 8
_NO_LENGTH = (0x01, *range(0xD0, 0xD9))


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Facts in the header of a JPEG stream."""

    width: int
    height: int
    n_components: int
    colour: Literal["rgb", "ycbcr"] | None
    """Colour space of three components as the stream states it; None where only the container states one."""


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Read the size and the colour space of a JPEG stream.

    Raises
    ------
    ValueError
        When the stream is no JPEG, is cut short, or is of a kind that wsipsm does not decode.
    """
    has_jfif, adobe = False, None
    for marker, _, segment in _segments(data):
        if marker == 0xE0 and segment[:5] == b"JFIF\0":
            has_jfif = True
        elif marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        elif _is_frame(marker):
            return _frame_header(marker, segment, has_jfif, adobe)
        elif marker == _SCAN:
            break
    raise ValueError("JPEG header cut short")


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the segments of a JPEG stream: marker, byte offset of the content, and content, which may be cut short."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("no JPEG stream")
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ValueError("broken JPEG header")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _NO_LENGTH:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, at + 4, data[at + 4 : at + 2 + length]
        at += 2 + max(2, length)


def _is_frame(marker: int) -> bool:
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def _frame_header(marker: int, segment: bytes, has_jfif: bool, adobe: int | None) -> JpegHeader:
    if marker not in _DECODABLE or len(segment) < 6:
        raise ValueError(f"JPEG of kind 0x{marker:02X}; baseline or progressive is needed")
    precision, height, width, n_components = struct.unpack_from(">BHHB", segment)
    if precision != 8 or len(segment) < 6 + 3 * n_components:
        raise ValueError(f"JPEG of {precision} bits; 8 are needed")
    ids = bytes(segment[6 + 3 * i] for i in range(n_components))
    sampling = [segment[7 + 3 * i] for i in range(n_components)]
    colour: Literal["rgb", "ycbcr"] | None = None
    if n_components == 3:
        # The order is libjpeg's, except that subsampled chroma comes first: no writer subsamples green and blue.
        if sampling[0] != sampling[1]:
            colour = "ycbcr"
        elif ids == b"RGB" or adobe == 0:
            colour = "rgb"
        elif has_jfif or adobe == 1:
            colour = "ycbcr"
    return JpegHeader(width, height, n_components, colour)


@dataclass(frozen=True, slots=True)
class Jpeg2000Header:
    """Facts in the main header of a JPEG 2000 codestream."""

    width: int
    height: int
    n_components: int
    is_subsampled: bool
    has_component_transform: bool


def read_jpeg2000_header(data: bytes) -> Jpeg2000Header:
    """Read the size and the component layout of a JPEG 2000 codestream (ISO 15444-1 A.5, A.6).

    Raises
    ------
    ValueError
        When the data hold no codestream, or its components do not have 8 bits.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 42:
        raise ValueError("no JPEG 2000 codestream")
    x1, y1, x0, y0 = struct.unpack_from(">4I", data, start + 8)
    (n_components,) = struct.unpack_from(">H", data, start + 40)
    components = data[start + 42 : start + 42 + 3 * n_components]
    if len(components) < 3 * n_components or any(depth != 7 for depth in components[::3]):
        raise ValueError("JPEG 2000 of other than 8 bits")
    subsampled = any(step != 1 for i, step in enumerate(components) if i % 3)
    cod = data.find(b"\xff\x52", start + 42 + 3 * n_components)
    transform = cod >= 0 and len(data) > cod + 8 and data[cod + 8] == 1
    return Jpeg2000Header(x1 - x0, y1 - y0, n_components, subsampled, transform)


@dataclass(frozen=True, slots=True)
class ScanHeader:
    """Everything before the compressed pixels of a JPEG; with it, each restart interval can be decoded alone."""

    data: bytes
    size_at: int
    """Offset of the bytes in which the frame states height and width."""
    interval: Size | None
    """Size of a restart interval in pixels, one row of blocks high; None where there are no intervals."""
    halves_rows: bool
    """Whether the chroma components have fewer rows than luma."""

    def with_size(self, size: Size) -> bytes:
        """Return the same header with another height and width."""
        return self.data[: self.size_at] + struct.pack(">HH", size.height, size.width) + self.data[self.size_at + 4 :]


def read_scan_header(data: bytes) -> ScanHeader:
    """Read the header of a JPEG up to its compressed pixels.

    Raises
    ------
    ValueError
        When the stream is no sequential JPEG with its three YCbCr components in one scan, or is cut short.
    """
    if read_jpeg_header(data).colour == "rgb":
        raise ValueError("a JPEG of RGB; YCbCr is needed")
    size_at, sampling, n_blocks = 0, b"", 0
    for marker, at, segment in _segments(data):
        if marker in _SEQUENTIAL:
            size_at, sampling = at + 1, segment[7::3]
        elif marker == _RESTART_INTERVAL and len(segment) >= 2:
            (n_blocks,) = struct.unpack_from(">H", segment)
        elif marker == _SCAN:
            if not size_at or len(sampling) != 3 or segment[:1] != b"\3" or len(segment) < 10:
                break
            across, down = max(value >> 4 for value in sampling), max(value & 15 for value in sampling)
            interval = Size(_BLOCK_PX * across * n_blocks, _BLOCK_PX * down) if n_blocks else None
            return ScanHeader(data[: at + len(segment)], size_at, interval, down > 1)
    raise ValueError("no JPEG of one sequential scan of three components")

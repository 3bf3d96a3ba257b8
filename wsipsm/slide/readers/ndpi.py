"""The levels of an NDPI slide. Each is one JPEG, which is divided into tiles at its restart markers.

A restart interval can be decoded without those before it. An interval is one row of blocks high, so several intervals
that lie below one another are decoded at once, as one JPEG whose restart markers are numbered anew.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wsipsm.codecs.jpeg_header import ScanHeader, read_scan_header
from wsipsm.codecs.tiff_segment import MAX_SEGMENT_PX
from wsipsm.codecs.tile_grid import TileGrid
from wsipsm.geometry import Size

MAX_SCANNED_BYTES = 64 << 20
"""Largest JPEG that is searched for its restart markers; for a larger one the file must state their offsets."""

TILE_PX = 1 << 18
"""Most pixels of a tile that is made of several restart intervals."""

_LENS, _FOCAL_PLANE, _MARKER_STARTS, _MARKER_STARTS_HIGH = 65421, 65424, 65426, 65432
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279
_MAX_HEADER_BYTES = 1 << 16
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SCALES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class _Scan:
    """One JPEG of the file, which is one stored level."""

    tif: tifffile.TiffFile
    size: Size
    header: ScanHeader
    interval: Size
    """Size of a restart interval in pixels, or of the whole level where the JPEG has none."""
    joined: int
    """Number of intervals, one below the other, that form a tile."""
    starts: Sequence[int]
    """Offsets in the file at which the intervals start, row by row, and that at which the last one ends."""

    @property
    def across(self) -> int:
        return self.size.width // self.interval.width

    @property
    def down(self) -> int:
        return self.size.height // self.interval.height


def ndpi_grids(
    tif: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage], levels: Sequence[Size]
) -> dict[int, TileGrid]:
    """Find the tiles of the levels of an NDPI slide.

    Parameters
    ----------
    tif
        The open file.
    pages
        Pages of the file.
    levels
        Sizes of OpenSlide's levels: those that are stored and, between them, those that a decoder makes of a stored
        one by leaving out high frequencies.

    Returns
    -------
    Grids by OpenSlide's level numbers; empty where the levels are not those that the file's pages give.

    Raises
    ------
    ValueError, OSError
        When a JPEG is not what the file says.
    """
    scans = [scan for page in pages if (scan := _find_scan(tif, page)) is not None]
    by_width: dict[int, tuple[_Scan, int]] = {}
    for scan in scans:
        for scale in _SCALES:
            if scan.interval.width % scale == 0 and scan.interval.height % scale == 0:
                by_width[scan.size.width // scale] = (scan, scale)
    found = [by_width[width] for width in sorted(by_width, reverse=True)]
    if [Size(scan.size.width // scale, scan.size.height // scale) for scan, scale in found] != list(levels):
        return {}
    return {level: _grid(scan, scale) for level, (scan, scale) in enumerate(found)}


def _find_scan(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> _Scan | None:
    """Find the intervals of a page; None for a page that is no level."""
    if not (float(page.tags.valueof(_LENS, default=0)) > 0 and int(page.tags.valueof(_FOCAL_PLANE, default=0)) == 0):
        return None
    start, n_bytes = (int(page.tags.valueof(tag)[0]) for tag in (_STRIP_OFFSETS, _STRIP_BYTES))
    if start + n_bytes > tif.filehandle.size:
        raise ValueError("a level is cut short")
    tif.filehandle.seek(start)
    header = read_scan_header(tif.filehandle.read(min(n_bytes, _MAX_HEADER_BYTES)))
    size = Size(int(page.imagewidth), int(page.imagelength))
    interval = header.interval or size
    if size.width % interval.width or size.height % interval.height or interval.area > MAX_SEGMENT_PX:
        raise ValueError(f"{size} px in intervals of {interval} px")
    down = size.height // interval.height
    # Chroma that is subsampled vertically is interpolated within an interval; joining would change it at the seams.
    joined = 1 if header.halves_rows else max(1, min(down, TILE_PX // interval.area))
    n_intervals = size.area // interval.area
    starts = _interval_starts(tif, page, start, n_bytes, len(header.data), n_intervals)
    return _Scan(tif, size, header, interval, joined, starts)


def _interval_starts(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, start: int, n_bytes: int, n_header: int, n_intervals: int
) -> list[int]:
    low = page.tags.valueof(_MARKER_STARTS)
    if n_intervals == 1:
        found = [start + n_header]
    elif low is not None and len(low) == n_intervals:
        high = page.tags.valueof(_MARKER_STARTS_HIGH)
        offsets = np.asarray(low, np.int64)
        if high is not None:
            offsets = offsets + (np.asarray(high, np.int64) << 32)
        found = (offsets + start).tolist()
    elif n_bytes <= MAX_SCANNED_BYTES:
        tif.filehandle.seek(start + n_header)
        data = tif.filehandle.read(n_bytes - n_header)
        found = [start + n_header, *(start + n_header + match.end() for match in _RESTART.finditer(data))]
    else:
        raise ValueError("a large level without the offsets of its restart markers")
    found.append(start + n_bytes)
    if len(found) != n_intervals + 1 or (np.diff(found) < len(b"\xff\xd9")).any() or found[0] < start + n_header:
        raise ValueError(f"{len(found) - 1} restart intervals where {n_intervals} belong")
    return found


def _grid(scan: _Scan, scale: int) -> TileGrid:
    height = scan.interval.height * scan.joined
    return TileGrid(scan.across, Size(scan.interval.width // scale, height // scale), partial(_decode, scan, scale))


def _decode(scan: _Scan, scale: int, index: int) -> NDArray[np.uint8]:
    row, column = divmod(index, scan.across)
    first = row * scan.joined
    rows = range(first, min(first + scan.joined, scan.down))
    size = Size(scan.interval.width, scan.interval.height * len(rows))
    stream = bytearray(scan.header.with_size(size))
    for n, place in enumerate(rows):
        start, end = (scan.starts[place * scan.across + column + more] for more in (0, 1))
        scan.tif.filehandle.seek(start)
        data = scan.tif.filehandle.read(end - start)
        if len(data) != end - start or data[-2] != 0xFF:
            raise ValueError("a restart interval without its end")
        stream += data
        stream[-1] = 0xD0 + n % 8
    stream[-1] = 0xD9
    if scale > 1:
        return _decode_scaled(bytes(stream), size, scale)
    return np.asarray(imagecodecs.jpeg8_decode(bytes(stream), colorspace="YCBCR", outcolorspace="RGB"))


def _decode_scaled(stream: bytes, size: Size, scale: int) -> NDArray[np.uint8]:
    """Decode at 1/scale of the size, from the lower frequencies of each block."""
    wanted = (size.width // scale, size.height // scale)
    with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
        image.draft("RGB", wanted)
        if image.size != wanted:
            raise ValueError(f"a JPEG of {size} px that decodes to {image.size}")
        return np.asarray(image, np.uint8)

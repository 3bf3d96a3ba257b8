"""Decoding of the tiles of vendors' TIFF slides: OpenSlide reads the same pixels at a fourth to an eighth of the speed.

OpenSlide still gives the levels, pixel size and bounds of a slide. A level is decoded here only where the layout of its
tiles is understood and one of its tiles agrees with OpenSlide's pixels; OpenSlide reads all others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsipsm.codecs.tiff_directory import TIFF_PARSE_ERRORS
from wsipsm.codecs.tile_grid import TileError, TileGrid, TileReader
from wsipsm.errors import SlideError, SlideReadError
from wsipsm.geometry import Box, Size
from wsipsm.slide.readers.ndpi import ndpi_grids
from wsipsm.slide.readers.tiff import MAX_PAGES_CHECKED, tile_grid
from wsipsm.slide.readers.tiff_layout import require_readable_page

MAX_GREY_DIFFERENCE = 2
"""Grey levels by which a tile may differ from OpenSlide's: decoders of JPEG 2000 in YCbCr round differently."""

_COMPRESSIONS = (7, 33003, 33005)  # JPEG and Aperio's kinds of JPEG 2000
_RGB, _YCBCR = 2, 6


class VendorTiles(TileReader):
    """The levels of a vendor's TIFF that are decoded here, while the file is open.

    Parameters
    ----------
    tif
        The open file.
    grids
        Grids of the levels, by the numbers of the slide's levels.
    """

    def __init__(self, tif: tifffile.TiffFile, grids: Mapping[int, TileGrid]) -> None:
        super().__init__(grids)
        self._tif = tif

    def close(self) -> None:
        """Release the file."""
        self._tif.close()
        self.forget()


def open_vendor_tiles(
    path: Path, vendor: str | None, levels: Sequence[Size], used: Sequence[int]
) -> VendorTiles | None:
    """Open the levels whose layout of tiles is understood.

    Parameters
    ----------
    path
        The file.
    vendor
        Vendor as OpenSlide names it.
    levels
        All of OpenSlide's levels.
    used
        Indices of those that are levels of the slide.

    Returns
    -------
    The levels, numbered by their place in ``used``; None when no level is understood, so that OpenSlide reads all.
    """
    find = _FINDERS.get(vendor or "")
    if find is None:
        return None
    try:
        tif = tifffile.TiffFile(path)
    except TIFF_PARSE_ERRORS:
        return None
    try:
        pages = [page for page in itertools.islice(tif.pages, MAX_PAGES_CHECKED) if isinstance(page, tifffile.TiffPage)]
        found = find(tif, pages, levels)
    except TIFF_PARSE_ERRORS:
        found = {}
    grids = {level: found[index] for level, index in enumerate(used) if index in found}
    if not grids:
        tif.close()
        return None
    return VendorTiles(tif, grids)


def keep_agreeing_levels(
    tiles: VendorTiles,
    levels: Sequence[Size],
    downsamples: Sequence[float],
    read: Callable[[int, Box], NDArray[np.uint8]],
) -> None:
    """Drop the levels whose tile in the middle differs from OpenSlide's pixels, or cannot be compared.

    A level whose downsample is no whole number is dropped, too: OpenSlide shifts its pixels by a fraction of one, and
    the quality checks, above all that of the pixel size, were fitted on OpenSlide's pixels.

    Parameters
    ----------
    tiles
        Levels that are decoded here; this function removes some.
    levels, downsamples
        Levels and downsamples of the slide.
    read
        Function that returns OpenSlide's pixels of a box of a level, RGB, shape (h, w, 3), uint8.
    """
    for level, grid in list(tiles.grids.items()):
        if downsamples[level] != round(downsamples[level]):
            del tiles.grids[level]
            continue
        box = _tile_to_compare(grid, levels[level])
        try:
            difference = np.abs(tiles.read(level, box).astype(np.int16) - read(level, box)).max()
        except (TileError, SlideReadError):
            difference = None
        if difference is None or difference > MAX_GREY_DIFFERENCE:
            del tiles.grids[level]


def _tile_to_compare(grid: TileGrid, level: Size) -> Box:
    """Return the box of the tile in the middle of a level."""
    whole = Box(0, 0, level.width, level.height)
    x = whole.width // 2 // grid.tile.width * grid.tile.width
    y = whole.height // 2 // grid.tile.height * grid.tile.height
    return Box(x, y, grid.tile.width, grid.tile.height).intersect(whole)


def _aperio_grids(
    tif: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage], levels: Sequence[Size]
) -> dict[int, TileGrid]:
    tiled = [page for page in pages if page.is_tiled]
    # OpenSlide fills a missing tile from the finer level, on all coarser levels as well.
    is_whole = all(all(page.databytecounts) for page in tiled)
    fits = [_size_of(page) for page in tiled] == list(levels)
    return _tiled_grids(tif, tiled) if is_whole and fits else {}


def _philips_grids(
    tif: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage], levels: Sequence[Size]
) -> dict[int, TileGrid]:
    tiled = [page for page in pages if page.is_tiled]
    # Stored levels are padded to whole tiles, and OpenSlide cuts the padding off; a missing tile is white in both.
    stored = [_size_of(page) for page in tiled]
    fits = len(stored) == len(levels) and all(
        level.width <= size.width and level.height <= size.height for level, size in zip(levels, stored, strict=True)
    )
    return _tiled_grids(tif, tiled) if fits else {}


def _size_of(page: tifffile.TiffPage) -> Size:
    return Size(int(page.imagewidth), int(page.imagelength))


def _tiled_grids(tif: tifffile.TiffFile, tiled: Sequence[tifffile.TiffPage]) -> dict[int, TileGrid]:
    """Find the grids of the levels that are tiles of JPEG or JPEG 2000 in RGB or YCbCr."""
    return {level: tile_grid(tif, page, must_end=True) for level, page in enumerate(tiled) if _is_understood(tif, page)}


def _is_understood(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    if int(page.compression) not in _COMPRESSIONS or int(page.photometric) not in (_RGB, _YCBCR):
        return False
    if int(page.samplesperpixel) != 3 or page.planarconfig != 1:
        return False
    try:
        require_readable_page(tif, page, Path(tif.filename))
    except SlideError:
        return False
    return True


_FINDERS: Mapping[str, Callable[..., dict[int, TileGrid]]] = MappingProxyType(
    {"aperio": _aperio_grids, "philips": _philips_grids, "hamamatsu": ndpi_grids}
)
"""Functions that find the grids, by OpenSlide's name of the vendor."""

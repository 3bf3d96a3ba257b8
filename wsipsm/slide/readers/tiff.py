"""TIFF through tifffile and imagecodecs: OME-TIFF with its pyramids, big-endian TIFF, tiled or stripped.

Only the tiles or strips that a box touches are read. What a header states is checked against the size of the file and
of the tile before it is used.
"""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsipsm.codecs.tiff_directory import TIFF_PARSE_ERRORS, find_cut
from wsipsm.codecs.tiff_segment import MAX_SEGMENT_PX, decode_segment, segment_size
from wsipsm.codecs.tile_grid import TileError, TileGrid, TileReader
from wsipsm.errors import SlideError, SlideOpenError, WsipsmError
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.bounds import find_bounds
from wsipsm.slide.colour import find_wrong_tiff_photometric
from wsipsm.slide.pixel_size import choose_mpp
from wsipsm.slide.reader import ReaderSlide, to_sizes
from wsipsm.slide.readers.tiff_images import open_image
from wsipsm.slide.readers.tiff_layout import find_levels, find_stated_mpp, objective_power

MAX_SIDE_PX = 1 << 22
"""Longest side of a slide in pixels: a metre of glass at 40x."""

MAX_PAGES_CHECKED = 64
"""Most pages whose sizes are checked. No slide has as many levels and associated images; a stack may have thousands."""

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(path: Path) -> bool:
    """Check whether a file starts like a TIFF or BigTIFF of either byte order."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) in _SIGNATURES
    except OSError:
        return False


def is_ome_tiff(path: Path) -> bool:
    """Check whether a file is a TIFF that holds OME-XML."""
    if not is_tiff(path):
        return False
    try:
        with tifffile.TiffFile(path) as tif:
            return bool(tif.is_ome)
    except TIFF_PARSE_ERRORS:
        return False


def find_impossible_size(path: Path) -> str | None:
    """Describe the first impossible size in a TIFF's headers; None when all are possible.

    OpenSlide allocates what a header states, and its library ends the whole process when that fails.
    """
    if not is_tiff(path):
        return None
    try:
        with tifffile.TiffFile(path) as tif:
            for page in itertools.islice(tif.pages, MAX_PAGES_CHECKED):
                if not isinstance(page, tifffile.TiffPage):  # a frame, which repeats the sizes of a page before it
                    continue
                if max(int(page.imagewidth), int(page.imagelength)) > MAX_SIDE_PX:
                    return f"{page.imagewidth} x {page.imagelength} px in the header; {MAX_SIDE_PX:,} a side allowed"
                width, height = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, 1)
                if int(width) * int(height) > MAX_SEGMENT_PX:
                    return f"tiles of {width} x {height} px in the header, more than the {MAX_SEGMENT_PX:,} px allowed"
                n_tiles = -(-int(page.imagewidth) // int(width)) * -(-int(page.imagelength) // int(height))
                if page.is_tiled and len(page.dataoffsets) < n_tiles:
                    return f"{len(page.dataoffsets)} tiles in the file, {n_tiles} by the size in the header"
    except TIFF_PARSE_ERRORS as error:
        return f"the TIFF structure is damaged: {error}"
    return None


class TiffSlide(ReaderSlide):
    """An 8-bit RGB, YCbCr, grey or palette TIFF.

    Parameters
    ----------
    path
        The file.
    mpp
        Pixel size in um/px that overrides the file's.
    image
        Number of the image that is the slide, from 1; None chooses the largest pyramid.

    Raises
    ------
    SlideOpenError
        When it is no such TIFF, is damaged, or has a vendor's layout; the message is the reason alone.
    UnsupportedSlideError
        When it holds several channels or planes, or samples that are not 8-bit.
    UsageError
        When there is no image of that number.
    """

    def __init__(self, path: Path, mpp: float | None = None, image: int | None = None) -> None:
        if not is_tiff(path):
            raise SlideOpenError("its first bytes are not those of a TIFF")
        try:
            cut = find_cut(path)
            if cut:
                raise SlideOpenError(cut)
            self._chosen = open_image(path, image)
            self._tif = self._chosen.tif
        except WsipsmError:
            raise
        except TIFF_PARSE_ERRORS as error:
            raise SlideOpenError(f"the TIFF structure is damaged: {error}") from error
        try:
            info = self._describe(path, mpp)
        except SlideError:
            self._tif.close()
            raise
        except TIFF_PARSE_ERRORS as error:
            self._tif.close()
            raise SlideOpenError(f"the TIFF structure is damaged: {error}") from error
        self._tiles = TileReader({level: tile_grid(self._tif, page) for level, page in enumerate(self._pages)})
        super().__init__(info)

    def _describe(self, path: Path, mpp: float | None) -> SlideInfo:
        self._pages = find_levels(self._chosen, path)
        sizes = to_sizes([(page.imagewidth, page.imagelength) for page in self._pages])
        power = objective_power(self._tif)
        used, statements = choose_mpp(find_stated_mpp(self._tif, self._pages[0]), mpp, power)
        notes: tuple[str, ...] = ()
        wrong = find_wrong_tiff_photometric(path, sizes[0].width, sizes[0].height)
        if wrong:
            tiles, tag = ("YCbCr", "RGB") if wrong == "ycbcr taken for rgb" else ("RGB", "YCbCr")
            notes = (*notes, f"the photometric tag says {tag}, the JPEG tiles are {tiles}; they were read as {tiles}")
        bounds, bounds_note = (None, None)
        # QuPath reads OME-TIFF through Bio-Formats, which does not crop; OpenSlide allocates what a header says.
        if not self._tif.is_ome and find_impossible_size(path) is None:
            bounds, bounds_note = find_bounds(path, sizes[0])
        return SlideInfo(
            path=str(path),
            reader="tiff",
            level_sizes=sizes,
            mpp=used,
            bounds=bounds,
            vendor="ome" if self._tif.is_ome else "aperio" if self._tif.is_svs else None,
            objective_power=power,
            images=self._chosen.images if len(self._chosen.images) > 1 else (),
            image=self._chosen.number,
            mpp_statements=statements,
            notes=(*self._chosen.notes, *notes, *((bounds_note,) if bounds_note else ())),
        )

    def _read_inside(self, level: int, box: Box) -> NDArray[np.uint8]:
        try:
            return self._tiles.read(level, box)
        except TileError as error:
            raise self._undecodable(level, str(error), error.why) from error

    def _release(self) -> None:
        self._tif.close()
        self._tiles.forget()


def tile_grid(tif: tifffile.TiffFile, page: tifffile.TiffPage, must_end: bool = False) -> TileGrid:
    """Make the grid of tiles or strips of a page that passed `tiff_layout.require_readable_page`.

    ``must_end`` is that of `tiff_segment.decode_segment`.
    """
    width, height = segment_size(page)
    decode = partial(decode_segment, tif, page, must_end=must_end)
    return TileGrid(-(-int(page.imagewidth) // width), Size(width, height), decode)

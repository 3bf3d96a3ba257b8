"""Levels of a slide as grids of tiles, decoded one by one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsipsm.codecs.tiff_directory import TIFF_PARSE_ERRORS
from wsipsm.geometry import Box, Size

CACHE_BYTES = 48 << 20
"""Size of the decoded tiles that are kept: enough for the seam between two reads of one row of blocks, and little
compared with the memory of a block."""

SEAM_PART = 5
"""Part of a box, on its right and at its bottom, whose tiles are kept: one fifth. The next boxes overlap the box there,
by a sixth of its side. The tiles inside the rest are not kept, because they would displace these."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """One level of a slide as a grid of tiles that begins at the corner of the level."""

    across: int
    """Tiles in a row."""
    tile: Size
    decode: Callable[[int], NDArray[np.uint8]]
    """Function that decodes the tile with a number, counted row by row, to RGB of shape (h, w, 3), uint8. The tile is
    at least as large as its part of the level."""


class TileError(Exception):
    """A tile does not decode.

    Parameters
    ----------
    column, row
        Position of the tile in its grid.
    why
        Message of the decoder.
    """

    def __init__(self, column: int, row: int, why: str) -> None:
        super().__init__(column, row, why)  # pickle rebuilds the error from these
        self.column, self.row, self.why = column, row, why

    def __str__(self) -> str:
        return f"tile {self.column}, {self.row}"


class TileReader:
    """Reader of boxes of levels, which keeps the tiles that it decoded last.

    Parameters
    ----------
    grids
        Grids of the levels that can be read, keyed by the number of the level.
    """

    def __init__(self, grids: Mapping[int, TileGrid]) -> None:
        self.grids = dict(grids)
        self._kept: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self.kept_bytes = 0
        """Size of the decoded tiles that are kept, bytes."""

    def read(self, level: int, box: Box) -> NDArray[np.uint8]:
        """Read a box, in pixels of a level, that lies inside the level.

        Returns
        -------
        RGB of shape (box.height, box.width, 3), uint8.

        Raises
        ------
        TileError
            When a tile does not decode.
        """
        grid = self.grids[level]
        width, height = grid.tile.width, grid.tile.height
        out = np.empty((box.height, box.width, 3), np.uint8)
        seam_x, seam_y = box.right - box.width // SEAM_PART, box.bottom - box.height // SEAM_PART
        for row in range(box.y // height, -(-box.bottom // height)):
            for column in range(box.x // width, -(-box.right // width)):
                # Plain numbers instead of Box, because thousands of tiles pass here each second.
                top, left = row * height, column * width
                is_inside = left >= box.x and top >= box.y and left + width <= seam_x and top + height <= seam_y
                pixels = self._tile(level, row * grid.across + column, keep=not is_inside)
                y, bottom = max(top, box.y), min(top + height, box.bottom)
                x, right = max(left, box.x), min(left + width, box.right)
                out[y - box.y : bottom - box.y, x - box.x : right - box.x] = pixels[
                    y - top : bottom - top, x - left : right - left
                ]
        return out

    def forget(self) -> None:
        """Drop the tiles that are kept."""
        self._kept.clear()
        self.kept_bytes = 0

    def _tile(self, level: int, index: int, keep: bool) -> NDArray[np.uint8]:
        key = (level, index)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        pixels = self._decoded(level, index)
        if not keep:
            return pixels
        self._kept[key] = pixels
        self.kept_bytes += pixels.nbytes
        while self.kept_bytes > CACHE_BYTES and len(self._kept) > 1:
            self.kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return pixels

    def _decoded(self, level: int, index: int) -> NDArray[np.uint8]:
        grid = self.grids[level]
        try:
            return grid.decode(index)
        except TIFF_PARSE_ERRORS as error:
            why = str(error)
        # Raised outside the except clause: the codec's own error, which may not unpickle, must not become its context.
        raise TileError(index % grid.across, index // grid.across, why)

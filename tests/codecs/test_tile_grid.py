"""Boxes of a level that are read from a grid of tiles."""

from __future__ import annotations

import numpy as np

from wsipsm.codecs.tile_grid import TileGrid, TileReader
from wsipsm.geometry import Box, Size


def test_tiles_of_a_seam_are_kept_and_others_are_not() -> None:
    decoded: list[int] = []

    def decode(index: int) -> np.ndarray:
        decoded.append(index)
        return np.full((10, 10, 3), index, np.uint8)

    reader = TileReader({0: TileGrid(10, Size(10, 10), decode)})
    reader.read(0, Box(0, 0, 55, 55))
    assert len(decoded) == 36
    reader.read(0, Box(44, 0, 40, 55))
    assert len(decoded) == 36 + 3 * 6
    assert (reader.read(0, Box(3, 4, 1, 1)) == 0).all()
    reader.forget()
    assert reader.kept_bytes == 0

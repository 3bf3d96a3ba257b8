"""Slides whose scan lies on a larger, empty canvas, drawn as a sparse tiled TIFF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

TILE_PX = 256


def write_sparse(
    path: Path, pixels: NDArray[np.uint8], canvas: tuple[int, int], corner: tuple[int, int], mpp: float = 0.5
) -> Path:
    """Write pixels, shape (h, w, 3), on a canvas of width and height; tiles that they do not touch have no bytes.

    OpenSlide states bounds of whole tiles, so corner and size are multiples of ``TILE_PX`` where bounds are to be the
    pixels' own.
    """
    (width, height), (x, y) = canvas, corner
    image = np.full((height, width, 3), 255, np.uint8)
    image[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    per_cm = 10_000 / mpp
    tifffile.imwrite(
        path,
        image,
        tile=(TILE_PX, TILE_PX),
        photometric="rgb",
        compression="deflate",
        metadata=None,
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )
    across = -(-width // TILE_PX)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tags = tif.pages.first.tags
        counts, offsets = list(tags["TileByteCounts"].value), list(tags["TileOffsets"].value)
        for index in range(len(counts)):
            row, column = divmod(index, across)
            inside_x = x - TILE_PX < column * TILE_PX < x + pixels.shape[1]
            inside_y = y - TILE_PX < row * TILE_PX < y + pixels.shape[0]
            if not (inside_x and inside_y):
                counts[index] = offsets[index] = 0
        tags["TileByteCounts"].overwrite(counts)
        tags["TileOffsets"].overwrite(offsets)
    return path

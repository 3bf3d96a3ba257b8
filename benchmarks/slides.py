"""Writes slides of any size from real pixels, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import orjson
import shapely
import tifffile
from numpy.typing import NDArray

from wsipsm.geometry import Box
from wsipsm.slide.open import open_slide, require_mpp

TILE_PX = 512
REDUCTION = 4
"""Factor between levels; the smallest level has a side of at most `SMALLEST_PX`."""
SMALLEST_PX = 2048
JPEG_QUALITY = 90


def read_source(path: Path) -> tuple[NDArray[np.uint8], float]:
    """Read all pixels of a small slide, and its pixel size, um/px."""
    with open_slide(path) as slide:
        size = slide.info.size
        return slide.read_level(0, Box(0, 0, size.width, size.height)), require_mpp(slide.info)


def write_whole_region(path: Path, size_px: int) -> None:
    """Write a GeoJSON file for --roi whose region is all of a square slide."""
    whole = shapely.box(0, 0, size_px, size_px)
    feature = {"type": "Feature", "properties": {"name": "whole slide"}, "geometry": shapely.geometry.mapping(whole)}
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": [feature]}))


def compose_slide(path: Path, pixels: NDArray[np.uint8], size_px: int, mpp: float) -> None:
    """Write a square pyramid that repeats real pixels, mirrored so that seams are smooth.

    The pattern is made tile by tile: memory depends on ``pixels``, not on ``size_px``.

    Parameters
    ----------
    path
        TIFF to write, in Aperio's format, which states the pixel size.
    pixels
        Image, uint8, shape (height, width, 3), each side at least 256.
    size_px
        Side of level 0, pixels.
    mpp
        Pixel size of ``pixels``, um/px.
    """
    # Whole multiples keep the pattern's period the same at every level.
    unit = REDUCTION**3
    pattern = pixels[: pixels.shape[0] // unit * unit, : pixels.shape[1] // unit * unit]
    head = f"Aperio Image Library v12.0.0\r\n{size_px}x{size_px} ({TILE_PX}x{TILE_PX}) JPEG/RGB Q={JPEG_QUALITY}"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(8):
            side = size_px // REDUCTION**level
            _write_level(tiff, pattern, side, f"{head}|AppMag = 40|MPP = {mpp}", is_first=level == 0)
            if side <= SMALLEST_PX:
                break
            shape = (pattern.shape[1] // REDUCTION, pattern.shape[0] // REDUCTION)
            pattern = np.asarray(cv2.resize(pattern, shape, interpolation=cv2.INTER_AREA), np.uint8)


def _write_level(
    tiff: tifffile.TiffWriter, pattern: NDArray[np.uint8], side: int, description: str, is_first: bool
) -> None:
    tiff.write(
        mirrored_tiles(pattern, side),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": JPEG_QUALITY, "outcolorspace": "rgb"},
        # OpenSlide takes every tiled page of an Aperio file as a level.
        subfiletype=0 if is_first else 1,
        description=description if is_first else None,
        metadata=None,
        maxworkers=1,
    )


def mirrored_tiles(pattern: NDArray[np.uint8], side: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the tiles, row by row, of an endless mirrored repetition of ``pattern``, white beyond ``side``."""
    n_tiles = -(-side // TILE_PX)
    for row in range(n_tiles):
        rows = _mirrored(np.arange(row * TILE_PX, (row + 1) * TILE_PX), pattern.shape[0])
        for column in range(n_tiles):
            columns = _mirrored(np.arange(column * TILE_PX, (column + 1) * TILE_PX), pattern.shape[1])
            tile = pattern[np.ix_(rows, columns)]
            tile[max(0, side - row * TILE_PX) :] = 255
            tile[:, max(0, side - column * TILE_PX) :] = 255
            yield tile


def _mirrored(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    index = index % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)

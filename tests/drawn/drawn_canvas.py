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


def write_dense(path: Path, pixels: NDArray[np.uint8], mpp: float = 0.5) -> Path:
    """Write pixels, shape (h, w, 3), as a tiled TIFF of their own size."""
    per_cm = 10_000 / mpp
    tifffile.imwrite(
        path,
        pixels,
        tile=(TILE_PX, TILE_PX),
        photometric="rgb",
        compression="deflate",
        metadata=None,
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )
    return path


_SCAN = (
    "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
    "<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>"
    "</illuminationSettings></scanSettings>"
)


def write_scn(
    path: Path, pixels: NDArray[np.uint8], canvas: tuple[int, int], corner: tuple[int, int], mpp: float = 0.5
) -> Path:
    """Write pixels, shape (h, w, 3), as a Leica SCN: an area on a collection of the canvas' size, and a macro."""
    nm = round(mpp * 1000)
    height, width = pixels.shape[:2]
    macro = np.full((canvas[1] // 64, canvas[0] // 64, 3), 255, np.uint8)

    def image(name: str, ifd: int, shape: tuple[int, ...], view: tuple[int, int, int, int]) -> str:
        x, y, view_width, view_height = (value * nm for value in view)
        return (
            f'<image name="{name}"><device model="Leica SCN400" version="1.5"/><pixels sizeX="1" sizeY="1">'
            f'<dimension sizeX="{shape[1]}" sizeY="{shape[0]}" r="0" ifd="{ifd}"/></pixels>'
            f'<view sizeX="{view_width}" sizeY="{view_height}" offsetX="{x}" offsetY="{y}" spacingZ="0"/>'
            f"{_SCAN}</image>"
        )

    description = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="drawn" sizeX="{canvas[0] * nm}" sizeY="{canvas[1] * nm}">'
        + image("macro", 0, macro.shape, (0, 0, *canvas))
        + image("area", 1, pixels.shape, (*corner, width, height))
        + "</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level, text in ((macro, description), (pixels, None)):
            writer.write(
                level,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="deflate",
                description=text,
                metadata=None,
                resolution=(10_000 / mpp, 10_000 / mpp),
                resolutionunit="CENTIMETER",
            )
    return path

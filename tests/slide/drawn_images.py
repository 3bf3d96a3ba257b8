"""TIFF files of several images, drawn for tests."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

MPP = 0.2271


def flat(width: int, height: int, value: int) -> np.ndarray:
    """RGB of one colour with a gradient, so that no two places are the same."""
    y, x = np.mgrid[:height, :width]
    return np.stack((np.full_like(x, value), x % 256, y % 256), axis=2).astype(np.uint8)


def part(width: int, height: int, data: str, name: str = "", mpp: float = MPP) -> str:
    """Image element of OME-XML around its TiffData."""
    return (
        f'<Image ID="Image:{name}" Name="{name}"><Pixels ID="Pixels:{name}" DimensionOrder="XYCZT" Type="uint8" '
        f'SizeX="{width}" SizeY="{height}" SizeZ="1" SizeC="3" SizeT="1" PhysicalSizeX="{mpp}" PhysicalSizeY="{mpp}">'
        f'<Channel ID="Channel:{name}" SamplesPerPixel="3"/>{data}</Pixels></Image>'
    )


def data(page: int, file: str = "", number: int = 0) -> str:
    """TiffData of a page, of this file or of another."""
    where = f'<UUID FileName="{file}">{urn(number)}</UUID>' if file else ""
    return f'<TiffData IFD="{page}" PlaneCount="1">{where}</TiffData>'


def urn(number: int) -> str:
    return f"urn:uuid:{uuid.UUID(int=number)}"


def ome(parts: Sequence[str], own: int | None = None) -> bytes:
    """OME-XML of images, of a file with an identifier of its own or without."""
    head = "" if own is None else f' UUID="{urn(own)}"'
    schema = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    return f'<?xml version="1.0" encoding="UTF-8"?><OME {schema}{head}>{"".join(parts)}</OME>'.encode()


def write_pages(path: Path, pages: Sequence[np.ndarray], description: bytes | None = None, n_levels: int = 1) -> Path:
    """Write pages, each with its reduced copies in SubIFDs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(pages):
            text = description if number == 0 else None
            writer.write(page, description=text, subifds=n_levels - 1, **options)
            for level in range(1, n_levels):
                step = 2**level
                writer.write(np.ascontiguousarray(page[::step, ::step]), subfiletype=1, **options)
    return path

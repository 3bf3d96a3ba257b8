"""Wrong photometric interpretations: containers that declare RGB for YCbCr tiles, or the reverse."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tifffile

from wsipsm.codecs.jpeg_header import read_jpeg_header
from wsipsm.codecs.tiff_directory import TIFF_PARSE_ERRORS

WrongPhotometric = Literal["ycbcr taken for rgb", "rgb taken for ycbcr"]
"""What a reader that trusts the container does to the colours."""

_JPEG = 7
_RGB, _YCBCR = 2, 6
_DICOM_PIXELS = b"\xe0\x7f\x10\x00"
_DICOM_PHOTOMETRIC = b"\x28\x00\x04\x00CS"
_DICOM_HEAD_BYTES = 4 << 20


def find_wrong_tiff_photometric(path: Path, width: int, height: int) -> WrongPhotometric | None:
    """Compare the photometric tag of a TIFF's full-size page with the header of its first JPEG tile.

    Parameters
    ----------
    path
        The file.
    width, height
        Size of the full-size page, pixels.

    Returns
    -------
    What is wrong; None when tag and tile agree, or the tile does not state its colour space.
    """
    try:
        with tifffile.TiffFile(path) as tif:
            for page in tif.pages:
                if not isinstance(page, tifffile.TiffPage) or page.compression != _JPEG:
                    continue
                if (page.imagewidth, page.imagelength) != (width, height):
                    continue
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
                    if count:
                        tif.filehandle.seek(offset)
                        return _compare(tif.filehandle.read(min(count, 1 << 20)), page.photometric == _RGB)
    except TIFF_PARSE_ERRORS:
        return None
    return None


def find_wrong_dicom_photometric(path: Path) -> WrongPhotometric | None:
    """Compare PhotometricInterpretation of a DICOM file with the header of its first JPEG frame.

    Returns
    -------
    What is wrong; None when both agree, or the frame does not state its colour space.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(_DICOM_HEAD_BYTES)
    tag, pixels = head.find(_DICOM_PHOTOMETRIC), head.find(_DICOM_PIXELS)
    frame = head.find(b"\xff\xd8\xff", pixels) if pixels >= 0 else -1
    if tag < 0 or frame < 0:
        return None
    at = tag + len(_DICOM_PHOTOMETRIC) + 2
    photometric = head[at : at + int.from_bytes(head[at - 2 : at], "little")].rstrip(b"\0 ")
    if photometric != b"RGB" and not photometric.startswith(b"YBR_FULL"):
        return None
    try:
        return _compare(head[frame:], photometric == b"RGB")
    except ValueError:
        return None


def _compare(tile: bytes, tag_says_rgb: bool) -> WrongPhotometric | None:
    colour = read_jpeg_header(tile).colour
    if colour == "ycbcr" and tag_says_rgb:
        return "ycbcr taken for rgb"
    if colour == "rgb" and not tag_says_rgb:
        return "rgb taken for ycbcr"
    return None

"""Colours that a container declares wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tifffile

from wsipsm.codecs.jpeg_header import read_jpeg_header
from wsipsm.codecs.tiff_directory import TIFF_PARSE_ERRORS

Lie = Literal["ycbcr taken for rgb", "rgb taken for ycbcr"]

_JPEG = 7
_RGB, _YCBCR = 2, 6
_DICOM_PIXELS = b"\xe0\x7f\x10\x00"
_DICOM_PHOTOMETRIC = b"\x28\x00\x04\x00CS"
_DICOM_HEAD_BYTES = 4 << 20


def find_tiff_lie(path: Path, width: int, height: int) -> Lie | None:
    """Compare the photometric tag of a TIFF's full-size page with what its first JPEG tile says.

    Returns
    -------
    What a reader that trusts the tag does to the colours; None when tag and tile agree, or the tile does not show it.
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
                        return _judge(tif.filehandle.read(min(count, 1 << 20)), page.photometric == _RGB)
    except TIFF_PARSE_ERRORS:
        return None
    return None


def find_dicom_lie(path: Path) -> Lie | None:
    """Compare PhotometricInterpretation of a DICOM file with what its first JPEG frame says."""
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
        return _judge(head[frame:], photometric == b"RGB")
    except ValueError:
        return None


def _judge(tile: bytes, tag_says_rgb: bool) -> Lie | None:
    colour = read_jpeg_header(tile).colour
    if colour == "ycbcr" and tag_says_rgb:
        return "ycbcr taken for rgb"
    if colour == "rgb" and not tag_says_rgb:
        return "rgb taken for ycbcr"
    return None

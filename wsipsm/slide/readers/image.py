"""Plain images as slides of one level, through Pillow."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from wsipsm.codecs.rgb import compose_over_white
from wsipsm.errors import SlideOpenError
from wsipsm.geometry import Box
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.formats import PLAIN, single_suffixes
from wsipsm.slide.pixel_size import choose_mpp
from wsipsm.slide.reader import ReaderSlide, to_sizes

SUFFIXES = single_suffixes(PLAIN)
"""Suffixes of plain images. The suffix is checked as well as the content, since an MRXS index is a JPEG of a slide's
label. TIFF has its own reader."""

FORMATS = ("PNG", "JPEG", "BMP")

MAX_IMAGE_PX = 150_000_000
"""Most pixels of a plain image; larger ones are refused, since an image is decoded whole, at 3 bytes a pixel."""

_MAX_PROFILE_BYTES = 16 * 2**20
_WITH_ALPHA = ("RGBA", "LA", "PA")
_PLAIN = ("RGB", "L", "P", "1")


class ImageSlide(ReaderSlide):
    """A PNG, JPEG or BMP image, decoded when opened.

    Parameters
    ----------
    path
        The image.
    mpp
        Pixel size in um/px. That of the image file is not used: its resolution is meant for printing.

    Raises
    ------
    SlideOpenError
        When it is no such image, is too large, or does not decode; the message is the reason alone.
    """

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise SlideOpenError(f"reads {', '.join(SUFFIXES)} only")
        self._pixels: NDArray[np.uint8] | None = _decode(path)
        height, width = self._pixels.shape[:2]
        used, statements = choose_mpp((), mpp)
        sizes = to_sizes([(width, height)])
        super().__init__(SlideInfo(str(path), "image", sizes, used, mpp_statements=statements))

    def _read_inside(self, level: int, box: Box) -> NDArray[np.uint8]:
        assert self._pixels is not None  # only `close` releases it, after which nothing is read
        return self._pixels[box.y : box.bottom, box.x : box.right].copy()

    def _release(self) -> None:
        self._pixels = None


@contextmanager
def _large_profiles() -> Iterator[None]:
    """Admit large colour profiles, which scanners write: Pillow refuses a PNG with one of over 1 MiB."""
    usual = PngImagePlugin.MAX_TEXT_CHUNK
    PngImagePlugin.MAX_TEXT_CHUNK = _MAX_PROFILE_BYTES
    try:
        yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK = usual


def _decode(path: Path) -> NDArray[np.uint8]:
    with _large_profiles():
        return _decode_image(path)


def _decode_image(path: Path) -> NDArray[np.uint8]:
    try:
        # The check below replaces Pillow's warning about the size; Pillow's error is kept.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise SlideOpenError("no PNG, JPEG or BMP image by its content") from error
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError, struct.error) as error:
        raise SlideOpenError(str(error)) from error
    with image, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        width, height = image.size
        if width * height > MAX_IMAGE_PX:
            raise SlideOpenError(
                f"{width} x {height} px; a plain image may have {MAX_IMAGE_PX:,} px, larger ones must be tiled TIFF"
            )
        if image.mode not in (*_WITH_ALPHA, *_PLAIN):
            raise SlideOpenError(f"pixels of Pillow's mode {image.mode}; 8-bit RGB, grey or palette is needed")
        try:
            return _to_rgb(image)
        except (OSError, ValueError, SyntaxError, IndexError, MemoryError, struct.error, EOFError) as error:
            raise SlideOpenError(f"the image does not decode: {error}") from error


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return compose_over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))

"""One tile or strip of a TIFF, decoded to RGB in the colours in which it was written."""

from __future__ import annotations

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from wsipsm.codecs.jpeg_header import read_jpeg2000_header, read_jpeg_header
from wsipsm.codecs.rgb import compose_over_white, compose_premultiplied_over_white, ycbcr_to_rgb

_JPEG = 7
_JPEG2000_YCBCR, _JPEG2000_RGB, _JPEG2000 = 33003, 33005, 34712
_LOSSLESS = (1, 5, 8, 32773, 32946, 50000)  # none, LZW, deflate, PackBits, old deflate, Zstandard
SUPPORTED_COMPRESSIONS = (_JPEG, _JPEG2000_YCBCR, _JPEG2000_RGB, _JPEG2000, *_LOSSLESS)

VIRTUAL_STRIP_ROWS = 256
"""Rows of a strip in which uncompressed images are read, however the file divides them."""

MAX_SEGMENT_PX = 1 << 26
"""Pixels of the largest tile or strip that is decoded; as RGB they take 200 MB."""

_END_OF_IMAGE = b"\xff\xd9"
"""The marker that ends a JPEG stream and a JPEG 2000 codestream."""
_PADDING_BYTES = 14
"""Most bytes that writers append after the end marker of a tile."""

_INVERTED_GREY, _RGB, _PALETTE = 0, 2, 3
_PREMULTIPLIED, _STRAIGHT = 1, 2
"""Values of the tag ExtraSamples: whether colours were multiplied by alpha before they were stored."""


def segment_size(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return the width and height of the units in which a page is decoded."""
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    if page.is_final:
        return int(page.imagewidth), min(int(page.imagelength), VIRTUAL_STRIP_ROWS)
    return int(page.imagewidth), min(int(page.imagelength), int(page.rowsperstrip))


def decode_segment(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, index: int, must_end: bool = False
) -> NDArray[np.uint8]:
    """Decode one tile or strip.

    Parameters
    ----------
    tif
        The open file.
    page
        A page that passed the checks of `tiff_layout.require_readable_page`.
    index
        Number of the tile or strip, counted row by row in units of `segment_size`.
    must_end
        Whether compressed data without its end marker is refused; JPEG decoders would silently fill the rest with grey.

    Returns
    -------
    RGB of shape (h, w, 3), uint8: a whole tile, or the rows of a strip that exist. A tile that the file leaves out is
    white.

    Raises
    ------
    ValueError, RuntimeError
        When the data do not decode, or decode to another size than the page states.
    """
    if not page.is_tiled and page.is_final:
        samples = _read_rows(tif, page, index)
    elif page.planarconfig != 1:
        n_segments = len(page.dataoffsets) // page.samplesperpixel
        planes = [_decode_one(tif, page, index + plane * n_segments, must_end) for plane in range(page.samplesperpixel)]
        samples = np.concatenate(planes, axis=2)
    elif int(page.databytecounts[index]) == 0:
        height, width, _ = _expected_shape(page, index)
        return np.full((height, width, 3), 255, np.uint8)
    else:
        samples = _decode_one(tif, page, index, must_end)
    return _to_rgb(samples, page)


def _expected_shape(page: tifffile.TiffPage, index: int) -> tuple[int, int, int]:
    samples = 1 if page.planarconfig != 1 else int(page.samplesperpixel)
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth), samples
    n_strips = -(-page.imagelength // page.rowsperstrip)
    top = index % n_strips * page.rowsperstrip
    return int(min(page.rowsperstrip, page.imagelength - top)), int(page.imagewidth), samples


def _read_rows(tif: tifffile.TiffFile, page: tifffile.TiffPage, index: int) -> NDArray[np.uint8]:
    """Read rows of an uncompressed image, whose strips may have any height in the file."""
    from_row = index * VIRTUAL_STRIP_ROWS
    n_rows = min(VIRTUAL_STRIP_ROWS, page.imagelength - from_row)
    n_samples = int(page.samplesperpixel)
    if page.planarconfig == 1:
        starts, row_samples = [from_row * page.imagewidth * n_samples], n_samples
    else:
        plane = page.imagelength * page.imagewidth
        starts, row_samples = [p * plane + from_row * page.imagewidth for p in range(n_samples)], 1
    parts = []
    for start in starts:
        tif.filehandle.seek(int(page.dataoffsets[0]) + start)
        data = tif.filehandle.read(n_rows * page.imagewidth * row_samples)
        parts.append(np.frombuffer(data, np.uint8).reshape(n_rows, page.imagewidth, row_samples))
    return np.concatenate(parts, axis=2)


def _decode_one(tif: tifffile.TiffFile, page: tifffile.TiffPage, index: int, must_end: bool) -> NDArray[np.uint8]:
    height, width, n_samples = _expected_shape(page, index)
    count = int(page.databytecounts[index])
    if count == 0:
        return np.full((height, width, n_samples), 255, np.uint8)
    tif.filehandle.seek(int(page.dataoffsets[index]))
    data = tif.filehandle.read(count)
    if must_end and _END_OF_IMAGE not in data[-_PADDING_BYTES - len(_END_OF_IMAGE) :]:
        raise ValueError("compressed data without its end")
    if page.compression == _JPEG:
        pixels = _decode_jpeg(data, page, (height, width, n_samples))
    elif page.compression in (_JPEG2000_YCBCR, _JPEG2000_RGB, _JPEG2000):
        pixels = _decode_jpeg2000(data, page, (height, width, n_samples))
    else:
        decoded, _, _ = page.decode(data, index)
        if decoded is None:
            raise ValueError("no pixels")
        pixels = decoded[0]
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.shape[0] < height or pixels.shape[1] < width or pixels.shape[2] != n_samples:
        raise ValueError(f"{pixels.shape} samples where {(height, width, n_samples)} belong")
    return np.asarray(pixels[:height, :width], np.uint8)


def _decode_jpeg(data: bytes, page: tifffile.TiffPage, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    header = read_jpeg_header(data)
    _require_size(header.width, header.height, header.n_components, shape)
    if header.n_components != 3:
        return np.asarray(imagecodecs.jpeg8_decode(data, tables=page.jpegtables))
    # Aperio writes RGB without any marker, which libjpeg would take for YCbCr, so there the photometric tag decides.
    is_rgb = header.colour == "rgb" or (header.colour is None and page.photometric == _RGB)
    return np.asarray(
        imagecodecs.jpeg8_decode(
            data, tables=page.jpegtables, colorspace="RGB" if is_rgb else "YCBCR", outcolorspace="RGB"
        )
    )


def _decode_jpeg2000(data: bytes, page: tifffile.TiffPage, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    header = read_jpeg2000_header(data)
    _require_size(header.width, header.height, header.n_components, shape)
    pixels = np.asarray(imagecodecs.jpeg2k_decode(data))
    # imagecodecs converts subsampled YCbCr itself, and the codec undoes a component transform.
    is_ycbcr = page.compression == _JPEG2000_YCBCR and not header.is_subsampled and not header.has_component_transform
    return ycbcr_to_rgb(pixels) if is_ycbcr else pixels


def _require_size(width: int, height: int, n_components: int, shape: tuple[int, int, int]) -> None:
    """Check the size before anything is allocated; some writers give edge strips the full height, but never more."""
    if width < shape[1] or height < shape[0] or width > shape[1] + 64 or height > max(shape[0] + 64, 4096):
        raise ValueError(f"a compressed tile of {width} x {height} px where {shape[1]} x {shape[0]} belong")
    if n_components != shape[2]:
        raise ValueError(f"a compressed tile of {n_components} components where {shape[2]} belong")


def _to_rgb(samples: NDArray[np.uint8], page: tifffile.TiffPage) -> NDArray[np.uint8]:
    n_samples = samples.shape[2]
    if page.photometric == _PALETTE:
        table = (np.asarray(page.colormap) >> 8).astype(np.uint8).T
        return np.ascontiguousarray(table[np.minimum(samples[..., 0], len(table) - 1)])
    if page.photometric == _INVERTED_GREY:
        samples = 255 - samples
    if n_samples == 1:
        return np.repeat(samples, 3, axis=2)
    if n_samples == 2:
        samples = np.concatenate((np.repeat(samples[..., :1], 3, axis=2), samples[..., 1:]), axis=2)
    if samples.shape[2] == 4:
        kind = int(page.extrasamples[0]) if page.extrasamples else 0
        if kind == _PREMULTIPLIED:
            return compose_premultiplied_over_white(samples)
        return compose_over_white(samples) if kind == _STRAIGHT else np.ascontiguousarray(samples[..., :3])
    return np.ascontiguousarray(samples)

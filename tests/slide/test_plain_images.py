"""Arrays and plain images as slides."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from wsipsm.errors import SlideOpenError, SlideReadError, UsageError
from wsipsm.geometry import Box, Size
from wsipsm.slide.array import ArraySlide
from wsipsm.slide.open import open_slide


def noise(height: int = 60, width: int = 80, samples: int = 3) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, samples), dtype=np.uint8)


def read_whole(path: Path) -> np.ndarray:
    with open_slide(path) as slide:
        assert slide.info.reader == "image"
        assert slide.info.mpp is None
        return slide.read_level(0, Box(0, 0, slide.info.size.width, slide.info.size.height))


def test_png_of_every_mode(tmp_path: Path) -> None:
    rgb, grey = noise(), noise(samples=1)[..., 0]
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    assert np.array_equal(read_whole(path), rgb)
    Image.fromarray(grey).save(path)
    assert np.array_equal(read_whole(path), np.repeat(grey[..., None], 3, axis=2))
    palette = Image.fromarray(rgb).quantize(16)
    palette.save(path)
    assert np.array_equal(read_whole(path), np.asarray(palette.convert("RGB")))
    rgba = noise(samples=4)
    rgba[:20, :, 3], rgba[20:40, :, 3] = 0, 255
    Image.fromarray(rgba).save(path)
    got = read_whole(path)
    assert (got[:20] == 255).all()
    assert np.array_equal(got[20:40], rgba[20:40, :, :3])
    exact = rgba[40:, :, :3] * (rgba[40:, :, 3:] / 255) + 255.0 - rgba[40:, :, 3:]
    assert np.abs(got[40:] - exact).max() <= 0.51


def test_jpeg_and_user_mpp(tmp_path: Path) -> None:
    path = tmp_path / "a.JPG"
    Image.fromarray(noise()).save(path, "JPEG", dpi=(300, 300))
    assert np.array_equal(read_whole(path), np.asarray(Image.open(path)))
    with open_slide(path, mpp=0.5) as slide:
        assert slide.info.mpp == 0.5


def test_what_no_plain_image_is(tmp_path: Path) -> None:
    Image.fromarray(noise(samples=1)[..., 0].astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(SlideOpenError, match="mode I;16"):
        open_slide(tmp_path / "deep.png")
    Image.fromarray(noise()).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-700])
    with pytest.raises(SlideOpenError, match="does not decode"):
        open_slide(tmp_path / "cut.jpg")
    (tmp_path / "text.png").write_bytes(b"\x01\x02 no image")
    with pytest.raises(SlideOpenError, match="no PNG"):
        open_slide(tmp_path / "text.png")
    # The index of an MRXS slide is a JPEG; shown as an image it would be the wrong picture.
    (tmp_path / "index.mrxs").write_bytes((tmp_path / "whole.jpg").read_bytes())
    with pytest.raises(SlideOpenError, match=r"data folder index/"):
        open_slide(tmp_path / "index.mrxs")


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(("side", "words"), [(1_000_000, "1000000000000 pixels"), (13_000, "13000 x 13000 px")])
def test_huge_images_are_refused_with_the_numbers(tmp_path: Path, side: int, words: str) -> None:
    body = b"IDAT" + zlib.compress(b"")
    idat = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "bomb.png").write_bytes(png_header(side, side) + idat)
    with pytest.raises(SlideOpenError, match=words):
        open_slide(tmp_path / "bomb.png")


def test_array_levels_halve() -> None:
    pixels = noise(61, 83)
    slide = ArraySlide(pixels, 0.25, name="<drawn>", n_levels=3)
    assert slide.info.level_sizes == (Size(83, 61), Size(41, 30), Size(20, 15))
    assert slide.info.path == "<drawn>"
    assert slide.info.reader == "array"
    assert slide.info.downsample(2) == pytest.approx((83 / 20 + 61 / 15) / 2)
    assert len(ArraySlide(noise(3, 3), None, n_levels=9).info.level_sizes) == 2


def test_array_reads_are_copies_and_end_with_close() -> None:
    pixels = noise()
    slide = ArraySlide(pixels, 0.25)
    slide.read_level(0, Box(0, 0, 5, 5))[:] = 0
    assert np.array_equal(slide.read_level(0, Box(0, 0, 80, 60)), pixels)
    with pytest.raises(ValueError, match="level"):
        slide.read_level(1, Box(0, 0, 5, 5))
    slide.close()
    slide.close()
    with pytest.raises(SlideReadError, match="closed"):
        slide.read_level(0, Box(0, 0, 5, 5))


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(UsageError, match="shape"):
        ArraySlide(bad, 0.25)


def test_array_fingerprint_is_of_the_pixels() -> None:
    pixels = noise()
    assert ArraySlide(pixels, 0.25).info.fingerprint == ArraySlide(pixels.copy(), 0.5, "b").info.fingerprint
    changed = pixels.copy()
    changed[30, 40, 1] ^= 1
    assert ArraySlide(pixels, 0.25).info.fingerprint != ArraySlide(changed, 0.25).info.fingerprint


@pytest.mark.parametrize(("profile_bytes", "is_read"), [(2 * 2**20, True), (20 * 2**20, False)])
def test_a_scanners_large_colour_profile_is_no_reason_to_refuse_a_crop(
    tmp_path: Path, profile_bytes: int, is_read: bool
) -> None:
    path = tmp_path / "crop.png"
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(path, icc_profile=b"\0" * profile_bytes)
    usual = PngImagePlugin.MAX_TEXT_CHUNK
    if is_read:
        with open_slide(path, 0.25) as slide:
            assert slide.info.size.width == 40
    else:
        with pytest.raises(SlideOpenError, match=r"crop\.png"):
            open_slide(path, 0.25)
    assert usual == PngImagePlugin.MAX_TEXT_CHUNK

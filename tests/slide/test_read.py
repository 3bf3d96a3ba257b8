"""The area filter: against independent references, and the same wherever a pixel is read."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import downscale_local_mean

from wsipsm.errors import SlideReadError, UsageError
from wsipsm.geometry import Box, Size
from wsipsm.slide.array import ArraySlide
from wsipsm.slide.open import open_slide
from wsipsm.slide.partial import read_partial_thumbnail
from wsipsm.slide.read import choose_level, read_box, read_thumbnail


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def area_reference(pixels: np.ndarray, box: Box, scale: float) -> np.ndarray:
    """Exact coverage, written as plainly as can be: loops over pixels, one at a time, in float64."""
    out = np.zeros((box.height, box.width, 3))
    for i in range(box.height):
        for j in range(box.width):
            top, left = (box.y + i) * scale, (box.x + j) * scale
            for y in range(int(np.floor(top)), int(np.ceil(top + scale))):
                for x in range(int(np.floor(left)), int(np.ceil(left + scale))):
                    part = max(0.0, min(top + scale, y + 1) - max(top, y)) * max(
                        0.0, min(left + scale, x + 1) - max(left, x)
                    )
                    inside = 0 <= y < pixels.shape[0] and 0 <= x < pixels.shape[1]
                    out[i, j] += part * (pixels[y, x].astype(float) if inside else 255.0)
    return out / scale**2


@pytest.mark.parametrize("factor", [2, 3, 4, 7])
def test_integer_factors_equal_local_means(factor: int) -> None:
    pixels = noise(factor * 40, factor * 50)
    expected = downscale_local_mean(pixels, (factor, factor, 1))
    got = read_box(ArraySlide(pixels, 0.25), Box(0, 0, 50, 40), float(factor))
    assert np.abs(got - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("scale", [0.995, 1.1, 1.5, 2.2020, 3.7])
def test_fractional_scales_equal_exact_coverage(scale: float) -> None:
    pixels = noise(60, 70)
    box = Box(-2, 3, 20, 14)
    got = read_box(ArraySlide(pixels, 0.25), box, scale)
    assert np.abs(got - area_reference(pixels, box, scale)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.8])
def test_finer_than_the_slide_is_interpolated(scale: float) -> None:
    pixels = noise(30, 40)
    width, height = int(40 / scale), int(30 / scale)
    got = read_box(ArraySlide(pixels, 0.5), Box(0, 0, width, height), scale)
    y, x = np.meshgrid((np.arange(height) + 0.5) * scale - 0.5, (np.arange(width) + 0.5) * scale - 0.5, indexing="ij")
    for channel in range(3):
        expected = map_coordinates(pixels[..., channel].astype(float), [y, x], order=1, mode="nearest")
        assert np.abs(got[..., channel] - expected).max() <= 0.5 + 1e-3


def test_scale_one_is_a_copy() -> None:
    pixels = noise(50, 60)
    assert np.array_equal(read_box(ArraySlide(pixels, 0.5), Box(5, 6, 20, 30), 1 + 1e-9), pixels[6:36, 5:25])


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.3, 5.0])
def test_outside_is_white(scale: float) -> None:
    slide = ArraySlide(np.zeros((40, 40, 3), np.uint8), 0.25)
    assert (read_box(slide, Box(-300, -300, 10, 10), scale) == 255).all()
    assert (read_box(slide, Box(300, 5, 10, 10), scale) == 255).all()
    corner = read_box(slide, Box(-5, -5, 10, 10), scale)
    assert (corner[:5] == 255).all()
    assert (corner[5:, 5:] == 0).all()


@pytest.mark.parametrize("scale", [0.35, 0.9, 1.0, 1.1, 2.0, 2.2020, 4.3, 9.1])
@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_a_flat_slide_stays_flat(scale: float, value: int) -> None:
    slide = ArraySlide(np.full((97, 103, 3), value, np.uint8), 0.25, n_levels=4)
    n = int(90 / scale)
    assert (read_box(slide, Box(0, 0, n, n), scale) == value).all()


@settings(max_examples=60, deadline=None)
@given(
    scale=st.one_of(st.floats(0.2, 12), st.sampled_from([0.5, 1.0, 1.1, 2.0, 2.2020, 4.0])),
    outer=st.tuples(st.integers(-10, 200), st.integers(-10, 200), st.integers(1, 120), st.integers(1, 90)),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    n_levels=st.integers(1, 4),
)
def test_a_pixel_does_not_depend_on_its_box(
    scale: float, outer: tuple[int, int, int, int], cut: tuple[float, float, float, float], n_levels: int
) -> None:
    slide = ArraySlide(noise(331, 417), 0.25, n_levels=n_levels)
    whole = Box(*outer)
    x, y = int(cut[0] * (whole.width - 1)), int(cut[1] * (whole.height - 1))
    width = 1 + int(cut[2] * (whole.width - x - 1))
    height = 1 + int(cut[3] * (whole.height - y - 1))
    large = read_box(slide, whole, scale)
    small = read_box(slide, Box(whole.x + x, whole.y + y, width, height), scale)
    assert np.array_equal(small, large[y : y + height, x : x + width])


def test_a_pixel_does_not_depend_on_its_box_on_a_real_slide(slides_dir: Path) -> None:
    with open_slide(slides_dir / "derived" / "aperio-jpeg-ihc-ki67.svs") as slide:
        for scale in (1.1010, 2.2020, 4.4, 0.7):
            large = read_box(slide, Box(7, 11, 300, 200), scale)
            for x, y, width, height in ((0, 0, 100, 50), (33, 71, 129, 64), (299, 199, 1, 1)):
                small = read_box(slide, Box(7 + x, 11 + y, width, height), scale)
                assert np.array_equal(small, large[y : y + height, x : x + width])


def test_reading_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    slide = ArraySlide(noise(300, 400), 0.25, n_levels=2)
    whole = read_box(slide, Box(-3, -3, 130, 100), 3.3)
    monkeypatch.setattr("wsipsm.slide.read.MAX_READ_PX", 500)
    assert np.array_equal(read_box(slide, Box(-3, -3, 130, 100), 3.3), whole)


def test_level_is_the_coarsest_that_is_fine_enough() -> None:
    sizes = (Size(2202, 2202), Size(550, 550), Size(137, 137))
    assert choose_level(sizes, 1.0) == 0
    assert choose_level(sizes, 3.9) == 0
    assert choose_level(sizes, 4.0) == 1  # the level's 4.0036 is within the tolerance
    assert choose_level(sizes, 0.5) == 0
    assert choose_level(sizes, 1000.0) == 2
    # A level that is coarser along one axis only does not serve.
    assert choose_level((Size(2220, 2967), Size(2, 2)), 1200.0) == 0


def test_levels_that_are_no_exact_multiples_keep_their_place() -> None:
    """A bright dot far from the origin is found at the same place through every level."""
    pixels = np.full((1203, 1601, 3), 200, np.uint8)
    pixels[1000:1032, 1400:1432] = 0
    one, many = ArraySlide(pixels, 0.25), ArraySlide(pixels, 0.25, n_levels=5)
    for scale in (2.0, 4.1, 8.2):
        box = Box(0, 0, int(1601 / scale), int(1203 / scale))
        centres = []
        for slide in (one, many):
            dark = 200.0 - read_box(slide, box, scale)[..., 0]
            rows, columns = np.indices(dark.shape)
            centres.append((((rows + 0.5) * dark).sum() / dark.sum(), ((columns + 0.5) * dark).sum() / dark.sum()))
        assert np.allclose(centres[0], centres[1], atol=0.06)
        assert np.allclose(np.array(centres[0]) * scale, (1016, 1416), atol=0.3)


def test_thumbnail_covers_the_slide() -> None:
    slide = ArraySlide(noise(301, 1003), 0.25, n_levels=3)
    image, scale = read_thumbnail(slide, 128)
    assert image.shape == (39, 128, 3)
    assert scale == pytest.approx(1003 / 128)
    small, unity = read_thumbnail(ArraySlide(noise(5, 3), 0.25), 128)
    assert small.shape == (5, 3, 3)
    assert unity == 1.0


@pytest.mark.parametrize("side", [1001, 3457])
def test_a_partial_thumbnail_is_as_large_as_a_whole_one(side: int) -> None:
    """The scale of these sides is rounded down, so that a plain division by it gives a pixel too many."""
    whole, damaged = ArraySlide(noise(5, side), 0.25), Damaged(noise(5, side), 0.25)
    expected, scale = read_thumbnail(whole, 1000)
    found, found_scale, failed = read_partial_thumbnail(damaged, 1000)
    assert found.shape == expected.shape == (5 * 1000 // side + 1, 1000, 3)
    assert found_scale == scale
    assert failed
    readable = (found != 255).any(axis=(0, 2))
    assert (found[:, readable] == expected[:, readable]).all()


class Damaged(ArraySlide):
    """A slide whose first pixel cannot be decoded."""

    def _read_inside(self, level: int, box: Box) -> np.ndarray:
        if box.x == 0:
            raise SlideReadError("no pixels")
        return super()._read_inside(level, box)


def test_empty_box_and_bad_scale() -> None:
    slide = ArraySlide(noise(9, 9), 0.25)
    assert read_box(slide, Box(0, 0, 0, 4), 2.0).shape == (4, 0, 3)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="scale"):
            read_box(slide, Box(0, 0, 2, 2), scale)


def test_a_block_is_read_quickly() -> None:
    slide = ArraySlide(noise(2800, 2800), 0.4545)
    read_box(slide, Box(0, 0, 100, 100), 1.1)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        read_box(slide, Box(0, 0, 2500, 2500), 1.1)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 1.0


@pytest.mark.parametrize("scale", [0.5, 0.93, 1.0, 1.1008, 2.0, 3.7])
def test_a_scan_on_another_canvas_reads_the_same(scale: float) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    canvas = np.full((300, 400, 3), 255, dtype=np.uint8)
    canvas[83 : 83 + 120, 131 : 131 + 150] = pixels
    inner = Box(4, 5, int(130 / scale) - 6, int(100 / scale) - 7)
    alone = read_box(ArraySlide(pixels, 0.25), inner, scale)
    placed = read_box(ArraySlide(canvas, 0.25), inner, scale, (131, 83))
    assert np.array_equal(alone, placed)

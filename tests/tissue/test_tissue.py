"""Tissue: found where it is drawn, whatever lies around it; crops come out whole; points agree with the raster."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.data import immunohistochemistry
from skimage.filters import threshold_otsu

from wsipsm.errors import SlideReadError, UnsupportedSlideError
from wsipsm.geometry import Box, Size
from wsipsm.slide.array import ArraySlide
from wsipsm.tissue import TissueMask, find_tissue, refuse_fluorescence, sample_tissue

PX0 = 20.0
"""Level-0 pixels per pixel of the drawn thumbnails."""

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def glass(height: int = 700, width: int = 1000, level: int = 240) -> Picture:
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


def with_tissue(picture: Picture, colour: tuple[int, int, int] = (190, 130, 170)) -> tuple[Picture, Mask]:
    """Two pieces with texture, and where they are."""
    truth = np.zeros(picture.shape[:2], np.uint8)
    cv2.ellipse(truth, (300, 300), (150, 100), 20, 0, 360, 1, -1)
    cv2.ellipse(truth, (600, 350), (60, 120), 0, 0, 360, 1, -1)
    texture = np.random.default_rng(1).normal(0, 12, picture.shape)
    tissue = np.clip(np.array(colour) + texture, 0, 255).astype(np.uint8)
    return np.where(truth[..., None] == 1, tissue, picture).astype(np.uint8), truth == 1


def find(picture: Picture, px0_per_pixel: float = PX0) -> TissueMask:
    height, width = picture.shape[:2]
    return find_tissue(picture, px0_per_pixel, Size(round(width * px0_per_pixel), round(height * px0_per_pixel)))


def grown(mask: Mask, radius: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


def assert_found(found: Mask, truth: Mask) -> None:
    """All tissue is in the mask, and little more than a margin around it."""
    assert (found & truth).sum() == truth.sum()
    assert (found & ~grown(truth, 16)).sum() == 0


@pytest.mark.parametrize("colour", [(190, 130, 170), (215, 220, 228), (222, 214, 204), (150, 100, 60)])
def test_drawn_tissue_is_found_with_a_margin(colour: tuple[int, int, int]) -> None:
    picture, truth = with_tissue(glass(), colour)
    tissue = find(picture)
    assert_found(tissue.mask, truth)
    assert tissue.mask.sum() > truth.sum()
    assert tissue.note is None
    assert tissue.name == "all nuclei"


def test_pen_dust_and_glass_edge_are_left_out() -> None:
    picture, truth = with_tissue(glass())
    cv2.line(picture, (800, 50), (950, 600), (30, 40, 200), 10)
    cv2.ellipse(picture, (850, 200), (90, 90), 0, 0, 300, (20, 140, 60), 9)
    cv2.putText(picture, "A12", (30, 650), 0, 2.5, (15, 15, 15), 9)
    cv2.line(picture, (0, 560), (1000, 566), (120, 120, 120), 2)
    for x in range(20, 180, 30):
        picture[60, x] = 90
    assert_found(find(cv2.GaussianBlur(picture, (0, 0), 0.7)).mask, truth)


def test_black_scanner_background_is_left_out() -> None:
    picture, truth = with_tissue(glass())
    frame = np.random.default_rng(2).integers(0, 8, (1400, 1800, 3)).astype(np.uint8)
    frame[400:1100, 500:1500] = picture
    all_truth = np.zeros(frame.shape[:2], bool)
    all_truth[400:1100, 500:1500] = truth
    assert_found(find(frame).mask, all_truth)


def test_white_padding_is_no_glass() -> None:
    picture, truth = with_tissue(glass(level=225))
    canvas = np.full((1400, 1800, 3), 255, np.uint8)
    canvas[300:1000, 500:1500] = picture
    all_truth = np.zeros(canvas.shape[:2], bool)
    all_truth[300:1000, 500:1500] = truth
    assert_found(find(canvas).mask, all_truth)


@pytest.mark.parametrize("coloured", [False, True])
def test_near_black_label_image_has_no_tissue(coloured: bool) -> None:
    rng = np.random.default_rng(3)
    picture = np.zeros((600, 800, 3), np.uint8)
    for number in range(300):
        level = tuple(int(value) for value in rng.integers(0, 255, 3)) if coloured else (number % 20 + 1,) * 3
        cv2.circle(picture, (int(rng.integers(800)), int(rng.integers(600))), 5, level, -1)
    tissue = find_tissue(picture, 20.0, Size(16_000, 12_000))
    assert not tissue.mask.any()
    assert tissue.note is not None
    assert "black" in tissue.note
    refuse_fluorescence(picture, "labels.tif")


@pytest.mark.parametrize("level", [240, 255])
def test_nothing_found_takes_the_whole_slide_with_a_note(level: int) -> None:
    tissue = find(glass(level=level) if level < 255 else np.full((700, 1000, 3), 255, np.uint8))
    assert tissue.mask.all()
    assert tissue.note is not None
    assert "none found" in tissue.note


def test_crops_come_out_whole(data_dir: Path) -> None:
    paths = sorted((data_dir / "monuseg" / "train" / "images").glob("*.tif"))[::6]
    paths += sorted((data_dir / "ki67").glob("bcdata/images/test/*.png"))[::4]
    paths += [data_dir / "ki67" / "shidc" / "p1_0309_3.jpg"]
    for path in paths:
        image = tifffile.imread(path) if path.suffix == ".tif" else np.asarray(Image.open(path).convert("RGB"))
        assert find(image[..., :3], 1.0).mask.all(), path
    assert find(immunohistochemistry(), 1.0).mask.all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 16), (3, 200)])
def test_tiny_pictures_are_taken_whole(height: int, width: int) -> None:
    assert find(glass(height, width), 1.0).mask.all()


def test_otsu_is_contained_on_a_plain_slide() -> None:
    """Where scikit-image's Otsu works at all, this mask holds what it finds."""
    picture, _ = with_tissue(glass())
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    otsu = cv2.morphologyEx((grey < threshold_otsu(grey)).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))) == 1
    assert not (otsu & ~find(picture).mask).any()


def test_thumbnail_of_another_slide_is_refused() -> None:
    with pytest.raises(ValueError, match="20000x14000"):
        find_tissue(glass(), 10.0, Size(20_000, 14_000))


@given(st.lists(st.tuples(st.floats(-50, 900), st.floats(-50, 900)), max_size=40), st.floats(0.7, 30))
def test_contains_reads_the_raster(points: list[tuple[float, float]], px0_per_pixel: float) -> None:
    mask = np.random.default_rng(4).random((19, 23)) < 0.4
    tissue = TissueMask(mask, px0_per_pixel, None, mask)
    xy = np.array(points, dtype=np.float64).reshape(-1, 2)
    found = tissue.contains(xy)
    for (x, y), inside in zip(points, found, strict=True):
        column, row = int(np.floor(x / px0_per_pixel)), int(np.floor(y / px0_per_pixel))
        if 0 <= column < 23 and 0 <= row < 19:
            assert inside == mask[row, column]
        elif column < 0 or row < 0 or column > 23 or row > 19:
            assert not inside


@given(st.integers(-30, 300), st.integers(-30, 300), st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**32))
def test_touches_when_a_point_of_the_box_is_contained(x: int, y: int, width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((19, 23)) < 0.1
    tissue = TissueMask(mask, 11.3, None, mask)
    points = np.stack([rng.uniform(x, x + width, 200), rng.uniform(y, y + height, 200)], axis=1)
    if width * height == 0:
        assert not tissue.touches(Box(x, y, width, height))
    elif tissue.contains(points).any():
        assert tissue.touches(Box(x, y, width, height))


def test_the_last_sliver_of_a_rounded_thumbnail_belongs_to_its_edge() -> None:
    tissue = TissueMask(np.ones((10, 10), bool), 3.3, None, np.ones((10, 10), bool))
    assert tissue.contains(np.array([[33.4, 5.0], [40.0, 5.0]])).tolist() == [True, False]
    assert tissue.touches(Box(33, 0, 1, 1))
    assert not tissue.touches(Box(40, 0, 5, 5))


def test_area_and_dictionary() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:2, :3] = mask[8:, 8:] = True
    tissue = TissueMask(mask, 4.0, "note", mask)
    facts = tissue.facts()
    assert tissue.area_px0() == facts.area_px0 == 160
    assert (facts.kind, facts.n_parts, facts.note) == ("tissue", 2, "note")
    shifted = np.roll(mask, 1, axis=1)
    moved = TissueMask(shifted, 4.0, "note", shifted)
    assert facts.hash != moved.facts().hash
    assert facts.hash == TissueMask(mask.copy(), 4.0, None, mask).facts().hash


def test_sample_comes_from_tissue_and_from_the_seed() -> None:
    pixels = glass(1500, 2000)
    pixels[600:1000, 800:1300] = (150, 90, 160)
    mask = np.zeros((150, 200), bool)
    mask[60:100, 80:130] = True
    tissue = TissueMask(mask, 10.0, None, mask)
    slide = ArraySlide(pixels, mpp=0.5)
    sample = sample_tissue(slide, tissue, seed=1, n_pixels=5000).pixels
    assert sample.shape == (5000, 3)
    assert (sample == (150, 90, 160)).all(axis=1).mean() > 0.6
    np.testing.assert_array_equal(sample, sample_tissue(slide, tissue, seed=1, n_pixels=5000).pixels)
    assert (sample != sample_tissue(slide, tissue, seed=2, n_pixels=5000).pixels).any()


@pytest.mark.parametrize("mpp", [None, 0.1, 0.25, 1.0])
def test_sample_of_any_pixel_size(mpp: float | None) -> None:
    slide = ArraySlide(glass(90, 130), mpp=mpp)
    tissue = TissueMask(np.ones((90, 130), bool), 1.0, None, np.ones((90, 130), bool))
    sample = sample_tissue(slide, tissue, seed=0).pixels
    assert len(sample) > 300
    assert sample.min() > 200


def test_sample_without_tissue_is_empty() -> None:
    slide = ArraySlide(glass(90, 130), mpp=0.5)
    assert sample_tissue(
        slide, TissueMask(np.zeros((9, 13), bool), 10.0, None, np.zeros((9, 13), bool)), 0
    ).pixels.shape == (0, 3)


class BadTopSlide(ArraySlide):
    """A slide of which the upper part, or all, cannot be decoded."""

    unreadable_px0 = 200

    def read_level(self, level: int, box: Box) -> NDArray[np.uint8]:
        if box.y < self.unreadable_px0:
            raise SlideReadError("bad.svs: the tile is damaged.")
        return super().read_level(level, box)


def test_sample_leaves_out_bad_patches_and_raises_when_all_are_bad() -> None:
    slide = BadTopSlide(glass(600, 600), mpp=0.5)
    tissue = TissueMask(np.ones((60, 60), bool), 10.0, None, np.ones((60, 60), bool))
    assert len(sample_tissue(slide, tissue, 0, 1000).pixels) == 1000
    slide.unreadable_px0 = 10_000
    with pytest.raises(SlideReadError):
        sample_tissue(slide, tissue, 0, 1000)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_fluorescence_is_refused_by_name(channel: int) -> None:
    picture = np.zeros((600, 800, 3), np.uint8)
    rng = np.random.default_rng(5)
    for _ in range(200):
        colour = [0, 0, 0]
        colour[channel] = int(rng.integers(80, 255))
        cv2.circle(picture, (int(rng.integers(800)), int(rng.integers(600))), 9, colour, -1)
    with pytest.raises(UnsupportedSlideError, match=r"dapi\.ndpi: .*fluorescence"):
        refuse_fluorescence(picture, "dapi.ndpi")


def test_real_fluorescence_is_refused(slides_dir: Path) -> None:
    page = tifffile.imread(slides_dir / "real" / "hamamatsu-ndpi-fluorescence-dapi-40x.ndpi", level=3)
    with pytest.raises(UnsupportedSlideError):
        refuse_fluorescence(page, "x.ndpi")


def test_brightfield_is_not_refused(data_dir: Path) -> None:
    picture, _ = with_tissue(glass())
    frame = np.zeros((1400, 1800, 3), np.uint8)
    frame[400:1100, 500:1500] = picture
    for accepted in (picture, frame, immunohistochemistry(), np.zeros((50, 50, 3), np.uint8)):
        refuse_fluorescence(accepted, "slide.svs")
    for path in sorted((data_dir / "ki67" / "glioma_unlabelled").glob("*.jpg"))[:2]:
        refuse_fluorescence(np.asarray(Image.open(path).convert("RGB")), str(path))

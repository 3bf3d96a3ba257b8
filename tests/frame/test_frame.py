"""One frame a slide: where its pixels lie on the canvas, and what QuPath shows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from drawn_canvas import write_sparse

from wsipsm.geometry import Box, Size
from wsipsm.keys import QuPathFrame
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.bounds import parse_bounds
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_thumbnail
from wsipsm.tissue import find_slide_tissue

CANVAS = Size(4000, 3000)
CONTENT = Box(1000, 500, 700, 600)


def frame(qupath: QuPathFrame = QuPathFrame.CROPPED, bounds: Box | None = CONTENT) -> SlideFrame:
    return SlideFrame.of(SlideInfo("a.scn", "openslide", (CANVAS,), 0.5, "0", bounds), qupath)


def stated(x: Any, y: Any, width: Any, height: Any) -> dict[str, str]:
    names = ("x", "y", "width", "height")
    values = zip(names, (x, y, width, height), strict=True)
    return {f"openslide.bounds-{name}": str(value) for name, value in values if value is not None}


def test_bounds_inside_the_canvas_are_taken() -> None:
    assert parse_bounds({}, CANVAS) == (None, None)
    assert parse_bounds(stated(1000, 500, 700, 600), CANVAS) == (CONTENT, None)
    assert parse_bounds(stated(0, 0, 4000, 3000), CANVAS) == (Box(0, 0, 4000, 3000), None)
    assert parse_bounds(stated("1000.0", 500, 700, 600), CANVAS) == (CONTENT, None)


@pytest.mark.parametrize(
    "values",
    [
        (1000, 500, 0, 600),
        (1000, 500, 700, 0),
        (1000, 500, -700, 600),
        (-1, 500, 700, 600),
        (1000, -500, 700, 600),
        (4000, 500, 700, 600),
        (9000, 9000, 700, 600),
        (1000, 500, 3001, 600),
        (0, 0, 4000, 3001),
        (0, 0, 10**30, 10**30),
        ("abc", 500, 700, 600),
        ("", "", "", ""),
        ("nan", 500, 700, 600),
        (1000, 500, "inf", 600),
        (1000.5, 500, 700, 600),
        (None, 500, 700, 600),
        (1000, 500, None, None),
    ],
)
def test_bounds_that_cannot_be_are_ignored_with_a_note(values: tuple[Any, ...]) -> None:
    box, note = parse_bounds(stated(*values), CANVAS)
    assert box is None
    assert note is not None
    assert "4000 x 3000 px" in note
    assert "ignored" in note


def test_what_qupath_shows() -> None:
    cropped, full, plain = frame(), frame(QuPathFrame.FULL), frame(bounds=None)
    assert cropped.shown == CONTENT
    assert cropped.content_qupath == Box(0, 0, 700, 600)
    assert full.shown == Box(0, 0, 4000, 3000)
    assert full.content_qupath == CONTENT
    assert plain.shown == plain.content == plain.other().shown == Box(0, 0, 4000, 3000)
    assert cropped.other() == full
    assert full.other() == cropped
    assert (cropped.has_empty_canvas, plain.has_empty_canvas) == (True, False)


def test_there_and_back() -> None:
    xy = np.array([[1000.0, 500.0], [1234.25, 777.5]])
    for one in (frame(), frame(QuPathFrame.FULL), frame(bounds=None)):
        back = one.from_qupath(shapely.LineString(one.to_qupath(xy)))
        assert np.array_equal(shapely.get_coordinates(back), xy)


def test_micrometres_count_from_the_corner_of_what_holds_pixels_and_stay_inside() -> None:
    one = frame()
    xy = np.array([[1000.0, 500.0], [1100.0, 600.0], [1700.4, 1100.4], [999.7, 499.7]])
    um = one.to_um(xy, 0.5)
    assert np.allclose(um, [[0, 0], [50, 50], [350, 300], [0, 0]])
    assert (um < one.extent_um(0.5)).all()
    boxes = one.boxes_px0(np.array([[0.0, 0.0, 100.0, 100.0], [300.0, 250.0, 800.0, 750.0]]), 0.5)
    assert boxes.tolist() == [[1000, 500, 1200, 700], [1600, 1000, 1700, 1100]]


def test_share_on_content() -> None:
    assert frame().share_on_content(shapely.box(900, 500, 1100, 600)) == 0.5
    assert frame().share_on_content(shapely.box(0, 0, 100, 100)) == 0
    assert frame().share_on_content(shapely.Point(1100, 600)) == 0


def test_a_sparse_tiff_has_bounds_whatever_reader_serves_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(60, 200, (512, 768, 3), dtype=np.uint8)
    path = write_sparse(tmp_path / "sparse.tif", pixels, (4096, 3072), (1024, 512), mpp=0.5)
    with open_slide(path) as slide:
        assert slide.info.reader == "tiff"
        assert slide.info.bounds == Box(1024, 512, 768, 512)
        assert np.array_equal(slide.read_level(0, Box(1024, 512, 768, 512)), pixels)
        assert (slide.read_level(0, Box(0, 0, 1024, 512)) == 255).all()
        thumbnail, scale = read_thumbnail(slide, 1024, slide.info.bounds)
        assert np.array_equal(thumbnail, pixels)
        assert scale == 1
        tissue = find_slide_tissue(slide.info, thumbnail, scale)
    assert tissue.contains(
        np.array([[1023.0, 700.0], [1025.0, 700.0], [1791.0, 1023.0], [1793.5, 800.0]])
    ).tolist() == [
        False,
        True,
        True,
        False,
    ]
    assert tissue.touches(Box(1700, 900, 10, 10))
    assert not tissue.touches(Box(0, 0, 1000, 500))
    assert tissue.areas_in(np.array([[0.0, 0.0, 4096.0, 3072.0]]))[0] == pytest.approx(768 * 512)


def test_a_dense_tiff_has_no_bounds(tmp_path: Path) -> None:
    path = tmp_path / "dense.tif"
    tifffile.imwrite(path, np.full((300, 400, 3), 200, np.uint8), tile=(128, 128), photometric="rgb", metadata=None)
    with open_slide(path, 0.5) as slide:
        assert slide.info.bounds is None
        assert not SlideFrame.of(slide.info).has_empty_canvas

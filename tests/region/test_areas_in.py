"""Area of a region in boxes, against shapely one box after the other."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.region import PolygonRegion
from wsipsm.tissue import TissueMask

BOXES = st.lists(
    st.tuples(st.floats(-50, 900), st.floats(-50, 700), st.floats(1, 500), st.floats(1, 500)), min_size=1, max_size=8
)


def corners(boxes: list[tuple[float, float, float, float]]) -> np.ndarray:
    return np.array([(x, y, x + width, y + height) for x, y, width, height in boxes])


@given(boxes=BOXES)
@settings(deadline=None, max_examples=40)
def test_polygons(boxes: list[tuple[float, float, float, float]]) -> None:
    shape = shapely.union_all([shapely.Point(300, 300).buffer(200), shapely.box(600, 50, 800, 640)])
    region = PolygonRegion(shape.difference(shapely.box(250, 250, 700, 320)), "ROI")
    expected = [region.shape.intersection(shapely.box(*box)).area for box in corners(boxes)]
    assert region.areas_in(corners(boxes)) == pytest.approx(expected, abs=1e-6)


@given(boxes=BOXES, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_tissue(boxes: list[tuple[float, float, float, float]], seed: int) -> None:
    mask = np.random.default_rng(seed).random((9, 12)) < 0.5
    tissue = TissueMask(mask, 70.0, None, mask)
    pixels = [shapely.box(70 * x, 70 * y, 70 * x + 70, 70 * y + 70) for y, x in np.argwhere(mask)]
    shape = shapely.union_all(pixels)
    expected = [shape.intersection(shapely.box(*box)).area for box in corners(boxes)]
    assert tissue.areas_in(corners(boxes)) == pytest.approx(expected, abs=1e-6)

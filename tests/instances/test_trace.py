from __future__ import annotations

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as label_parts

from wsipsm.instances.trace import outline_metrics, trace_outlines


def random_labels(seed: int, height: int, width: int, sigma: float) -> NDArray[np.int32]:
    """Blobs that touch each other, each 4-connected and without holes."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(height, width)), sigma)
    levels = np.digitize(field, np.quantile(field, [0.3, 0.55, 0.8]))
    parts = label_parts(levels, background=0, connectivity=1).astype(np.int32)
    for part in range(1, parts.max() + 1):
        mask = parts == part
        if mask.any():
            parts[ndimage.binary_fill_holes(mask)] = part
    return parts


@given(
    seed=st.integers(0, 2**32 - 1),
    sigma=st.sampled_from([0.0, 0.6, 1.5, 3.0]),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
@settings(max_examples=30, deadline=None)
def test_polygons_are_the_union_of_their_pixels(seed: int, sigma: float, size: tuple[int, int]) -> None:
    labels = random_labels(seed, *size, sigma)
    outlines = trace_outlines(labels, (0, 0), 1.0)
    assert np.array_equal(outlines.labels, np.unique(labels[labels > 0]))
    for label, polygon in zip(outlines.labels, outlines.polygons, strict=True):
        rows, columns = np.nonzero(labels == label)
        union = shapely.union_all(shapely.box(columns, rows, columns + 1, rows + 1))
        assert shapely.is_valid(polygon)
        assert not polygon.interiors
        assert shapely.equals(polygon, union)
        assert polygon.area == len(rows)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_rasterising_gives_the_labels_back(seed: int) -> None:
    labels = random_labels(seed, 60, 50, 2.0)
    outlines = trace_outlines(labels, (0, 0), 1.0)
    centres = shapely.points(*(np.indices(labels.T.shape).reshape(2, -1) + 0.5))
    point, polygon = shapely.STRtree(outlines.polygons).query(centres, predicate="within")
    back = np.zeros(labels.size, np.int32)
    back[point] = outlines.labels[polygon]
    assert np.array_equal(back.reshape(labels.T.shape).T, labels)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_no_collinear_and_no_repeated_points(seed: int) -> None:
    for polygon in trace_outlines(random_labels(seed, 40, 40, 1.5), (0, 0), 1.0).polygons:
        steps = np.diff(shapely.get_coordinates(polygon), axis=0)
        following = np.roll(steps, -1, axis=0)
        assert np.all(steps[:, 0] * following[:, 1] != steps[:, 1] * following[:, 0])


def test_origin_and_scale() -> None:
    labels = np.zeros((5, 6), np.int32)
    labels[1:3, 2:6] = 7
    outlines = trace_outlines(labels, (100, 200), 2.5)
    assert outlines.labels.tolist() == [7]
    assert outlines.polygons[0].bounds == (255.0, 502.5, 265.0, 507.5)
    assert shapely.get_num_coordinates(outlines.polygons[0]) == 5


def test_holes_are_covered_and_nothing_gives_nothing() -> None:
    labels = np.ones((5, 5), np.int32)
    labels[2, 2] = 0
    assert trace_outlines(labels, (0, 0), 1.0).polygons[0].area == 25
    empty = trace_outlines(np.zeros((4, 4), np.int32), (0, 0), 1.0)
    assert len(empty.labels) == len(empty.polygons) == 0
    assert len(outline_metrics(empty.polygons, 0.25).area_um2) == 0


def test_corners_are_not_pixel_centres() -> None:
    """OpenCV draws through pixel centres; ours encloses the pixels, half a pixel farther out."""
    labels = np.zeros((40, 40), np.int32)
    cv2.circle(labels, (20, 18), 9, 3, -1)
    (contour,), _ = cv2.findContours((labels > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    ours = trace_outlines(labels, (0, 0), 1.0).polygons[0]
    left, top = contour[:, 0].min(axis=0)
    right, bottom = contour[:, 0].max(axis=0)
    assert ours.bounds == (left, top, right + 1, bottom + 1)


@pytest.mark.parametrize("radius", [4.0, 6.0, 9.0, 15.0])
def test_shape_of_a_disc(radius: float) -> None:
    rows, columns = np.mgrid[:40, :40] + 0.5
    labels = (np.hypot(rows - 20.2, columns - 19.7) <= radius).astype(np.int32)
    metrics = outline_metrics(trace_outlines(labels, (0, 0), 2.0).polygons, 0.25)
    assert metrics.area_um2[0] == labels.sum() * 0.25
    assert metrics.perimeter_um[0] == pytest.approx(2 * np.pi * radius * 0.5, rel=0.05)
    assert 0.93 < metrics.circularity[0] <= 1
    assert 0.97 < metrics.solidity[0] <= 1


def test_shape_tells_a_crescent_and_a_bar_from_a_disc() -> None:
    rows, columns = np.mgrid[:60, :60] + 0.5
    disc = np.hypot(rows - 30, columns - 30) <= 12
    crescent = disc & ~(np.hypot(rows - 30, columns - 37) <= 10)
    bar = np.zeros_like(disc)
    bar[28:32, 10:50] = True
    shapes = [outline_metrics(trace_outlines(m.astype(np.int32), (0, 0), 1.0).polygons, 1.0) for m in (crescent, bar)]
    assert shapes[0].solidity[0] < 0.75
    assert shapes[1].solidity[0] > 0.98
    assert shapes[1].circularity[0] < 0.4
    # A single pixel has no smaller smooth ring than its diamond.
    dot = outline_metrics(trace_outlines(np.ones((1, 1), np.int32), (0, 0), 1.0).polygons, 1.0)
    assert 0 < dot.circularity[0] <= 1


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 7), (20, 5)])
@pytest.mark.parametrize("mpp_px0", [0.25, 2.0])
def test_shape_of_a_rectangle_is_that_of_the_rhombus_inside(size: tuple[int, int], mpp_px0: float) -> None:
    """By hand: the midpoints of its sides are a rhombus, whose diagonals are the sides of the rectangle."""
    height, width = size
    labels = np.pad(np.ones(size, np.int32), 2)
    metrics = outline_metrics(trace_outlines(labels, (0, 0), 1.0).polygons, mpp_px0)
    perimeter = 2 * np.hypot(height, width)
    assert metrics.area_um2 == pytest.approx([height * width * mpp_px0**2])
    assert metrics.perimeter_um == pytest.approx([perimeter * mpp_px0])
    assert metrics.circularity == pytest.approx([4 * np.pi * (height * width / 2) / perimeter**2])
    assert metrics.solidity == pytest.approx([1])


def test_solidity_of_a_horseshoe_is_its_share_of_the_hull() -> None:
    """By hand: the ring through the midpoints of its eight sides, by the surveyor's formula."""
    labels = np.zeros((8, 8), np.int32)
    labels[1:7, 1:7] = 1
    labels[1:5, 3:5] = 0
    found = outline_metrics(trace_outlines(labels, (0, 0), 1.0).polygons, 0.5)
    corners = np.array([(0, 0), (2, 0), (2, 4), (4, 4), (4, 0), (6, 0), (6, 6), (0, 6)], float)
    middle = (corners + np.roll(corners, -1, 0)) / 2
    (x, y), (next_x, next_y) = middle.T, np.roll(middle, -1, 0).T
    area = abs(np.sum(x * next_y - y * next_x)) / 2
    hull = cv2.contourArea(cv2.convexHull(middle.astype(np.float32)))
    perimeter = np.hypot(next_x - x, next_y - y).sum()
    assert area < 0.8 * hull
    assert found.solidity == pytest.approx([area / hull])
    assert found.circularity == pytest.approx([4 * np.pi * area / perimeter**2])
    assert found.perimeter_um == pytest.approx([perimeter * 0.5])

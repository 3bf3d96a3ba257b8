"""Maxima, Voronoi labels and division by points against slow references."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.psm.points import divide_by_points, find_maxima, voronoi_label

shapes = st.tuples(st.integers(1, 14), st.integers(1, 14))
# Few values, so that ties and plateaus are common.
scores = arrays(np.float32, shapes, elements=st.integers(0, 4).map(lambda n: np.float32(n / 4)))


def maxima_by_hand(values: NDArray[np.float32], radius: float, low: float) -> list[tuple[float, float]]:
    height, width = values.shape
    found = []
    for y in range(height):
        for x in range(width):
            others = [
                values[v, u]
                for v in range(height)
                for u in range(width)
                if (v, u) != (y, x) and (v - y) ** 2 + (u - x) ** 2 <= radius**2
            ]
            if values[y, x] >= low and all(values[y, x] > other for other in others):
                found.append((x + 0.5, y + 0.5))
    return found


@settings(max_examples=80, deadline=None)
@given(scores, st.sampled_from([1.0, 1.2, 1.5, 2.0, 3.3, 6.0]), st.sampled_from([0.0, 0.25, 0.5]))
def test_maxima_are_strict_within_the_disc(values: NDArray[np.float32], radius: float, low: float) -> None:
    found = find_maxima(values, radius, low)
    assert found.shape[1] == 2
    assert [tuple(point) for point in found] == maxima_by_hand(values, radius, low)


def test_a_smoothed_plateau_has_one_maximum() -> None:
    y, x = np.mgrid[:60, :80]
    saturated = (np.hypot(x - 30, y - 28) < 8).astype(np.float32)
    assert len(find_maxima(saturated, 10, 0.3)) == 0
    ((px, py),) = find_maxima(saturated, 10, 0.3, sigma_px=3)
    assert (px, py) == (30.5, 28.5)


def test_a_large_flat_map_costs_no_memory() -> None:
    assert len(find_maxima(np.ones((3000, 3000), np.float32), 30, 0.5)) == 0


points_in = st.lists(st.tuples(st.floats(0, 19.99), st.floats(0, 14.99)), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(points_in)
def test_voronoi_cells_are_those_of_the_nearest_point(points: list[tuple[float, float]]) -> None:
    label = voronoi_label(np.array(points), (15, 20), point_radius_px=0)
    pixels = sorted({(int(y), int(x)) for x, y in points})
    gaps = np.array([[[(v - y) ** 2 + (u - x) ** 2 for v, u in pixels] for x in range(20)] for y in range(15)])
    nearest = [[frozenset(np.flatnonzero(gaps[y, x] == gaps[y, x].min())) for x in range(20)] for y in range(15)]
    for y, x in np.ndindex(15, 20):
        before = [nearest[v][u] for v, u in ((y - 1, x), (y, x - 1)) if v >= 0 and u >= 0]
        if (y, x) in pixels:
            assert label[y, x] == 1
        elif any(not other & nearest[y][x] for other in before):
            assert label[y, x] == 0, "two cells meet here"
        elif all(len(other | nearest[y][x]) == 1 for other in before):
            assert label[y, x] == 255, "all of one cell"
        # Where a pixel is as near to two points either may own it.


def test_points_are_discs_over_edges() -> None:
    label = voronoi_label(np.array([[10.5, 10.5], [14.5, 10.5]]), (21, 31), point_radius_px=2)
    assert (label == 1).sum() > 20
    assert label[10, 10] == label[10, 12] == label[10, 14] == 1
    assert set(np.unique(label)) == {0, 1, 255}


def test_no_point_labels_nothing() -> None:
    assert (voronoi_label(np.empty((0, 2)), (5, 6)) == 255).all()


@settings(max_examples=80, deadline=None)
@given(
    arrays(bool, (12, 16), elements=st.booleans()),
    st.lists(st.tuples(st.floats(0, 15.9), st.floats(0, 11.9)), max_size=12),
)
def test_division_covers_the_mask_and_nothing_else(mask: NDArray[np.bool_], points: list[tuple[float, float]]) -> None:
    xy = np.array(points).reshape(-1, 2)
    labels = divide_by_points(mask, xy)
    assert ((labels > 0) == mask).all()
    parts, n_parts = ndimage.label(mask)
    pixels = {(int(y), int(x)) for x, y in points if mask[int(y), int(x)]}
    touched = {parts[pixel] for pixel in pixels}
    assert labels.max(initial=0) == len(pixels) + n_parts - len(touched)
    assert set(np.unique(labels)) - {0} == set(range(1, labels.max(initial=0) + 1))
    assert len({labels[pixel] for pixel in pixels}) == len(pixels), "each point has a nucleus of its own"
    for label in range(1, labels.max(initial=0) + 1):
        assert ndimage.label(labels == label)[1] == 1


@pytest.mark.parametrize("points", [np.empty((0, 2)), np.array([[3.5, 3.5]])])
def test_a_mask_without_background(points: NDArray[np.float64]) -> None:
    assert (divide_by_points(np.ones((8, 8), bool), points) == 1).all()

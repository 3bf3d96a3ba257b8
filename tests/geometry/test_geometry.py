"""Boxes against sets of pixels, and the working grid against its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsipsm.geometry import Box, Size, WorkingGrid

SMALL = st.integers(-6, 6)
BOXES = st.builds(Box, SMALL, SMALL, st.integers(0, 6), st.integers(0, 6))


def pixels(box: Box) -> set[tuple[int, int]]:
    return {(x, y) for x in range(box.x, box.right) for y in range(box.y, box.bottom)}


@given(BOXES, BOXES, SMALL, SMALL)
def test_boxes_are_sets_of_pixels(one: Box, other: Box, dx: int, dy: int) -> None:
    assert one.area == len(pixels(one))
    assert pixels(one.intersect(other)) == pixels(one) & pixels(other)
    assert one.intersect(other).area == len(pixels(one) & pixels(other))
    assert pixels(one.shift(dx, dy)) == {(x + dx, y + dy) for x, y in pixels(one)}
    assert Box.from_edges(one.x, one.y, one.right, one.bottom) == one


@given(BOXES, st.integers(0, 4))
def test_a_box_grows_on_every_side(box: Box, margin: int) -> None:
    grown = box.expand(margin)
    assert (grown.x, grown.y) == (box.x - margin, box.y - margin)
    assert (grown.right, grown.bottom) == (box.right + margin, box.bottom + margin)
    assert grown.expand(-margin) == box


@pytest.mark.parametrize(("width", "height"), [(-1, 3), (3, -1), (-1, -1)])
def test_a_box_of_less_than_nothing_is_refused(width: int, height: int) -> None:
    with pytest.raises(ValueError, match="both must be 0 or more"):
        Box(0, 0, width, height)
    assert Box.from_edges(5, 5, 5 + width, 5 + height).area == 0


@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.sampled_from([0.1, 0.2, 0.25, 0.5, 0.23, 1.0]),
    st.sampled_from([0.25, 0.5]),
    st.tuples(st.integers(0, 90), st.integers(0, 90)),
)
def test_the_grid_covers_the_slide_and_no_pixel_more(
    width: int, height: int, slide_mpp: float, mpp: float, origin: tuple[int, int]
) -> None:
    grid = WorkingGrid(Size(width, height), slide_mpp, mpp, origin)
    assert grid.scale == pytest.approx(mpp / slide_mpp)
    size = grid.size_px
    for n_px, n_px0 in ((size.width, width), (size.height, height)):
        assert n_px * grid.scale >= n_px0 - 1e-3
        assert n_px == 1 or (n_px - 1) * grid.scale < n_px0
    box = Box(2, 3, 7, 5)
    held = grid.box_px0(box)
    for first, last, start, end, begin in (
        (held.x, held.right, box.x, box.right, origin[0]),
        (held.y, held.bottom, box.y, box.bottom, origin[1]),
    ):
        assert first - begin == math.floor(start * grid.scale)
        assert last - begin == math.ceil(end * grid.scale)


@given(st.integers(0, 99), st.integers(0, 99))
def test_a_size_has_as_many_pixels_as_a_box_of_it(width: int, height: int) -> None:
    assert Size(width, height).area == Box(3, 4, width, height).area == width * height

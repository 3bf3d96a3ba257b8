"""What unions, cuts and places are made of, each against a plain loop: a step that does nothing is not quicker."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from wsipsm.geometry import Box, Size
from wsipsm.keys import QuPathFrame
from wsipsm.region import PolygonRegion
from wsipsm.region.pieces import areas_in_boxes, assemble, clip, common, polygons_of, share_outside, subdivide
from wsipsm.region.place import _share_within, frame_of_document, note_on_place
from wsipsm.region.union import _fill_unreached_holes, _group_by_square, _pierce, _split, _touch_another
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame


def rings(seed: int, n: int) -> NDArray[np.object_]:
    """Squares with square holes on whole numbers, so that many touch or lie in each other's holes."""
    random = np.random.default_rng(seed)
    found = []
    for x, y in random.integers(0, 60, (n, 2)).tolist():
        side = int(random.integers(3, 20))
        holes = []
        if side > 6:
            holes.append(shapely.box(x + 1, y + 1, x + side // 2, y + side - 2))
            holes.append(shapely.box(x + side // 2 + 1, y + 2, x + side - 1, y + side - 1))
        found.append(shapely.box(x, y, x + side, y + side).difference(shapely.union_all(holes)))
    return np.array(found, dtype=np.object_)


def holes_of(polygon: shapely.Polygon) -> list[bytes]:
    return sorted(shapely.normalize(shapely.Polygon(ring)).wkb for ring in polygon.interiors)


@pytest.mark.parametrize("seed", range(8))
def test_neighbours_by_loops(seed: int) -> None:
    polygons = rings(seed, 3 + 3 * seed)
    expected = [
        any(one.intersects(other) for number, other in enumerate(polygons) if number != own)
        for own, one in enumerate(polygons)
    ]
    assert _touch_another(polygons).tolist() == expected


@pytest.mark.parametrize("seed", range(8))
def test_holes_that_nothing_reaches_are_set_aside_and_the_others_stay(seed: int) -> None:
    polygons = rings(seed, 3 + 2 * seed)
    filled, quiet = _fill_unreached_holes(polygons)
    reached, expected_quiet = [], []
    for own, polygon in enumerate(polygons):
        kept = []
        for ring in polygon.interiors:
            hole = shapely.Polygon(ring)
            is_reached = any(hole.intersects(other) for number, other in enumerate(polygons) if number != own)
            (kept if is_reached else expected_quiet).append(shapely.normalize(hole).wkb)
        reached.append(sorted(kept))
    assert [holes_of(polygon) for polygon in filled] == reached
    assert sorted(shapely.normalize(hole).wkb for hole in quiet) == sorted(expected_quiet)
    assert [polygon.exterior.wkb for polygon in filled] == [polygon.exterior.wkb for polygon in polygons]
    if seed > 3:
        assert expected_quiet
        assert any(reached)


@pytest.mark.parametrize("seed", range(4))
def test_places_by_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.uniform(-50, 90, (2, 60)) + (300, -40)[seed % 2]
    polygons = shapely.box(x, y, x + random.uniform(1, 9, 60), y + 3)
    for n_side in (0, 1, 2, 3, 7):
        places: dict[tuple[int, int], list[int]] = {}
        bounds = np.array([polygon.bounds for polygon in polygons])
        centre = np.stack([bounds[:, [0, 2]].mean(1), bounds[:, [1, 3]].mean(1)], 1)
        low, high = centre.min(0), centre.max(0)
        for number, point in enumerate(centre):
            column, row = (min(int(s * n_side), n_side - 1) for s in ((point - low) / (high - low)).tolist())
            places.setdefault((column, row) if n_side > 1 else (0, 0), []).append(number)
        found = [members.tolist() for members in _group_by_square(polygons, n_side)]
        assert sorted(found) == sorted(places.values())


def test_polygons_in_one_place_are_one_group() -> None:
    polygons = np.repeat(np.array([shapely.box(5, 5, 6, 6)], dtype=np.object_), 4)
    assert [members.tolist() for members in _group_by_square(polygons, 3)] == [[0, 1, 2, 3]]
    near = shapely.box(np.arange(4) / 8, 0, np.arange(4) / 8 + 1, 1)
    assert len(_group_by_square(near, 2)) == 2, "apart by less than a pixel, but apart"


def test_values_of_each_key_keep_their_order() -> None:
    keys, values = np.array([3, 1, 3, 0, 1, 3]), np.array([9, 8, 7, 6, 5, 4])
    assert [(key, own.tolist()) for key, own in _split(keys, values)] == [(0, [6]), (1, [8, 5]), (3, [9, 7, 4])]
    assert _split(keys[:0], values[:0]) == []


def test_holes_are_pierced_where_they_lie_and_older_ones_stay() -> None:
    first = shapely.box(0, 0, 10, 10).difference(shapely.box(1, 1, 3, 3))
    polygons = np.array([first, shapely.box(20, 0, 30, 10), shapely.box(40, 0, 41, 1)], dtype=np.object_)
    holes = shapely.box([5, 22, 26], [5, 2, 6], [6, 24, 27], [6, 4, 9])
    pierced = _pierce(polygons, holes)
    assert [len(polygon.interiors) for polygon in pierced] == [2, 2, 0]
    assert shapely.area(pierced).tolist() == [100 - 4 - 1, 100 - 4 - 3, 1]
    assert [len(polygon.interiors) for polygon in polygons] == [1, 0, 0], "what was given is left as it was"


def test_what_lies_in_a_box_is_not_cut() -> None:
    """Polygons that end at the box come back corner by corner, also where that order is not shapely's own."""
    box = shapely.box(0, 0, 10, 10)
    inside = [shapely.Polygon([(0, 0), (4, 0), (4, 3), (2, 3), (0, 3)]), shapely.Polygon([(9, 9), (10, 9), (10, 10)])]
    beyond = shapely.box(8, 2, 14, 4)
    found = clip(shapely.MultiPolygon([*inside, beyond]), box)
    assert [part.wkb for part in found.geoms][:2] == [part.wkb for part in inside]
    assert found.area == 12 + 0.5 + 4
    for outside in (shapely.box(-3, 2, 14, 4), shapely.box(2, -3, 4, 14), shapely.box(-9, -9, 1, 1)):
        assert clip(outside, box).equals(outside.intersection(box))


@pytest.mark.parametrize("seed", range(4))
def test_areas_by_loops(seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.integers(0, 12, (2, 20)) * 2
    pieces = polygons_of(shapely.union_all(shapely.box(x, y, x + random.integers(1, 6, 20), y + 2)))
    left, top = random.integers(-3, 22, (2, 30))
    boxes = np.stack([left, top, left + random.integers(1, 16, 30), top + random.integers(1, 9, 30)], 1).astype(float)
    expected = [sum(piece.intersection(shapely.box(*box)).area for piece in pieces) for box in boxes.tolist()]
    assert areas_in_boxes(pieces, boxes) == pytest.approx(expected, abs=1e-9)


def saw(width: float, height: float, n: int) -> shapely.Polygon:
    """A rectangle with n vertices, the lower edge of which is a saw's."""
    x = np.linspace(0, width, n - 3)
    lower = np.stack([x, np.where(np.arange(n - 3) % 2, 0.1 * height, 0)], 1)
    return shapely.Polygon([*lower.tolist(), (width, height), (0, height)])


@pytest.mark.parametrize(("n_coordinates", "n_pieces"), [(200, 1), (256, 1), (257, 2), (300, 2)])
def test_what_has_256_coordinates_is_one_piece(n_coordinates: int, n_pieces: int) -> None:
    shape = saw(100, 20, n_coordinates)
    assert shapely.get_num_coordinates(shape) == n_coordinates
    pieces = subdivide(shape)
    assert len(pieces) == n_pieces
    assert shapely.area(pieces).sum() == pytest.approx(shape.area)


@pytest.mark.parametrize(
    ("place", "is_wide"), [((0, 0), True), ((7000, 0), True), ((0, 7000), True), ((500, 900), False)]
)
def test_a_shape_is_halved_across_its_longer_side(place: tuple[float, float], is_wide: bool) -> None:
    shape = saw(100, 60, 400)
    if not is_wide:
        shape = shapely.transform(shape, lambda xy: xy[:, ::-1])
    shape = shapely.transform(shape, lambda xy: xy + place)
    spans = sorted(piece.bounds for piece in subdivide(shape))
    (left, top), (width, height) = place, (100, 60) if is_wide else (60, 100)
    cut = (left + 50, top + height) if is_wide else (left + width, top + 50)
    assert len(spans) == 2
    assert spans[0] == pytest.approx((left, top, *cut), abs=0.01)


def test_cuts_along_edges_keep_every_piece_sound() -> None:
    """Comb after comb with edges on the cut, where clipping by a rectangle is known to go wrong."""
    for n, offset in ((150, 0.0), (151, 0.5), (400, 0.0)):
        teeth = [shapely.box(x, 0, x + 0.5, 40) for x in np.arange(offset, n)]
        comb = shapely.union_all([*teeth, shapely.box(0, 20, n, 21), shapely.box(0, 10, n, 10.5)])
        pieces = subdivide(comb)
        assert shapely.is_valid(pieces).all()
        assert shapely.get_num_coordinates(pieces).max() <= 256
        assert shapely.area(pieces).sum() == pytest.approx(comb.area)


def test_shares_at_their_ends() -> None:
    square = shapely.box(0, 0, 10, 10)
    assert share_outside(square, shapely.MultiPolygon()) == 1
    assert share_outside(square, square) == 0
    assert share_outside(shapely.MultiPolygon(), square) == 0
    assert share_outside(square, shapely.box(0, 0, 10, 3)) == pytest.approx(0.7)
    assert common(square, shapely.box(8, 8, 20, 20)).equals(shapely.box(8, 8, 10, 10))
    assert common(square, shapely.box(20, 20, 30, 30)).is_empty
    one = np.array([square], dtype=np.object_)
    assert (assemble(one).geom_type, assemble(one[:0]).geom_type) == ("Polygon", "MultiPolygon")


def test_touching_is_having_a_point_in_common() -> None:
    region = PolygonRegion(shapely.box(10, 10, 20, 20), "square")
    assert region.touches(Box(19, 19, 1, 1))
    assert region.touches(Box(5, 5, 5, 5)), "a corner"
    assert not region.touches(Box(5, 5, 4, 9))
    assert not region.touches(Box(12, 12, 0, 3))


@pytest.mark.parametrize("place", [(0, 0), (5000, 300), (300, 5000)])
@pytest.mark.parametrize("share", [0.0, 0.13, 0.305, 0.875, 1.0])
@pytest.mark.parametrize("is_turned", [False, True])
def test_the_share_in_a_region_is_that_of_a_raster_over_the_shape(
    place: tuple[float, float], share: float, is_turned: bool
) -> None:
    x, y = place
    shape = shapely.box(x, y, x + 90, y + 50)
    part = shapely.box(x, y, x + 90, y + 50 * share) if is_turned else shapely.box(x, y, x + 90 * share, y + 50)
    within = PolygonRegion(part if share else shapely.box(-9, -9, -8, -8), "tissue")
    assert _share_within(shape, within) == np.mean((np.arange(64) + 0.5) / 64 < share)
    triangle = shapely.Polygon([(x, y), (x + 90, y), (x, y + 50)])
    expected = triangle.intersection(within.shape).area / triangle.area
    assert _share_within(triangle, within) == pytest.approx(expected, abs=0.02)


def test_a_shape_too_thin_for_the_raster_lies_nowhere() -> None:
    thin = shapely.union_all([shapely.box(0, 0, 0.01, 100), shapely.box(0, 99.99, 100, 100)])
    assert _share_within(thin, PolygonRegion(shapely.box(-5, -5, 500, 500), "all")) == 0


FRAME = SlideFrame.of(SlideInfo("a.mrxs", "openslide", (Size(4000, 4000),), 0.25, "0", Box(1000, 0, 1000, 1000)))
"""In QuPath's other frame what is drawn at x on the canvas is taken to lie at x - 1000."""


def note(left: float, width: float, stated: QuPathFrame | None = None) -> str | None:
    shapes = np.array([shapely.box(left, 100, left + width, 200)], dtype=np.object_)
    return note_on_place(shapes, [stated], FRAME, None, "roi")


def test_half_of_a_region_on_the_scan_is_enough() -> None:
    assert note(1500, 1000) is None
    with pytest.raises(Exception, match="50% of the region lies in the empty part"):
        note(1500, 1001)
    # In the other frame all of it lies on the scan, or just half, or less.
    with pytest.raises(Exception, match="100% of it lies on the scan: pass --qupath-frame full"):
        note(2000, 1000)
    with pytest.raises(Exception, match="50% of it lies on the scan: pass --qupath-frame full"):
        note(2500, 1000)
    with pytest.raises(Exception, match="drawn on this slide"):
        note(2502, 1000)


@pytest.mark.parametrize(("beyond", "is_noted"), [(0, False), (40, False), (54, False), (56, True), (110, True)])
def test_another_frame_is_named_where_it_holds_a_hundredth_more(beyond: float, is_noted: bool) -> None:
    """Of the region 1 - b lies on the scan as read, 0.9 + b as drawn in the other frame, which lies 100 px beside."""
    frame = SlideFrame.of(SlideInfo("a.mrxs", "openslide", (Size(4000, 4000),), 0.25, "0", Box(100, 0, 1000, 1000)))
    shapes = np.array([shapely.box(100 + beyond, 100, 1100 + beyond, 200)], dtype=np.object_)
    told = note_on_place(shapes, [None], frame, None, "roi")
    assert (told is not None) is is_noted
    if told is not None:
        assert f"{beyond / 1000:.0%} of the region lies beside the scan, {max(0.1 - beyond / 1000, 0.01):.0%}" in told
    # What a file says of itself is not doubted, even if it is one of several.
    assert note_on_place(shapes, [QuPathFrame.CROPPED, None], frame, None, "roi") is None


def test_a_frame_is_read_from_what_wsipsm_wrote() -> None:
    for frame in QuPathFrame:
        assert frame_of_document({"wsipsm": {"qupath_frame": frame.value}}) is frame
    for document in ([], None, {"wsipsm": []}, {"wsipsm": {}}, {"qupath_frame": "full"}):
        assert frame_of_document(document) is None

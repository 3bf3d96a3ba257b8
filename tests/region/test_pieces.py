"""Polygons in pieces: areas, cuts and shares are those of shapely on the whole shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from drawing import INFO, classed, write
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.region import read_roi
from wsipsm.region.pieces import areas_in_boxes, clip, polygons_of, share_outside, subdivide
from wsipsm.region.union import cut_out, merge


def blobs(seed: int, n: int, n_vertices: int, is_round: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, n_vertices, endpoint=False)
    radius = rng.uniform(5, 40, (n, 1)) * (1 + 0.3 * np.sin(5 * angle + rng.uniform(0, 6, (n, 1))))
    corners = rng.uniform(0, 300, (n, 1, 2)) + radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # On whole numbers edges run along cuts, and corners touch.
    return shapely.make_valid(shapely.polygons(corners if is_round else np.round(corners / 4) * 4))


@given(seed=st.integers(0, 999), n=st.integers(1, 30), n_vertices=st.sampled_from([4, 40, 900]), is_round=st.booleans())
@settings(max_examples=60, deadline=None)
def test_against_shapely(seed: int, n: int, n_vertices: int, is_round: bool) -> None:
    shapes, others = blobs(seed, n, n_vertices, is_round), blobs(seed + 1, 5, 40, is_round)
    whole = shapely.union_all(shapes)
    merged = merge(shapes)
    assert merged.is_valid
    assert merged.symmetric_difference(whole).area == pytest.approx(0, abs=1e-6)
    if merged.is_empty:
        return
    less = cut_out(merged, others)
    assert less.is_valid
    assert less.symmetric_difference(whole.difference(shapely.union_all(others))).area == pytest.approx(0, abs=1e-6)
    box = shapely.box(40, 60, 200, 210)
    assert clip(merged, box).symmetric_difference(whole.intersection(box)).area == pytest.approx(0, abs=1e-6)
    other = merge(others)
    expected = whole.difference(other).area / whole.area
    assert share_outside(merged, other) == pytest.approx(expected, abs=1e-9)


def test_many_that_touch_are_joined_by_places_as_at_once() -> None:
    """Squares with a common edge, circles that overlap, rings in rings, and corners that touch; in disorder."""
    x, y = (values.ravel() for values in np.meshgrid(np.arange(0, 600, 10.0), np.arange(0, 600, 10.0)))
    centres = shapely.points(x, y)
    rings = shapely.difference(shapely.buffer(centres[::31], 60), shapely.buffer(centres[::31], 55))
    nested = [
        shapely.Point(300, 300).buffer(radius).difference(shapely.Point(300, 300).buffer(radius - 2))
        for radius in range(8, 280, 8)
    ]
    chequered = (x / 10 + y / 10) % 2 == 0
    drawn = {
        "tiles": shapely.box(x, y, x + 10, y + 10),
        "tiles with gaps": shapely.box(x, y, x + 10, y + 10)[np.random.default_rng(0).random(len(x)) < 0.6],
        "corners": shapely.box(x, y, x + 10, y + 10)[chequered],
        "net": shapely.buffer(centres, 5.5),
        "rings": rings,
        "apart": shapely.buffer(centres, 4),
        "nested, with islands": np.array([*nested, *shapely.buffer(centres[::3], 0.5)], dtype=np.object_),
        "one place": np.repeat(shapely.buffer(centres[:1], 4), 500),
    }
    slide = shapely.box(-100, -100, 700, 700)
    for name, shapes in drawn.items():
        shapes = np.random.default_rng(1).permutation(shapes)
        whole, merged = shapely.union_all(shapes), merge(shapes)
        assert merged.is_valid, name
        assert merged.symmetric_difference(whole).area == pytest.approx(0, abs=1e-6), name
        assert shapely.get_num_geometries(merged) == shapely.get_num_geometries(whole), name
        less = cut_out(slide, shapes)
        assert less.is_valid, name
        assert less.symmetric_difference(slide.difference(whole)).area == pytest.approx(0, abs=1e-6), name


@given(seed=st.integers(0, 999), n_vertices=st.sampled_from([700, 5_000]), is_round=st.booleans())
@settings(max_examples=20, deadline=None)
def test_pieces_are_small_and_cover_the_shape(seed: int, n_vertices: int, is_round: bool) -> None:
    shape = merge(blobs(seed, 4, n_vertices, is_round)).difference(shapely.Point(150, 150).buffer(30, 400))
    pieces = subdivide(shape)
    assert shapely.get_num_coordinates(pieces).max(initial=0) <= 256
    assert shapely.area(pieces).sum() == pytest.approx(shape.area)
    left, top = np.meshgrid(np.arange(-20, 320, 37.0), np.arange(-20, 320, 41.0))
    boxes = np.stack([left, top, left + 50, top + 30], axis=-1).reshape(-1, 4)
    expected = shapely.area(shapely.intersection(shape, shapely.box(*boxes.T)))
    assert areas_in_boxes(pieces, boxes) == pytest.approx(expected, abs=1e-6)


def test_ten_thousand_polygons_and_a_hundred_thousand_vertices_are_read(tmp_path: Path) -> None:
    grid = [(10 * (k % 100), 10 * (k // 100), 6, 6) for k in range(10_000)]
    kinds = ["Tumor", "Ignore*"]
    many = write(tmp_path / "many.geojson", *(classed(box, kinds[k % 2]) for k, box in enumerate(grid)))
    region = read_roi(many, INFO)
    assert region.area_px0() == 5_000 * 36
    assert [part.annotation for part in region.parts] == ["5,000 annotations", "5,000 annotations"]
    ring = np.round(shapely.get_coordinates(shapely.Point(4000, 4000).buffer(3000, 25_000)), 3).tolist()
    large = classed((0, 0, 1, 1), "Tumor")
    large["geometry"]["coordinates"] = [ring]
    region = read_roi(write(tmp_path / "large.geojson", large), INFO)
    boxes = np.array([[x, y, x + 500, y + 500] for x in range(0, 8000, 500) for y in range(0, 8000, 500)], float)
    assert region.areas_in(boxes).sum() == pytest.approx(region.area_px0())


def test_only_what_has_an_area_is_a_polygon() -> None:
    square, other, flat = shapely.box(0, 0, 2, 2), shapely.box(5, 0, 6, 3), shapely.Polygon([(0, 0), (1, 1), (2, 2)])
    line, point = shapely.LineString([(0, 0), (9, 9)]), shapely.Point(3, 3)
    nested = shapely.GeometryCollection([line, shapely.GeometryCollection([shapely.MultiPolygon([other]), flat])])
    found = polygons_of(np.array([square, flat, line, point, nested, shapely.Polygon()], dtype=np.object_))
    assert sorted(shapely.area(found)) == [3, 4]
    assert len(polygons_of(flat)) == len(polygons_of(line)) == 0

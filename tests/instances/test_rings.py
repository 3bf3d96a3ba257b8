"""Outlines as flat arrays: the same numbers that shapely reads, and a refusal of what has another form."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import shapely

from wsipsm.instances.rings import read_rings

POLYGONS = [
    shapely.box(0, 0, 3, 4),
    shapely.Polygon([(0.5, 1), (7, 1), (7, 2.25), (9, 2.25), (9, 8), (0.5, 8)]),
    shapely.box(-5, 1e5, 0.1, 3e5),
]


def wkb(polygons: list[shapely.Geometry], byte_order: int = 1) -> pa.Array:
    return pa.array(shapely.to_wkb(np.array(polygons, dtype=object), byte_order=byte_order), pa.binary())


@pytest.mark.parametrize("part", [slice(0, 3), slice(1, 3), slice(2, 2)])
def test_rings_are_what_shapely_reads(part: slice) -> None:
    array = wkb(POLYGONS)
    rings = read_rings(array.slice(part.start, part.stop - part.start))
    assert rings is not None
    expected = [shapely.get_coordinates(polygon) for polygon in POLYGONS[part]]
    assert np.array_equal(rings.xy, np.concatenate([np.empty((0, 2)), *expected]))
    assert rings.starts.tolist() == [0, *np.cumsum([len(xy) for xy in expected])]
    owners = [ring for ring, xy in enumerate(expected) for _ in xy]
    assert rings.of(np.arange(len(rings.xy))).tolist() == owners


@pytest.mark.parametrize(
    "other",
    [
        wkb([*POLYGONS, shapely.box(0, 0, 9, 9).difference(shapely.box(2, 2, 3, 3))]),
        wkb([*POLYGONS, shapely.Point(1, 2)]),
        wkb([*POLYGONS, shapely.MultiPolygon([shapely.box(0, 0, 1, 1)])]),
        wkb(POLYGONS, byte_order=0),
        pa.array([b"\x01\x03\x00"], pa.binary()),
        pa.array([wkb(POLYGONS)[0].as_py(), None], pa.binary()),
    ],
    ids=["hole", "point", "several", "byte order", "cut off", "null"],
)
def test_what_is_no_single_ring_is_refused(other: pa.Array) -> None:
    assert read_rings(other) is None

"""Conversion of GeoJSON coordinates to polygons, for all geometries of a file at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.validation import explain_validity

from wsipsm.errors import RoiError
from wsipsm.text import JsonObject

_MAX_PX = 2**31


def read_outlines(geometries: Sequence[JsonObject], labels: Sequence[str]) -> NDArray[np.object_]:
    """Read the shapes of Polygon and MultiPolygon geometries, shape (n,); empty where one has no area.

    Parameters
    ----------
    geometries
        Geometries of type Polygon or MultiPolygon.
    labels
        Names of the geometries in messages.

    Raises
    ------
    RoiError
        When coordinates are no rings of finite positions, or a polygon crosses itself.
    """
    rings: list[NDArray[np.float64]] = []
    polygon_of: list[int] = []
    feature_of: list[int] = []
    for feature, (geometry, label) in enumerate(zip(geometries, labels, strict=True)):
        for polygon in _read_polygons(geometry, label):
            polygon_of += [len(feature_of)] * len(polygon)
            feature_of.append(feature)
            rings += polygon
    shapes = np.full(len(geometries), shapely.MultiPolygon(), dtype=np.object_)
    if rings:
        lengths = [len(ring) for ring in rings]
        lines = shapely.linearrings(np.concatenate(rings), indices=np.repeat(np.arange(len(rings)), lengths))
        polygons = shapely.polygons(np.asarray(lines, dtype=np.object_), indices=np.asarray(polygon_of))
        shapely.multipolygons(np.asarray(polygons, dtype=np.object_), indices=np.asarray(feature_of), out=shapes)
    # A bow tie may have the area 0, so the area of the hull decides whether a shape is empty.
    shapes[shapely.area(shapely.convex_hull(shapes)) == 0] = shapely.MultiPolygon()
    invalid = np.flatnonzero(~shapely.is_valid(shapes))
    if len(invalid):
        first = int(invalid[0])
        raise RoiError(
            f"{labels[first]}: the polygon is not valid ({explain_validity(shapes[first])}, in pixels as drawn); an "
            "outline that does not cross itself is needed. Redraw it, or simplify it in QuPath, and export again."
        )
    is_single = shapely.get_num_geometries(shapes) == 1
    shapes[is_single] = shapely.get_geometry(shapes[is_single], 0)
    return shapes


def _read_polygons(geometry: JsonObject, label: str) -> list[list[NDArray[np.float64]]]:
    """Read the rings of each polygon, the outer one first; those with fewer than three corners are left out."""
    coordinates = geometry.get("coordinates")
    members = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(members, list):
        raise RoiError(f"{label}: coordinates are no list; rings of [x, y] are needed. Export the annotations again.")
    polygons = []
    for member in members:
        if not isinstance(member, list):
            raise RoiError(f"{label}: a polygon that is no list of rings. Export the annotations again.")
        rings = [_read_ring(ring, label) for ring in member]
        if rings and len(rings[0]) >= 4:
            polygons.append([rings[0], *(ring for ring in rings[1:] if len(ring) >= 4)])
    return polygons


def _read_ring(ring: Any, label: str) -> NDArray[np.float64]:
    """Read a ring as an array of shape (n, 2), closed."""
    try:
        points = np.asarray([position[:2] for position in ring], dtype=np.float64)
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise RoiError(f"{label}: a ring that is no list of [x, y] numbers. Export the annotations again.") from error
    if points.size == 0:
        return np.empty((0, 2))
    # The comparison is negated, so that NaN is refused as well.
    if points.ndim != 2 or points.shape[1] != 2 or not np.abs(points).max() <= _MAX_PX:
        raise RoiError(f"{label}: a ring with positions that are no finite [x, y]. Export the annotations again.")
    closed = points if (points[0] == points[-1]).all() else np.concatenate([points, points[:1]])
    return closed

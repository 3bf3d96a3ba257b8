"""Polygons cut into small pieces, so that the area in thousands of boxes costs no walk over a million vertices each."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

_MAX_VERTICES = 256
_MAX_ROUNDS = 40
"""Halvings of a polygon; rounds end far sooner, unless hundreds of its vertices lie in one place."""


def polygons_of(shapes: BaseGeometry | NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons with an area in a shape or in shapes, shape (n,): points and lines are dropped.

    Parameters
    ----------
    shapes
        Of any type; collections give their members.
    """
    parts = np.atleast_1d(shapely.get_parts(shapes))
    while (shapely.get_type_id(parts) >= shapely.GeometryType.MULTIPOINT).any():
        parts = shapely.get_parts(parts)
    is_area = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    return np.asarray(parts[is_area], dtype=np.object_)


def as_area(shape: BaseGeometry) -> shapely.Polygon | shapely.MultiPolygon:
    """Polygon or MultiPolygon of a shape, perhaps empty: what touched an edge only is dropped."""
    if isinstance(shape, (shapely.Polygon, shapely.MultiPolygon)) and shape.is_valid:
        return shape
    parts = polygons_of(shape)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(list(parts))


def subdivide(shape: BaseGeometry) -> NDArray[np.object_]:
    """Cut a shape into polygons of few vertices that cover it without overlap, shape (n,).

    Parameters
    ----------
    shape
        Polygon or MultiPolygon, valid.
    """
    waiting, done = polygons_of(shape), []
    for _ in range(_MAX_ROUNDS):
        is_large = shapely.get_num_coordinates(waiting) > _MAX_VERTICES
        done.append(waiting[~is_large])
        waiting = waiting[is_large]
        if len(waiting) == 0:
            break
        waiting = polygons_of(shapely.intersection(np.repeat(waiting, 2), _halves(shapely.bounds(waiting))))
    return np.concatenate([*done, waiting])


def _halves(bounds: NDArray[np.float64]) -> NDArray[np.object_]:
    """Two boxes for each of the bounds, shape (n, 4), cut across the longer side; shape (2 n,)."""
    left, top, right, bottom = bounds.T
    is_wide = right - left >= bottom - top
    middle = np.where(is_wide, (left + right) / 2, (top + bottom) / 2)
    first = shapely.box(left, top, np.where(is_wide, middle, right), np.where(is_wide, bottom, middle))
    second = shapely.box(np.where(is_wide, middle, left), np.where(is_wide, top, middle), right, bottom)
    return np.stack([first, second], axis=1).ravel()


def areas_in_boxes(pieces: NDArray[np.object_], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of pieces in each box.

    Parameters
    ----------
    pieces
        Polygons without overlap, shape (n,).
    boxes
        Left, top, right, bottom, shape (m, 4).

    Returns
    -------
    Shape (m,).
    """
    left, top, right, bottom = boxes.T
    shapes = np.atleast_1d(shapely.box(left, top, right, bottom))
    box, piece = shapely.STRtree(pieces).query(shapes)
    bounds = shapely.bounds(pieces)[piece]
    is_inside = (bounds[:, :2] >= boxes[box, :2]).all(axis=1) & (bounds[:, 2:] <= boxes[box, 2:]).all(axis=1)
    areas = np.empty(len(box))
    areas[is_inside] = shapely.area(pieces[piece[is_inside]])
    cut = ~is_inside
    areas[cut] = shapely.area(shapely.intersection(pieces[piece[cut]], shapes[box[cut]]))
    return np.bincount(box, weights=areas, minlength=len(boxes)).astype(np.float64)

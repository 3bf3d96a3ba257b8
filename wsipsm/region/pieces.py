"""Division of polygons into small pieces, so that computing their area in each of thousands of boxes is fast.

On a polygon of a million vertices, each box would otherwise need a walk over all of them.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

_MAX_VERTICES = 256
_MAX_HALVINGS = 40
"""Most times that a polygon is halved; far fewer suffice, unless hundreds of its vertices lie in one place."""


def polygons_of(shapes: BaseGeometry | NDArray[np.object_]) -> NDArray[np.object_]:
    """Extract the polygons with an area from a shape or shapes, as an array of shape (n,), without points and lines.

    Parameters
    ----------
    shapes
        Shapes of any type; the members of collections are extracted.
    """
    parts = np.atleast_1d(shapely.get_parts(shapes))
    while (shapely.get_type_id(parts) >= shapely.GeometryType.MULTIPOINT).any():
        parts = shapely.get_parts(parts)
    is_area = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)
    return np.asarray(parts[is_area], dtype=np.object_)


def clip(shape: BaseGeometry, box: shapely.Polygon) -> shapely.Polygon | shapely.MultiPolygon:
    """Clip a shape to a box, polygon by polygon; the result may be empty."""
    parts = polygons_of(shape)
    left, top, right, bottom = box.bounds
    bounds = shapely.bounds(parts)
    is_inside = (bounds[:, :2] >= (left, top)).all(axis=1) & (bounds[:, 2:] <= (right, bottom)).all(axis=1)
    crossing = polygons_of(shapely.intersection(parts[~is_inside], box))
    return assemble(np.concatenate([parts[is_inside], crossing]))


def common(shape: BaseGeometry, other: BaseGeometry) -> shapely.Polygon | shapely.MultiPolygon:
    """Intersect two shapes, polygon by polygon; the result may be empty."""
    own, others = polygons_of(shape), polygons_of(other)
    at, by = shapely.STRtree(others).query(own)
    return assemble(polygons_of(shapely.intersection(own[at], others[by])))


def share_outside(shape: BaseGeometry, others: BaseGeometry) -> float:
    """Compute the share of a shape's area outside another shape, 0..1; 0 for one without area."""
    own, other = subdivide(shape), subdivide(others)
    at, by = shapely.STRtree(other).query(own)
    common = float(shapely.area(shapely.intersection(own[at], other[by])).sum())
    return float(np.clip(1 - common / shape.area, 0, 1)) if shape.area else 0.0


def assemble(polygons: NDArray[np.object_]) -> shapely.Polygon | shapely.MultiPolygon:
    """Assemble polygons without overlap, shape (n,), to a Polygon or MultiPolygon, perhaps empty."""
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(list(polygons))


def subdivide(shape: BaseGeometry) -> NDArray[np.object_]:
    """Cut a shape into polygons of few vertices that cover it without overlap, shape (n,).

    Parameters
    ----------
    shape
        Polygon or MultiPolygon, valid.
    """
    waiting, done = polygons_of(shape), []
    for _ in range(_MAX_HALVINGS):
        is_large = shapely.get_num_coordinates(waiting) > _MAX_VERTICES
        done.append(waiting[~is_large])
        waiting = waiting[is_large]
        if len(waiting) == 0:
            break
        waiting = np.concatenate([_halve(piece) for piece in waiting])
    return np.concatenate([*done, waiting])


def _halve(polygon: BaseGeometry) -> NDArray[np.object_]:
    """Cut a polygon in the middle of its longer side; the pieces are an array of shape (n,)."""
    left, top, right, bottom = polygon.bounds
    x, y = (left + right) / 2, (top + bottom) / 2
    is_wide = right - left >= bottom - top
    boxes = [(left, top, x, bottom), (x, top, right, bottom)]
    if not is_wide:
        boxes = [(left, top, right, y), (left, y, right, bottom)]
    halves = polygons_of(np.array([shapely.clip_by_rect(polygon, *box) for box in boxes], dtype=np.object_))
    # Clipping is twenty times faster than intersection, but may be wrong where an edge runs along the cut.
    is_sound = np.isclose(shapely.area(halves).sum(), polygon.area, rtol=1e-9) and shapely.is_valid(halves).all()
    return halves if is_sound else polygons_of(shapely.intersection(polygon, [shapely.box(*box) for box in boxes]))


def areas_in_boxes(pieces: NDArray[np.object_], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the area of pieces in each box.

    Parameters
    ----------
    pieces
        Polygons without overlap, shape (n,).
    boxes
        Left, top, right, bottom, shape (m, 4).

    Returns
    -------
    Areas of shape (m,), in the square of the unit of the pieces.
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

"""Unions and differences of many polygons, computed in small squares, so that most polygons are handled once."""

from __future__ import annotations

import math

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsipsm.region.pieces import assemble, polygons_of

_GROUP = 16
"""Approximate number of polygons that are united at once."""


def merge(shapes: NDArray[np.object_]) -> shapely.Polygon | shapely.MultiPolygon:
    """Unite shapes, in a time that grows only with their number, whether they touch or not.

    A union of two halves would walk over all their vertices. So the polygons of each small square are united first, and
    only results that touch a neighbour go on to larger squares. Polygons that lie apart, and holes that no neighbour
    reaches, are put aside before.

    Parameters
    ----------
    shapes
        Polygons and MultiPolygons, valid, shape (n,).
    """
    waiting = polygons_of(shapes)
    finished: list[NDArray[np.object_]] = []
    holes = [np.empty(0, dtype=np.object_)]
    n_side = math.isqrt(len(waiting) // _GROUP)
    while True:
        is_apart = ~_touch_another(waiting)
        finished.append(waiting[is_apart])
        waiting = waiting[~is_apart]
        if len(waiting) == 0:
            break
        waiting, unreached = _fill_unreached_holes(waiting)
        holes.append(unreached)
        squares = _group_by_square(waiting, n_side)
        waiting = np.concatenate([polygons_of(shapely.union_all(waiting[members])) for members in squares])
        if len(squares) == 1:
            finished.append(waiting)  # polygons that still touch do so in single points
            break
        # There are always fewer squares, so that polygons that touch across a seam end up in the same one.
        n_side = min(n_side // 2, math.isqrt(len(waiting) // _GROUP))
    return assemble(_pierce(np.concatenate(finished), np.concatenate(holes)))


def cut_out(shape: BaseGeometry, others: NDArray[np.object_]) -> shapely.Polygon | shapely.MultiPolygon:
    """Cut shapes out of another; those inside become holes, and only polygons that one crosses are cut.

    Parameters
    ----------
    shape
        Polygon or MultiPolygon, valid.
    others
        Polygons and MultiPolygons, valid, shape (n,).
    """
    parts, cutters = polygons_of(shape), polygons_of(merge(others))
    part, cutter = shapely.STRtree(cutters).query(parts, predicate="intersects")
    shapely.prepare(parts)
    # A cutter with a hole leaves an island, and cutters that touch one another may cut a polygon in two.
    is_simple = (shapely.get_num_interior_rings(cutters) == 0) & ~_touch_another(cutters)
    is_hole = is_simple[cutter] & shapely.contains_properly(parts[part], cutters[cutter])
    crossed = _split(part[~is_hole], cutter[~is_hole])
    remaining = [parts[at].difference(assemble(cutters[group])) for at, group in crossed]
    whole = np.delete(parts, [at for at, _ in crossed])
    return assemble(
        _pierce(np.concatenate([whole, polygons_of(np.array(remaining, dtype=np.object_))]), cutters[cutter[is_hole]])
    )


def _pierce(polygons: NDArray[np.object_], holes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Add holes to polygons, shape (n,).

    Parameters
    ----------
    polygons
        Polygons without overlap, shape (n,).
    holes
        Polygons without holes, shape (m,), each in one of the polygons and apart from its holes.
    """
    # The points lie on the rings, since a point inside a hole may lie in an island.
    points = shapely.get_point(shapely.get_exterior_ring(holes), 0)
    hole, polygon = shapely.STRtree(polygons).query(points)
    pierced = polygons.copy()
    shapely.prepare(polygons)
    is_within = shapely.covers(polygons[polygon], points[hole])
    for at, members in _split(polygon[is_within], hole[is_within]):
        rings = [*shapely.get_rings(polygons[at])[1:], *shapely.get_exterior_ring(holes[members])]
        pierced[at] = shapely.Polygon(polygons[at].exterior, rings)
    return pierced


def _split(keys: NDArray[np.int64], values: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Split values by their keys."""
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    return list(zip(found.tolist(), np.split(values[order], starts[1:]), strict=False))


def _touch_another(polygons: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Check which polygons have a point in common with another; the result has shape (n,), bool."""
    one, other = shapely.STRtree(polygons).query(polygons)
    one, other = one[one < other], other[one < other]
    do_touch = shapely.intersects(polygons[one], polygons[other])
    touches = np.zeros(len(polygons), dtype=np.bool_)
    touches[one[do_touch]] = True
    touches[other[do_touch]] = True
    return touches


def _fill_unreached_holes(polygons: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Fill the holes that no other polygon reaches; return the polygons, shape (n,), and these holes, shape (m,)."""
    rings, ring_of = shapely.get_rings(polygons, return_index=True)
    is_hole = np.concatenate([[False], ring_of[1:] == ring_of[:-1]])
    rings, ring_of = rings[is_hole], ring_of[is_hole]
    if len(rings) == 0:
        return polygons, np.empty(0, dtype=np.object_)
    holes = np.asarray(shapely.polygons(rings), dtype=np.object_)
    hole, polygon = shapely.STRtree(polygons).query(holes)
    is_other = polygon != ring_of[hole]
    hole, polygon = hole[is_other], polygon[is_other]
    is_reached = np.zeros(len(holes), dtype=np.bool_)
    is_reached[hole[shapely.intersects(holes[hole], polygons[polygon])]] = True
    filled = polygons.copy()
    for at, members in _split(ring_of, np.arange(len(rings))):
        kept = members[is_reached[members]]
        if len(kept) < len(members):
            filled[at] = shapely.Polygon(polygons[at].exterior, list(rings[kept]))
    return filled, holes[~is_reached]


def _group_by_square(polygons: NDArray[np.object_], n_side: int) -> list[NDArray[np.int64]]:
    """Group the indices of polygons by the square in which their centre lies, of ``n_side`` by ``n_side`` squares."""
    if n_side < 2:
        return [np.arange(len(polygons))]
    bounds = shapely.bounds(polygons)
    centre = (bounds[:, :2] + bounds[:, 2:]) / 2
    low, span = centre.min(axis=0), np.maximum(np.ptp(centre, axis=0), 1e-9)
    row, column = np.minimum((centre - low) / span * n_side, n_side - 1).astype(np.int64).T
    return [members for _, members in _split(row * n_side + column, np.arange(len(polygons)))]

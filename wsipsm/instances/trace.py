"""Tracing of label images to polygons along pixel edges, and measures of the shape of polygons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.instances.labels import framed


@dataclass(frozen=True, slots=True)
class Outlines:
    """Polygons of one label image."""

    labels: NDArray[np.int32]
    """Labels in rising order, shape (n,)."""
    polygons: NDArray[np.object_]
    """Shapely polygons without holes in level-0 pixels, corner convention, shape (n,)."""


@dataclass(frozen=True, slots=True)
class OutlineMetrics:
    """Shape of outlines; every array has shape (n,), float64."""

    area_um2: NDArray[np.float64]
    """Area of the traced outline, which is that of its pixels."""
    perimeter_um: NDArray[np.float64]
    """Length of the smoothed outline."""
    circularity: NDArray[np.float64]
    """4 pi area / perimeter squared of the smoothed outline, at most 1."""
    solidity: NDArray[np.float64]
    """Area of the smoothed outline over that of its convex hull, at most 1."""


def trace_outlines(
    label_image: NDArray[np.int32], origin_px: tuple[int, int], scale: float, grid_origin_px0: tuple[int, int] = (0, 0)
) -> Outlines:
    """Trace the outer ring of every label along pixel edges.

    All rings are followed at once, one step at a time, with the label on the right: turn left where the pixel
    diagonally ahead on the left belongs to the label, go straight on where only the pixel ahead does, else turn right.

    Parameters
    ----------
    label_image
        Labels, 0 = background, shape (h, w). Each label is one 4-connected part without holes, as
        ``decode_instances`` makes it; then the polygon is valid and its area is the pixel count. The polygon covers
        holes; of a label in several parts only the first in scan order is traced.
    origin_px
        Column and row of the image's first pixel on the working grid.
    scale
        Level-0 pixels per working pixel.
    grid_origin_px0
        x, y at level 0 where the working grid begins.

    Returns
    -------
    Outlines with coordinates ``(origin_px + corner) * scale + grid_origin_px0``, collinear points left out.
    """
    padded = framed(label_image)
    width = padded.shape[1]
    labels, start = _first_pixels(padded)
    if not len(labels):
        return Outlines(labels.astype(np.int32), np.empty(0, dtype=object))
    ring, corner = _walk_rings(padded.ravel(), width, labels, start)
    order = np.argsort(ring, kind="stable")
    row, column = np.divmod(corner[order], width)
    # The frame of one pixel around the image shifts every corner by one.
    xy_px0 = np.column_stack([column - 1 + origin_px[0], row - 1 + origin_px[1]]) * scale + grid_origin_px0
    rings = shapely.linearrings(xy_px0, indices=ring[order])
    return Outlines(labels.astype(np.int32), np.asarray(shapely.polygons(rings), dtype=object))


def _first_pixels(padded: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Find the labels in rising order and the flat index of the first pixel of each in scan order."""
    inner = padded[1:-1, 1:-1]
    # The first pixel has no pixel of its label above or on its left, which holds for few others.
    candidate = inner != padded[:-2, 1:-1]
    candidate &= inner != padded[1:-1, :-2]
    candidate &= inner > 0
    row, column = np.nonzero(candidate)
    labels, first = np.unique(inner[row, column], return_index=True)
    flat = (row[first] + 1) * padded.shape[1] + column[first] + 1
    return labels, flat


def _walk_rings(
    flat: NDArray[np.int32], width: int, labels: NDArray[np.int32], start: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Walk around the labels; return ring number and flat index of each corner, each ring in the order of its corners.

    Corner (row, column) has the flat index of the pixel on its lower right.
    """
    # The directions are clockwise, with y downwards: right along the top edge, down, left, up.
    ahead = np.array([1, width, -1, -width])
    left_of = np.array([-width, 1, width, -1])
    edge_end = np.array([1, width + 1, width, 0])
    ring = np.arange(len(labels))
    pixel, direction, label, first = start.copy(), np.zeros(len(labels), np.intp), labels, start
    rings: list[NDArray[np.intp]] = []
    corners: list[NDArray[np.intp]] = []
    while len(ring):
        end = pixel + edge_end[direction]
        next_pixel = pixel + ahead[direction]
        diagonal = next_pixel + left_of[direction]
        blocked = flat[next_pixel] != label
        turn_left = ~blocked & (flat[diagonal] == label)
        turning = blocked | turn_left
        rings.append(ring[turning])
        corners.append(end[turning])
        pixel = np.where(blocked, pixel, np.where(turn_left, diagonal, next_pixel))
        direction = (direction + blocked - turn_left) % 4
        active = (pixel != first) | (direction != 0)
        if not active.all():
            ring, pixel, direction = ring[active], pixel[active], direction[active]
            label, first = label[active], first[active]
    return np.concatenate(rings), np.concatenate(corners)


def outline_metrics(polygons: NDArray[np.object_], mpp_px0: float) -> OutlineMetrics:
    """Measure the shape of traced outlines.

    A ring along pixel edges is up to 4/pi times too long, so perimeter, circularity and solidity are those of the
    ring through the midpoints of its edges: it turns a staircase into a slope and stays inside the hull.

    Parameters
    ----------
    polygons
        Shapely polygons in level-0 pixels, shape (n,); holes are ignored.
    mpp_px0
        Level-0 pixel size, um/px.
    """
    area_px0 = np.asarray(shapely.area(polygons), dtype=np.float64)
    rings = shapely.get_exterior_ring(polygons)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    middle = (xy[1:] + xy[:-1])[ring[1:] == ring[:-1]] / 2
    owner = ring[1:][ring[1:] == ring[:-1]]
    smooth = np.asarray(shapely.polygons(shapely.linearrings(middle, indices=owner))) if len(middle) else polygons
    perimeter = np.asarray(shapely.length(smooth), dtype=np.float64)
    smooth_area = np.asarray(shapely.area(smooth), dtype=np.float64)
    hull_area = np.asarray(shapely.area(shapely.convex_hull(smooth)), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        circularity = 4 * np.pi * smooth_area / perimeter**2
        solidity = smooth_area / hull_area
    return OutlineMetrics(
        area_um2=area_px0 * mpp_px0**2,
        perimeter_um=perimeter * mpp_px0,
        circularity=np.minimum(circularity, 1.0),
        solidity=np.minimum(solidity, 1.0),
    )

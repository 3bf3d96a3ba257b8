"""Fits outlines to QuPath: to its frame and a grid of a hundredth of a pixel, valid and inside the image."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from wsipsm.export.geojson_text import polygon_texts, ring_texts
from wsipsm.instances.rings import Rings, read_rings
from wsipsm.slide.frame import SlideFrame

_DECIMALS = 2
"""Decimals of coordinates. QuPath 0.6 snaps to a hundredth of a pixel, so finer ones would move after the check."""
_MIN_AREA_PX2 = 0.01


def fit_outlines(wkb: pa.Array, frame: SlideFrame) -> tuple[pa.Array, int]:
    """Write outlines' coordinates for QuPath.

    Parameters
    ----------
    wkb
        Polygons in level-0 pixels as WKB, binary, shape (n,).
    frame
        Frame of the slide, with what QuPath shows of it.

    Returns
    -------
    Coordinates as JSON, shape (n,), null where nothing is left in the image; and the number of outlines that were
    repaired, because rounding or the image's edge had made them invalid.
    """
    rings = read_rings(wkb)
    if rings is None:
        return _fit_by_shape(wkb, frame)
    fitted = Rings(np.round(frame.to_qupath(rings.xy), _DECIMALS) + 0.0, rings.starts)  # makes 0.0 of -0.0
    sound = _runs_along_edges(rings) & _keeps_its_shape(rings, fitted) & _lies_inside(fitted, frame)
    texts = ring_texts(fitted)
    if sound.all():
        return texts, 0
    others, n_repaired = _fit_by_shape(wkb.filter(pa.array(~sound)), frame)
    return pc.replace_with_mask(texts, pa.array(~sound), others), n_repaired


def _runs_along_edges(rings: Rings) -> NDArray[np.bool_]:
    """Tell which rings alternate between rows and columns, as `instances.trace` makes them; these are valid."""
    moved = rings.xy[1:] != rings.xy[:-1]
    straight = moved[:, 0] != moved[:, 1]
    turns = moved[1:, 0] != moved[:-1, 0]
    between = rings.starts[1:-1] - 1  # steps from the last point of a ring to the first of the next
    straight[between] = True
    turns[between] = True
    turns[between - 1] = True
    n_edges = np.diff(rings.starts) - 1
    along = (n_edges >= 4) & (n_edges % 2 == 0)  # with an even number the last and the first edge alternate too
    along[rings.of(np.flatnonzero(~straight))] = False
    along[rings.of(np.flatnonzero(~turns))] = False
    return np.asarray(along, dtype=bool)


def _keeps_its_shape(rings: Rings, fitted: Rings) -> NDArray[np.bool_]:
    """Tell in which rings, after rounding, every edge still has a length and the ring an area.

    Rounding moves no row or column past another, so a ring along pixel edges stays valid if none of its edges vanishes.
    """
    moved = fitted.xy[1:] != fitted.xy[:-1]
    vanished = _either(moved != (rings.xy[1:] != rings.xy[:-1]))
    vanished[rings.starts[1:-1] - 1] = False
    x, y = fitted.xy.T
    parts = np.append(x[:-1] * np.diff(y), 0.0)
    parts[rings.starts[1:-1] - 1] = 0.0
    kept = np.abs(np.add.reduceat(parts, rings.starts[:-1])) > _MIN_AREA_PX2 if len(parts) > 1 else np.zeros(0, bool)
    kept[rings.of(np.flatnonzero(vanished))] = False
    return np.asarray(kept, dtype=bool)


def _lies_inside(fitted: Rings, frame: SlideFrame) -> NDArray[np.bool_]:
    box = frame.content_qupath
    # The negated comparison counts NaN as outside.
    outside = _either(~((fitted.xy >= (box.x, box.y)) & (fitted.xy <= (box.right, box.bottom))))
    inside = np.ones(len(fitted.starts) - 1, dtype=bool)
    inside[fitted.of(np.flatnonzero(outside))] = False
    return inside


def _either(xy: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell whether x or y is true, shape (n, 2) to (n,); any() along so short an axis takes ten times as long."""
    return np.asarray(xy[:, 0] | xy[:, 1])


def _fit_by_shape(wkb: pa.Array, frame: SlideFrame) -> tuple[pa.Array, int]:
    """Fit outlines of any form; those that need repair are repaired one at a time."""
    box = frame.content_qupath
    whole = shapely.box(box.x, box.y, box.right, box.bottom)
    polygons = shapely.from_wkb(wkb.to_numpy(zero_copy_only=False))
    fitted = np.asarray(shapely.transform(polygons, lambda xy: np.round(frame.to_qupath(xy), _DECIMALS)), dtype=object)
    left, top, right, bottom = shapely.bounds(fitted).T
    # These comparisons count the NaN bounds of an empty outline as outside.
    inside = (left >= box.x) & (top >= box.y) & (right <= box.right) & (bottom <= box.bottom)
    sound = inside & shapely.is_valid(fitted) & (shapely.area(fitted) > _MIN_AREA_PX2)
    sound &= ~_has_repeated_points(fitted)
    for row in np.flatnonzero(~sound):
        fitted[row] = _repaired(fitted[row], whole)
    return polygon_texts(fitted), int(np.count_nonzero(~sound & ~shapely.is_missing(fitted)))


def _has_repeated_points(polygons: NDArray[np.object_]) -> NDArray[np.bool_]:
    xy, polygon = shapely.get_coordinates(polygons, return_index=True)
    same = (polygon[1:] == polygon[:-1]) & np.all(xy[1:] == xy[:-1], axis=1)
    return np.bincount(polygon[1:][same], minlength=len(polygons)) > 0


def _repaired(polygon: shapely.Polygon, frame: shapely.Polygon) -> shapely.Polygon | None:
    """Find the largest valid part inside the frame, on the hundredth grid; None when nothing is left."""
    inside = shapely.intersection(shapely.make_valid(polygon), frame)
    # set_precision rounds and keeps the shape valid.
    parts = shapely.get_parts(shapely.set_precision(inside, 10.0**-_DECIMALS))
    areas = shapely.area(parts)
    if not len(parts) or areas.max() <= _MIN_AREA_PX2:
        return None
    largest = shapely.remove_repeated_points(parts[int(areas.argmax())])
    rounded = shapely.transform(largest, lambda xy: np.round(xy, _DECIMALS))
    return rounded if shapely.is_valid(rounded) else None

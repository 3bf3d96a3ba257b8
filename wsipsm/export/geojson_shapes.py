"""Rules of outlines, which are checked for many outlines at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.geometry import Box

BATCH_FEATURES = 4096
MIN_AREA_PX2 = 0.01
Place = tuple[str | None, int, str | None]
"""Zip entry, number and id of a Feature."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Coordinates of one geometry."""

    rings: list[list[NDArray[np.float64]]]
    """Rings of each part, shell first, each of shape (n, 2)."""
    is_area: bool
    """False for points, which make one open ring."""


@dataclass(frozen=True, slots=True)
class _Item:
    parts: Parts
    place: Place
    is_detection: bool
    is_nucleus: bool
    """Whether it is the nucleus of the cell before it in the list."""


class ShapeRules:
    """Collects geometries and checks them in batches, so that memory does not grow with the file.

    Parameters
    ----------
    image
        Where positions may lie, in QuPath's coordinates; None: only negative ones are found to be outside.
    """

    def __init__(self, image: Box | None) -> None:
        self.image = image
        self._items: list[_Item] = []
        self.detection_area_px2 = 0.0

    def add(self, shapes: list[Parts], place: Place, *, is_detection: bool) -> None:
        """Add a Feature's geometry, and that of its nucleus when it is a cell."""
        for number, parts in enumerate(shapes):
            self._items.append(_Item(parts, place, is_detection and number == 0, number > 0))

    def check_full_batch(self) -> Iterator[tuple[str, str, Place]]:
        """Check the collected geometries if there are enough for a batch."""
        if len(self._items) >= BATCH_FEATURES:
            yield from self.check_batch()

    def check_batch(self) -> Iterator[tuple[str, str, Place]]:
        """Check the collected geometries; yield rule, message and place of every problem."""
        items, self._items = self._items, []
        if not items:
            return
        for owner, rule, message in self._coordinates(items):
            yield rule, message, items[owner].place
        geometries = _geometries(items)
        areas = shapely.area(geometries)
        is_area = np.array([item.parts.is_area for item in items])
        detection = np.array([item.is_detection for item in items])
        self.detection_area_px2 += float(areas[detection].sum())
        invalid = is_area & ~shapely.is_valid(geometries)
        # The signed area of a ring that crosses itself may be zero; only a flat convex hull means that it has no area.
        flat = np.zeros_like(invalid)
        flat[invalid] = shapely.area(shapely.convex_hull(geometries[invalid])) <= MIN_AREA_PX2
        small = flat | (is_area & ~invalid & (areas <= MIN_AREA_PX2))
        invalid &= ~flat
        for owner in np.flatnonzero(small).tolist():
            yield "area", f"area of {areas[owner]:.4f} px; an outline needs an inside.", items[owner].place
        for owner in np.flatnonzero(invalid).tolist():
            reason = shapely.is_valid_reason(geometries[owner])
            yield "valid", f"outline crosses or overlaps itself ({reason}).", items[owner].place
        for owner, item in enumerate(items):
            sound = item.is_nucleus and not (invalid[owner] or invalid[owner - 1])
            if sound and not shapely.covers(geometries[owner - 1], geometries[owner]):
                yield "cell", "nucleusGeometry extends beyond the cell.", item.place

    def _coordinates(self, items: list[_Item]) -> Iterator[tuple[int, str, str]]:
        """Check decimals, repeats and bounds of positions; yield at most one problem for each geometry and rule."""
        rings = [(owner, ring) for owner, item in enumerate(items) for part in item.parts.rings for ring in part]
        lengths = np.array([len(ring) for _, ring in rings])
        ring_of = np.repeat(np.arange(len(rings)), lengths)
        owner_of = np.repeat(np.array([owner for owner, _ in rings]), lengths)
        xy = np.concatenate([ring for _, ring in rings])
        hundredths = xy * 100
        # Multiplication of doubles of six digits errs by about 2e-11 of the value; a third decimal is far larger.
        fine = (np.abs(hundredths - np.rint(hundredths)) > 1e-4).any(axis=1)
        for owner in np.unique(owner_of[fine]).tolist():
            x, y = xy[fine & (owner_of == owner)][0]
            yield owner, "decimals", f"position {x}, {y} has more than two decimals; QuPath would move it."
        same = np.flatnonzero((ring_of[1:] == ring_of[:-1]) & (xy[1:] == xy[:-1]).all(axis=1))
        areas = np.array([item.parts.is_area for item in items])
        for owner in np.unique(owner_of[same + 1]).tolist():
            if areas[owner]:
                yield owner, "repeated", "two successive positions are equal."
        box = self.image
        outside = (xy < (0 if box is None else (box.x, box.y))).any(axis=1)
        wanted = "0 or more"
        if box is not None:
            outside |= (xy > (box.right, box.bottom)).any(axis=1)
            wanted = f"{box.x} to {box.right}, {box.y} to {box.bottom}"
        for owner in np.unique(owner_of[outside]).tolist():
            x, y = xy[outside & (owner_of == owner)][0]
            yield owner, "bounds", f"position {x}, {y} is outside the image; {wanted} is needed."


def _geometries(items: list[_Item]) -> NDArray[np.object_]:
    """Make Shapely geometries; the many plain polygons are built in one call."""
    geometries = np.empty(len(items), dtype=object)
    plain = [
        owner
        for owner, item in enumerate(items)
        if item.parts.is_area and len(item.parts.rings) == 1 and len(item.parts.rings[0]) == 1
    ]
    if plain:
        rings = [items[owner].parts.rings[0][0] for owner in plain]
        index = np.repeat(np.arange(len(plain)), [len(ring) for ring in rings])
        geometries[plain] = shapely.polygons(shapely.linearrings(np.concatenate(rings), indices=index))
    for owner in set(range(len(items))) - set(plain):
        parts = items[owner].parts
        if parts.is_area:
            polygons = [shapely.Polygon(part[0], part[1:]) for part in parts.rings]
            geometries[owner] = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
        else:
            geometries[owner] = shapely.multipoints(parts.rings[0][0])
    return geometries

"""The region protocol, and regions bounded by polygons."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from wsipsm.facts import PolygonFacts, TissueFacts
from wsipsm.geometry import Box
from wsipsm.region.pieces import areas_in_boxes, subdivide


class Region(Protocol):
    """A part of a slide whose nuclei count: tissue that was found, or a region that a person drew.

    Its ground is the part whose area counts: density and coverage refer to it.
    """

    @property
    def name(self) -> str:
        """Name of the region in results."""
        ...

    def touches(self, box_px0: Box) -> bool:
        """Check whether a level-0 box has a point in common with the region."""
        ...

    def contains(self, xy_px0: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Check which level-0 points, shape (n, 2), lie in the region; the result has shape (n,), bool."""
        ...

    def area_px0(self) -> float:
        """Compute the area of the region's ground, in level-0 pixels."""
        ...

    def areas_in(self, boxes_px0: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the ground's area in boxes of left, top, right, bottom, shape (m, 4); shape (m,), level-0 pixels."""
        ...

    def to_polygons(self) -> Polygon | MultiPolygon:
        """Return the outline of the region, level-0 pixels."""
        ...

    def to_ground(self) -> Polygon | MultiPolygon:
        """Return the outline of the region's ground, level-0 pixels; it may be empty."""
        ...

    def facts(self) -> TissueFacts | PolygonFacts:
        """Return kind, area, number of parts and hash, as JSON files store them."""
        ...


class Use(StrEnum):
    """The use of a drawn annotation: its nuclei count, its area is cut out, or neither."""

    COUNTED = "counted"
    CUT_OUT = "cut out"
    UNUSED = "unused"


@dataclass(frozen=True, slots=True)
class DrawnPart:
    """An annotation of a drawn region, or several of one class and use."""

    annotation: str
    """Name of the annotation, or the number of annotations."""
    classification: str
    """Class of the annotation as QuPath shows it; empty when there is none."""
    use: Use
    shape: Polygon | MultiPolygon
    """Shape on the slide, level-0 pixels; if it is counted, without the areas that are cut out."""
    ground: Polygon | MultiPolygon | None = None
    """Part of the shape whose area counts; None: the whole shape."""

    def area_px0(self) -> float:
        """Compute the area of its ground, in level-0 pixels."""
        return float((self.shape if self.ground is None else self.ground).area)


class PolygonRegion:
    """A region bounded by polygons, in level-0 pixels. A :class:`Region`.

    Parameters
    ----------
    shape
        Polygon or MultiPolygon, valid, not empty.
    name
        Name of the region in results.
    notes
        Notes for the user on the file from which the region was read.
    parts
        Annotations of that file, with the use of each.
    ground
        Part of the shape whose area counts, valid, perhaps empty. The margin that is searched around tissue does not
        belong to it, nor do areas that were never searched. None: the whole shape.
    """

    def __init__(
        self,
        shape: Polygon | MultiPolygon,
        name: str,
        notes: tuple[str, ...] = (),
        parts: tuple[DrawnPart, ...] = (),
        ground: Polygon | MultiPolygon | None = None,
    ) -> None:
        self.shape = shape
        self.name = name
        self.notes = notes
        self.parts = parts
        self.ground = ground
        shapely.prepare(self.shape)

    def __reduce__(self) -> tuple[type[PolygonRegion], tuple[Any, ...]]:
        """Return the arguments for pickling; the process that unpickles them prepares the shape again."""
        return type(self), (self.shape, self.name, self.notes, self.parts, self.ground)

    @cached_property
    def _pieces(self) -> NDArray[np.object_]:
        return subdivide(self.to_ground())

    def touches(self, box_px0: Box) -> bool:
        """Check whether a level-0 box has a point in common with the region; an empty box has none."""
        if box_px0.area == 0:
            return False
        return bool(self.shape.intersects(shapely.box(box_px0.x, box_px0.y, box_px0.right, box_px0.bottom)))

    def contains(self, xy_px0: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Check which points lie inside; points on an edge do not.

        Parameters
        ----------
        xy_px0
            Level-0 pixels, shape (n, 2), float64.

        Returns
        -------
        Shape (n,), bool.
        """
        return np.asarray(shapely.contains_xy(self.shape, xy_px0[:, 0], xy_px0[:, 1]), dtype=np.bool_)

    def area_px0(self) -> float:
        """Compute the area of the region's ground without its holes, in level-0 pixels."""
        return float(self.to_ground().area)

    def areas_in(self, boxes_px0: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the area of the region's ground in each box.

        Parameters
        ----------
        boxes_px0
            Left, top, right, bottom, level-0 pixels, shape (m, 4).

        Returns
        -------
        Areas in level-0 pixels, shape (m,).
        """
        return areas_in_boxes(self._pieces, np.asarray(boxes_px0, dtype=np.float64).reshape(-1, 4))

    def to_polygons(self) -> Polygon | MultiPolygon:
        """Return the outline of the region, level-0 pixels."""
        return self.shape

    def to_ground(self) -> Polygon | MultiPolygon:
        """Return the outline of the part whose area counts, level-0 pixels; it may be empty."""
        return self.shape if self.ground is None else self.ground

    def facts(self) -> PolygonFacts:
        """Return the region as JSON files store it; ``hash`` identifies outline and ground in any order of vertices."""
        shapes = [self.shape] if self.ground is None else [self.shape, self.ground]
        outlines = b"".join(shapely.to_wkb(shapely.normalize(shape), byte_order=1) for shape in shapes)
        return PolygonFacts(
            kind="polygon",
            name=self.name,
            area_px0=self.area_px0(),
            n_parts=int(shapely.get_num_geometries(self.shape)),
            bounds_px0=tuple(float(value) for value in self.shape.bounds),
            notes=self.notes,
            hash=hashlib.sha256(outlines).hexdigest()[:16],
        )

"""The frame of a slide: its canvas, the part of it that holds pixels, and the part that QuPath shows.

Some formats (MIRAX, SCN, sparse TIFF) place a scan on a larger, empty canvas. Stored positions are measured from the
corner of the canvas. The working grid, the thumbnail, fields and hot spots begin at the corner of the part that holds
pixels, so that the same scan gives the same results in every format. QuPath's coordinates are measured from the corner
of the part that it shows. No other module adds or subtracts these corners.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsipsm.facts import FrameFacts
from wsipsm.geometry import Box, Size, WorkingGrid
from wsipsm.keys import QuPathFrame
from wsipsm.slide.base import SlideInfo

T = TypeVar("T", BaseGeometry, NDArray[np.object_])


@dataclass(frozen=True, slots=True)
class SlideFrame:
    """The part of a slide's canvas that holds pixels, and the part that QuPath shows."""

    canvas: Size
    """Level-0 size of the slide; stored positions are measured from its corner."""
    content: Box
    """Part that holds pixels, level-0 pixels: the file's bounds, or the whole canvas."""
    qupath: QuPathFrame = QuPathFrame.CROPPED
    """Whether QuPath crops the slide to its bounds, which is its default, or shows the full canvas."""

    @classmethod
    def of(cls, info: SlideInfo, qupath: QuPathFrame | str = QuPathFrame.CROPPED) -> SlideFrame:
        """Make the frame of a slide."""
        whole = Box(0, 0, info.size.width, info.size.height)
        return cls(info.size, info.bounds or whole, QuPathFrame(qupath))

    @property
    def has_empty_canvas(self) -> bool:
        """Whether a part of the canvas holds no pixels; if none does, QuPath shows the same in both frames."""
        return self.content.area < self.canvas.area

    @property
    def shown(self) -> Box:
        """Part of the canvas that QuPath shows, level-0 pixels; its corner is the origin of QuPath's coordinates."""
        if self.qupath is QuPathFrame.CROPPED:
            return self.content
        return Box(0, 0, self.canvas.width, self.canvas.height)

    @property
    def content_qupath(self) -> Box:
        """Part that holds pixels, in QuPath's coordinates."""
        return self.content.shift(-self.shown.x, -self.shown.y)

    @property
    def outline(self) -> shapely.Polygon:
        """Part that holds pixels, level-0 pixels."""
        content = self.content
        return shapely.box(content.x, content.y, content.right, content.bottom)

    def other(self) -> SlideFrame:
        """Return the frame of the same slide for the other choice of what QuPath shows."""
        other = QuPathFrame.FULL if self.qupath is QuPathFrame.CROPPED else QuPathFrame.CROPPED
        return replace(self, qupath=other)

    def to_qupath(self, xy_px0: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert level-0 positions, shape (n, 2), to QuPath's coordinates."""
        return xy_px0 - (self.shown.x, self.shown.y)

    def from_qupath(self, shape: T) -> T:
        """Move a shape, or an array of shapes, from QuPath's coordinates to level 0."""
        corner = np.array([self.shown.x, self.shown.y], dtype=np.float64)
        moved: T = shapely.transform(shape, lambda xy: xy + corner)
        return moved

    def share_on_content(self, shape: BaseGeometry) -> float:
        """Compute the share of a shape's area that lies where the slide holds pixels, 0..1; 0 for one without area."""
        area = float(shape.area)
        return float(shape.intersection(self.outline).area) / area if area > 0 else 0.0

    def grid(self, slide_mpp: float, mpp: float) -> WorkingGrid:
        """Make the working grid over the part that holds pixels, for the pixel sizes of slide and grid, um/px."""
        content = self.content
        return WorkingGrid(Size(content.width, content.height), slide_mpp, mpp, (content.x, content.y))

    def extent_um(self, mpp: float) -> tuple[float, float]:
        """Return width and height of the part that holds pixels, um."""
        return self.content.width * mpp, self.content.height * mpp

    def to_um(self, xy_px0: NDArray[np.float64], mpp: float) -> NDArray[np.float64]:
        """Convert positions to um from the corner of the part that holds pixels.

        Parameters
        ----------
        xy_px0
            Level-0 pixels, shape (n, 2). Positions outside the part, by a fraction of a pixel, are moved to its edge.
        mpp
            Level-0 pixel size, um/px.

        Returns
        -------
        um, shape (n, 2), inside ``extent_um``.
        """
        content = self.content
        last = np.nextafter([content.width, content.height], 0.0)
        return np.clip(xy_px0 - (content.x, content.y), 0.0, last) * mpp

    def shape_to_um(self, shape: T, mpp: float) -> T:
        """Move a shape, or an array of shapes, to um from the corner of the part that holds pixels.

        Parameters
        ----------
        shape
            Level-0 pixels.
        mpp
            Level-0 pixel size, um/px.
        """
        corner = np.array([self.content.x, self.content.y], dtype=np.float64)
        moved: T = shapely.transform(shape, lambda xy: (xy - corner) * mpp)
        return moved

    def boxes_px0(self, boxes_um: NDArray[np.float64], mpp: float) -> NDArray[np.float64]:
        """Convert boxes to level 0.

        Parameters
        ----------
        boxes_um
            Left, top, right, bottom, um from the corner of the part that holds pixels, shape (m, 4).
        mpp
            Level-0 pixel size, um/px.

        Returns
        -------
        Level-0 pixels, shape (m, 4), cut to the part that holds pixels.
        """
        content = self.content
        boxes = np.asarray(boxes_um, dtype=np.float64).reshape(-1, 4) / mpp
        inside = np.clip(boxes, 0.0, np.array([content.width, content.height] * 2))
        return np.asarray(inside + (content.x, content.y) * 2, dtype=np.float64)

    def facts(self) -> FrameFacts:
        """Return the canvas and its two parts as JSON files store them."""
        content, shown = self.content, self.shown
        return FrameFacts(
            canvas_px0=(self.canvas.width, self.canvas.height),
            content_px0=(content.x, content.y, content.width, content.height),
            qupath_frame=self.qupath,
            qupath_shows_px0=(shown.x, shown.y, shown.width, shown.height),
        )

"""Sizes, boxes and the conversion between pixel frames.

Two frames are used. *Level-0 pixels* (suffix ``_px0``) is the frame of everything that is stored.
*Working pixels* (suffix ``_px``) is the model's grid: working pixel (i, j) covers the level-0 square
[i * scale, (i + 1) * scale) x [j * scale, (j + 1) * scale) from the grid's origin on. Both use the corner convention:
the first pixel spans 0..1, so a change of frame is a multiplication and a shift by whole level-0 pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels of a named frame."""

    width: int
    height: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open rectangle of whole pixels: columns x..x+width-1, rows y..y+height-1."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 0 or self.height < 0:
            raise ValueError(f"box: width {self.width}, height {self.height}; both must be 0 or more.")

    @property
    def right(self) -> int:
        """First column past the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """First row past the box."""
        return self.y + self.height

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @classmethod
    def from_edges(cls, left: int, top: int, right: int, bottom: int) -> Box:
        """Make the box between edges; it is empty where left is not below right, or top not below bottom."""
        return cls(left, top, max(0, right - left), max(0, bottom - top))

    def expand(self, margin: int) -> Box:
        """Return the box grown by ``margin`` pixels on every side."""
        return Box(self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin)

    def intersect(self, other: Box) -> Box:
        """Intersect with another box; the area is 0 when they have no pixel in common.

        Examples
        --------
        >>> Box(0, 0, 10, 10).intersect(Box(5, 8, 10, 10))
        Box(x=5, y=8, width=5, height=2)
        """
        return Box.from_edges(
            max(self.x, other.x), max(self.y, other.y), min(self.right, other.right), min(self.bottom, other.bottom)
        )

    def shift(self, dx: int, dy: int) -> Box:
        """Return the box moved by whole pixels."""
        return Box(self.x + dx, self.y + dy, self.width, self.height)


@dataclass(frozen=True, slots=True)
class WorkingGrid:
    """The model's pixel grid laid over a slide, or over the part of it that holds pixels."""

    slide_size: Size
    """Level-0 size of the slide, or of the part of it, that the grid covers."""
    slide_mpp: float
    """Level-0 pixel size, um/px."""
    mpp: float
    """Pixel size of the working grid, um/px."""
    origin_px0: tuple[int, int] = (0, 0)
    """x, y at level 0 where the grid begins: the corner of the slide's bounds, where it has them. So working pixels lie
    at the same places of a scan on any canvas."""

    @property
    def scale(self) -> float:
        """Level-0 pixels per working pixel."""
        return self.mpp / self.slide_mpp

    @property
    def size_px(self) -> Size:
        """Size of the grid that covers the slide, working pixels."""
        # The tolerance keeps a size that divides evenly from gaining an empty row to float error.
        return Size(
            max(1, math.ceil(self.slide_size.width / self.scale - 1e-6)),
            max(1, math.ceil(self.slide_size.height / self.scale - 1e-6)),
        )

    def box_px0(self, box_px: Box) -> Box:
        """Return the smallest whole-pixel level-0 box that covers a working-pixel box.

        Examples
        --------
        >>> WorkingGrid(Size(1000, 800), slide_mpp=0.25, mpp=0.5).box_px0(Box(10, 0, 20, 5))
        Box(x=20, y=0, width=40, height=10)
        """
        s, (x0, y0) = self.scale, self.origin_px0
        return Box.from_edges(
            math.floor(box_px.x * s) + x0,
            math.floor(box_px.y * s) + y0,
            math.ceil(box_px.right * s) + x0,
            math.ceil(box_px.bottom * s) + y0,
        )


def round_up(value: float, step: int) -> int:
    """Round up to the smallest multiple of ``step`` that is not below ``value``."""
    whole = int(value)
    if whole < value:
        whole += 1
    return -(-whole // step) * step

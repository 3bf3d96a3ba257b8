"""Label images from outlines: Aperio XML by MATLAB's rules, and shapely polygons by pixel centres."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.parsers import expat

import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.errors import UsageError
from wsipsm.geometry import Size

MAX_XML_BYTES = 256 * 2**20
"""Largest annotation file that is read; the largest one of a public set has a few MiB."""
MAX_COORDINATE_PX = 2_000_000.0
"""Largest coordinate of a vertex, pixels. Outlines are drawn point by point, so one far outside a slide would take very
long."""
_SUBPIXELS = 5
"""Subpixels in each direction; poly2mask rounds vertices to a fifth of a pixel."""


def read_aperio_xml(path: str | Path) -> list[NDArray[np.float64]]:
    """Read the outlines of an Aperio ImageScope annotation file.

    Parameters
    ----------
    path
        Path of an XML file; the regions of all its layers are read.

    Returns
    -------
    Vertices of each region as in the file, shape (n, 2), float64, x before y, in file order.

    Raises
    ------
    UsageError
        When the file is unreadable, too large or no XML; declares a document type or entities, which could make it
        expand without end or read other files; or has a vertex whose X or Y is missing or no coordinate of a slide.
    """
    path = Path(path)
    collector = _RegionCollector()
    try:
        n_bytes = path.stat().st_size
        if n_bytes > MAX_XML_BYTES:
            raise ValueError(f"{n_bytes / 2**20:.0f} MiB; at most {MAX_XML_BYTES // 2**20} MiB can be read")
        collector.parser.Parse(path.read_bytes(), True)
        return [np.array(vertices, np.float64).reshape(-1, 2) for vertices in collector.regions]
    except (expat.ExpatError, ValueError, OSError) as error:
        raise UsageError(f"{path}: {error}; Aperio annotation XML is needed. Export it from ImageScope.") from error


class _RegionCollector:
    """Handlers of an XML parser that collect the vertices of regions, and refuse document types and entities."""

    def __init__(self) -> None:
        self.regions: list[list[tuple[float, float]]] = []
        self._depth = 0
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Region":
            self._depth += 1
            self.regions.append([])
        elif name == "Vertex" and self._depth:
            self.regions[-1].append((self._coordinate("X", attributes), self._coordinate("Y", attributes)))

    def _end(self, name: str) -> None:
        self._depth -= name == "Region"

    def _coordinate(self, key: str, attributes: dict[str, str]) -> float:
        where = f"line {self.parser.CurrentLineNumber}"
        if key not in attributes:
            raise ValueError(f"a vertex without {key!r} at {where}")
        try:
            value = float(attributes[key])
        except ValueError as error:
            raise ValueError(f"{key} {attributes[key]!r} at {where} is no number") from error
        if not abs(value) <= MAX_COORDINATE_PX:
            raise ValueError(f"{key} {attributes[key]} at {where} is no pixel of any slide")
        return value

    def _refuse(self, name: str, *_: object) -> None:
        raise ValueError(f"declares a document type or entity ({name})")


def aperio_labels(regions: Iterable[NDArray[np.float64]], size: Size) -> NDArray[np.int32]:
    """Draw Aperio regions as the MoNuSeg organisers' MATLAB script does.

    X and Y are used unchanged as MATLAB's coordinates, in which the first pixel's centre is 1. A pixel in several
    regions belongs to the first of them. A region without a pixel has no number.

    Parameters
    ----------
    regions
        Outlines as `read_aperio_xml` returns them.
    size
        Width and height of the image, pixels.

    Returns
    -------
    Label image, shape (height, width), 1..n in the order of the regions.
    """
    labels = np.zeros((size.height, size.width), np.int32)
    n = 0
    for vertices in regions:
        rows, columns = poly2mask_pixels(vertices, size)
        free = labels[rows, columns] == 0
        if free.any():
            n += 1
            labels[rows[free], columns[free]] = n
    return labels


def poly2mask_pixels(vertices: NDArray[np.float64], size: Size) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the pixels of a polygon by the rule of MATLAB's ``poly2mask``.

    Vertices are rounded to a fifth of a pixel and joined by integer lines. Where a line passes the centre of a pixel
    column, the pixels below it change between in and out.

    Parameters
    ----------
    vertices
        MATLAB coordinates (the first pixel's centre is 1), shape (n, 2), x before y; an open outline is closed.
    size
        Width and height of the image, pixels; parts outside are cut off.

    Returns
    -------
    Rows and columns of the pixels, from 0.
    """
    none = np.empty(0, np.intp)
    if len(vertices) < 3:
        return none, none
    # The points are in fifths of a pixel, from 0. MATLAB rounds halves up (coordinates are positive).
    points = np.floor(_SUBPIXELS * (vertices - 0.5) + 0.5).astype(np.int64)
    x, y = _trace_ring(np.concatenate([points, points[:1]]))
    steps = np.flatnonzero(np.diff(x))
    # The edge between two subpixel columns has the number of the lower one.
    edge_x = np.minimum(x[steps], x[steps + 1])
    at_centre = edge_x % _SUBPIXELS == _SUBPIXELS // 2
    column = edge_x[at_centre] // _SUBPIXELS
    edge_y = np.minimum(y[steps], y[steps + 1])[at_centre]
    # This is the first row whose centre is on or below the crossing: ceil((y + 0.5) / 5 - 0.5).
    row = np.clip(-((_SUBPIXELS // 2 - edge_y) // _SUBPIXELS), 0, size.height)
    inside = (column >= 0) & (column < size.width)
    column, row = column[inside], row[inside]
    if column.size == 0:
        return none, none
    left, top = int(column.min()), int(row.min())
    toggles = np.zeros((int(row.max()) - top + 1, int(column.max()) - left + 1), np.int64)
    np.add.at(toggles, (row - top, column - left), 1)
    rows, columns = np.nonzero(np.cumsum(toggles, axis=0) % 2)
    keep = rows + top < size.height
    return rows[keep] + top, columns[keep] + left


def polygon_labels(polygons: Sequence[shapely.Polygon | shapely.MultiPolygon], size: Size) -> NDArray[np.int32]:
    """Draw polygons by pixel centres.

    A pixel belongs to the first polygon that contains its centre, (column + 0.5, row + 0.5). So outlines that run along
    pixel edges are drawn exactly.

    Parameters
    ----------
    polygons
        Polygons or multipolygons in pixels, corner convention (the first pixel spans 0..1).
    size
        Width and height of the image, pixels; parts outside are cut off.

    Returns
    -------
    Label image, shape (height, width), int32: polygon i has label i + 1, even when earlier ones have no pixel.
    """
    labels = np.zeros((size.height, size.width), np.int32)
    for label, polygon in enumerate(polygons, start=1):
        if polygon.is_empty:
            continue
        left, top, right, bottom = polygon.bounds
        x0, y0 = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
        x1, y1 = min(size.width, int(np.ceil(right))), min(size.height, int(np.ceil(bottom)))
        if x0 >= x1 or y0 >= y1:
            continue
        shapely.prepare(polygon)
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        window = labels[y0:y1, x0:x1]
        window[shapely.contains_xy(polygon, x, y) & (window == 0)] = label
    return labels


def _trace_ring(points: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the integer points along a closed ring, each segment with both its ends."""
    xs, ys = [], []
    for (x0, y0), (x1, y1) in zip(points[:-1].tolist(), points[1:].tolist(), strict=True):
        x, y = _integer_line(x0, y0, x1, y1)
        xs.append(x)
        ys.append(y)
    return np.concatenate(xs), np.concatenate(ys)


def _integer_line(x0: int, y0: int, x1: int, y1: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the points of one segment, one for each step along its longer axis, by MATLAB's ``intline``."""
    dx, dy = abs(x1 - x0), abs(y1 - y0)
    if dx == 0 and dy == 0:
        return np.array([x0]), np.array([y0])
    if dx >= dy:
        y, x = _along(y0, x0, y1, x1)
    else:
        x, y = _along(x0, y0, x1, y1)
    return x, y


def _along(minor0: int, major0: int, minor1: int, major1: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Compute minor and major coordinates of a segment; halves round as seen from its lower end on the major axis."""
    flip = major0 > major1
    if flip:
        minor0, major0, minor1, major1 = minor1, major1, minor0, major0
    major = np.arange(major0, major1 + 1)
    slope = (minor1 - minor0) / (major1 - major0)
    minor = np.floor(minor0 + slope * (major - major0) + 0.5).astype(np.int64)
    return (minor[::-1], major[::-1]) if flip else (minor, major)

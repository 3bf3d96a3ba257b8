"""The only resampling in the package: any box of the working grid, from the level just finer than it.

A working pixel is the area-weighted mean of the level pixels under it; where the slide is coarser than wanted, it is
interpolated linearly between pixel centres. The weights of a pixel are computed from its index in the whole grid, so
that its value does not depend on the box it is read in.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from wsipsm.errors import SlideReadError, UsageError
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import Slide

LEVEL_TOLERANCE = 0.01
"""A level may be coarser than wanted by this fraction: pyramids are rarely exact powers of two."""

MAX_READ_PX = 1 << 25
"""Most level pixels that are read at once; larger boxes are read in parts, which gives the same pixels."""

MAX_THUMBNAIL_SOURCE_PX = 10_000_000_000
"""Most pixels of the level from which a thumbnail is made. A slide without a pyramid is read whole for it, which
would take many minutes for a larger one."""

BAND_ROWS = 32
"""Output rows filtered at a time: the band stays in the processor's cache, three times faster than all at once."""

_NEGLIGIBLE = 1e-9


class _AxisWeights:
    """The weights by which level pixels are summed to working pixels, along one axis.

    Parameters
    ----------
    start, stop
        Working pixels, in the whole grid.
    step
        Level pixels per working pixel.
    n_level
        Length of the level along this axis.
    offset
        Level pixels before the working grid begins.
    """

    def __init__(self, start: int, stop: int, step: float, n_level: int, offset: float = 0.0) -> None:
        index = np.arange(start, stop, dtype=np.float64)
        # Whole pixels of the offset are added after the weights are computed, so that the weights of a grid
        # do not depend on the pixel at which it begins, to the last bit.
        whole = math.floor(offset)
        part = offset - whole
        if step >= 1 - LEVEL_TOLERANCE:
            taps, weights = _area(index, step, part)
        else:
            taps, weights = _linear(index, step, part, -whole, n_level - whole)
        taps = taps + whole
        used = weights > _NEGLIGIBLE
        self.first = int(taps[used].min())
        """Index of the first level pixel that has a weight."""
        self.n_level = int(taps[used].max()) + 1 - self.first
        """Number of level pixels from ``first`` to the last one that has a weight."""
        ends = np.concatenate(([0], np.cumsum(used.sum(axis=1))))
        self._data = weights[used].astype(np.float32)
        self._taps = taps[used] - self.first
        self._ends = ends

    def rows(self, start: int, stop: int) -> tuple[int, sp.csr_array]:
        """Find the first level pixel that some working pixels need, counted from ``first``, and their weights."""
        low, high = self._ends[start], self._ends[stop]
        taps = self._taps[low:high]
        base = int(taps.min())
        shape = (stop - start, int(taps.max()) + 1 - base)
        return base, sp.csr_array((self._data[low:high], taps - base, self._ends[start : stop + 1] - low), shape=shape)


def _area(index: NDArray[np.float64], step: float, offset: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    left, right = index * step + offset, (index + 1) * step + offset
    first = np.floor(left).astype(np.int64)
    n_taps = int((np.ceil(right).astype(np.int64) - first).max())
    taps = first[:, None] + np.arange(n_taps)
    covered = np.minimum(right[:, None], taps + 1) - np.maximum(left[:, None], taps)
    return taps, covered / step


def _linear(
    index: NDArray[np.float64], step: float, offset: float, low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    centre = (index + 0.5) * step + offset - 0.5
    first = np.floor(centre).astype(np.int64)
    fraction = centre - first
    taps = np.stack((first, first + 1), axis=1)
    # A working pixel whose centre lies in the slide is made of pixels of the slide alone, and one whose centre lies
    # outside is white. Otherwise a blend of both, half a pixel wide, would run around the slide.
    taps = np.where((centre < low - 0.5)[:, None], np.minimum(taps, low - 1), np.maximum(taps, low))
    taps = np.where((centre >= high - 0.5)[:, None], np.maximum(taps, high), np.minimum(taps, high - 1))
    return taps, np.stack((1 - fraction, fraction), axis=1)


def read_box(slide: Slide, box_px: Box, scale: float, origin_px0: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """Read a box of the working grid.

    Parameters
    ----------
    slide
        Open slide.
    box_px
        Box in working pixels; the parts of it that lie outside the slide come back white.
    scale
        Level-0 pixels per working pixel (`WorkingGrid.scale`).
    origin_px0
        x, y at level 0 where the working grid begins.

    Returns
    -------
    RGB of shape (box_px.height, box_px.width, 3), uint8.

    Raises
    ------
    UsageError
        When the scale is not above 0.
    SlideReadError
        When pixels cannot be decoded.

    Examples
    --------
    >>> from wsipsm import ArraySlide
    >>> slide = ArraySlide(np.full((64, 64, 3), 200, np.uint8), mpp=0.25)
    >>> read_box(slide, Box(0, 0, 16, 8), scale=2.0).shape
    (8, 16, 3)
    """
    if not math.isfinite(scale) or scale <= 0:
        raise UsageError(f"scale: {scale}; level-0 pixels per working pixel above 0 are needed. Check --mpp.")
    if box_px.area == 0:
        return np.empty((box_px.height, box_px.width, 3), np.uint8)
    if abs(scale - 1) < 1e-6:
        return slide.read_level(0, box_px.shift(*origin_px0))
    level = choose_level(slide.info.level_sizes, scale)
    full, size = slide.info.size, slide.info.level_sizes[level]
    step_x, step_y = scale * size.width / full.width, scale * size.height / full.height
    out = np.empty((box_px.height, box_px.width, 3), np.uint8)
    for part in _cut(box_px, step_x, step_y):
        columns = _AxisWeights(part.x, part.right, step_x, size.width, origin_px0[0] * size.width / full.width)
        rows = _AxisWeights(part.y, part.bottom, step_y, size.height, origin_px0[1] * size.height / full.height)
        pixels = slide.read_level(level, Box(columns.first, rows.first, columns.n_level, rows.n_level))
        y, x = part.y - box_px.y, part.x - box_px.x
        target = out[y : y + part.height, x : x + part.width]
        if step_x == step_y in (1, 2) and pixels.shape[:2] == (step_y * part.height, step_x * part.width):
            # The result is the pixels themselves, or means of four rounded half up: the same bytes as `_filter` gives,
            # several times faster.
            target[:] = cv2.resize(pixels, (part.width, part.height), interpolation=cv2.INTER_AREA)
        else:
            _filter(pixels, rows, columns, target)
    return out


def read_thumbnail(slide: Slide, max_px: int = 2048, part_px0: Box | None = None) -> tuple[NDArray[np.uint8], float]:
    """Read a thumbnail of a slide, or of a part of it.

    Parameters
    ----------
    slide
        Open slide.
    max_px
        Largest side that the thumbnail may have, pixels.
    part_px0
        Part to read, level-0 pixels; None reads the whole canvas.

    Returns
    -------
    RGB of shape (h, w, 3), uint8, and the level-0 pixels per thumbnail pixel (at least 1). The last row and column may
    extend beyond the part by a fraction of a pixel.

    Raises
    ------
    SlideReadError
        When pixels cannot be decoded, or a huge slide has no small level.
    """
    part = part_px0 or Box(0, 0, slide.info.size.width, slide.info.size.height)
    scale = max(1.0, max(part.width, part.height) / max_px)
    source = slide.info.level_sizes[choose_level(slide.info.level_sizes, scale)]
    if source.area > MAX_THUMBNAIL_SOURCE_PX:
        raise SlideReadError(
            f"{slide.info.path}: the level nearest to a thumbnail has {source.width} x {source.height} px; "
            f"one of at most {MAX_THUMBNAIL_SOURCE_PX:,} px is needed. Write the slide with a pyramid.",
            path=slide.info.path,
            value=f"the level nearest to a thumbnail has {source.width} x {source.height} px",
            needed=f"one of at most {MAX_THUMBNAIL_SOURCE_PX:,} px",
        )
    size = thumbnail_size(part, scale)
    return read_box(slide, Box(0, 0, size.width, size.height), scale, (part.x, part.y)), scale


def thumbnail_size(part_px0: Box, scale: float) -> Size:
    """Compute the size of a thumbnail of a part of a slide, at ``scale`` level-0 pixels per thumbnail pixel."""
    # The tolerance keeps a rounded scale from making a side one pixel longer.
    width, height = (max(1, math.ceil(side / scale - 1e-6)) for side in (part_px0.width, part_px0.height))
    return Size(width, height)


def choose_level(level_sizes: tuple[Size, ...], scale: float) -> int:
    """Choose the coarsest level that is still as fine as wanted on both axes, within 1 %; 0 where none is."""
    full, chosen = level_sizes[0], 0
    for level, size in enumerate(level_sizes):
        if max(full.width / size.width, full.height / size.height) <= scale * (1 + LEVEL_TOLERANCE):
            chosen = level
    return chosen


def _cut(box: Box, step_x: float, step_y: float) -> list[Box]:
    """Halve a box until the level pixels under each part are few enough to be read at once."""
    if box.area == 1 or (box.width * step_x + 2) * (box.height * step_y + 2) <= MAX_READ_PX:
        return [box]
    if box.height * step_y >= box.width * step_x and box.height > 1:
        half = box.height // 2
        parts = Box(box.x, box.y, box.width, half), Box(box.x, box.y + half, box.width, box.height - half)
    else:
        half = box.width // 2
        parts = Box(box.x, box.y, half, box.height), Box(box.x + half, box.y, box.width - half, box.height)
    return [piece for part in parts for piece in _cut(part, step_x, step_y)]


def _filter(pixels: NDArray[np.uint8], rows: _AxisWeights, columns: _AxisWeights, out: NDArray[np.uint8]) -> None:
    """Weigh rows, then columns, in float32, and round half up into ``out``."""
    height, width = out.shape[:2]
    _, across = columns.rows(0, width)
    for top in range(0, height, BAND_ROWS):
        n = min(BAND_ROWS, height - top)
        base, down = rows.rows(top, top + n)
        band = pixels[base : base + down.shape[1]].reshape(down.shape[1], -1).astype(np.float32)
        by_row = down @ band
        # cv2.transpose swaps the image axes of three-channel pixels several times faster than NumPy copies them.
        turned = cv2.transpose(by_row.reshape(n, -1, 3)).reshape(-1, n * 3)
        mixed = across @ turned
        mixed += np.float32(0.5)
        np.clip(mixed, 0, 255, out=mixed)
        out[top : top + n] = cv2.transpose(mixed.astype(np.uint8).reshape(width, n, 3))

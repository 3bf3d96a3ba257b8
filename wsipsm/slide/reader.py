"""The work that every reader does in the same way: clip to the level, fill with white, refuse a closed slide."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import SlideReadError
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import SlideInfo

NOTED_AXIS_DIFFERENCE = 0.01
"""Relative difference between the width and the height of a pixel above which a note is made."""

MAX_AXIS_DIFFERENCE = 0.05
"""Relative difference between the width and the height of a pixel above which no single mpp stands for both."""


class ReaderSlide(ABC):
    """Base of all slides: implements the `Slide` protocol on top of reads that lie inside one level."""

    def __init__(self, info: SlideInfo) -> None:
        self._info = info
        self._closed = False

    @property
    def info(self) -> SlideInfo:
        """Facts about the slide."""
        return self._info

    def set_fingerprint(self, fingerprint: str) -> None:
        """Set the digest that identifies the pixels; readers do not compute it, since that takes reading all bytes."""
        self._info = replace(self._info, fingerprint=fingerprint)

    @abstractmethod
    def _read_inside(self, level: int, box: Box) -> NDArray[np.uint8]:
        """Read a non-empty box that lies wholly inside ``level``, RGB; raise SlideReadError when that fails."""

    def _undecodable(self, level: int, place: Box | str, why: object) -> SlideReadError:
        """Make the error for a part of a level that could not be decoded."""
        if isinstance(place, Box):
            place = f"x {place.x}, y {place.y}, {place.width} x {place.height} px"
        where = f"level {level}, {place}"
        return SlideReadError(
            f"{self._info.path}: {where} could not be decoded ({why}); sound pixels are needed. Check that the copy is "
            "complete.",
            path=self._info.path,
            value=f"{where} ({why})",
            needed="sound pixels",
        )

    def _release(self) -> None:  # noqa: B027 - a slide may have nothing to release
        """Release what `close` should release; it is called once."""

    def read_level(self, level: int, box: Box) -> NDArray[np.uint8]:
        """Read RGB pixels of one level, without resampling.

        Parameters
        ----------
        level
            Index into ``info.level_sizes``.
        box
            Box in pixels of that level; parts outside the level come back white.

        Returns
        -------
        Array of shape (box.height, box.width, 3), uint8, transparent pixels composed over white.

        Raises
        ------
        SlideReadError
            When pixels cannot be decoded, or the slide is closed. After a decoding error other boxes can still be read.
        """
        if self._closed:
            raise SlideReadError(
                f"{self._info.path}: the slide is closed; an open one is needed. Open it again.",
                path=self._info.path,
                value="the slide is closed",
                needed="an open one",
            )
        sizes = self._info.level_sizes
        if not 0 <= level < len(sizes):
            raise ValueError(f"level: {level}; {self._info.path} has levels 0 to {len(sizes) - 1}.")
        inside = box.intersect(Box(0, 0, sizes[level].width, sizes[level].height))
        if inside == box and box.area:
            return self._read_inside(level, box)
        out = np.full((box.height, box.width, 3), 255, np.uint8)
        if inside.area:
            top, left = inside.y - box.y, inside.x - box.x
            out[top : top + inside.height, left : left + inside.width] = self._read_inside(level, inside)
        return out

    def close(self) -> None:
        """Release the file; reading afterwards raises SlideReadError."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def agree_mpp(mpp_x: float | None, mpp_y: float | None) -> tuple[float | None, str | None]:
    """Make one pixel size of a width and a height in um/px: their mean when they agree within 5 %.

    Returns
    -------
    The pixel size or None; and a note, or None. The note says that the axes differ by more than 1 %, or why there is no
    pixel size although the file states one.
    """
    found = [value for value in (mpp_x, mpp_y) if value is not None and math.isfinite(value) and value > 0]
    if not found:
        return None, None
    low, high = min(found), max(found)
    if high > low * (1 + MAX_AXIS_DIFFERENCE):
        return None, f"the file states pixels of {mpp_x:g} x {mpp_y:g} um, which are not square"
    mean = sum(found) / len(found)
    if high > low * (1 + NOTED_AXIS_DIFFERENCE):
        return mean, f"the file states pixels of {mpp_x:g} x {mpp_y:g} um; their mean is used"
    return mean, None


def parse_number(text: str | None) -> float | None:
    """Read a finite number in a metadata text, or None; some files use decimal commas."""
    if text is None:
        return None
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def shrinking_levels(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """List, by index, the levels whose (width, height) is smaller than that of the last one listed; 0 always."""
    kept = [0]
    for index, (width, height) in enumerate(sizes):
        last_width, last_height = sizes[kept[-1]]
        if 0 < width <= last_width and 0 < height <= last_height and (width, height) != (last_width, last_height):
            kept.append(index)
    return kept


def to_sizes(sizes: Sequence[tuple[int, int]]) -> tuple[Size, ...]:
    """Make sizes of (width, height) pairs."""
    return tuple(Size(int(width), int(height)) for width, height in sizes)

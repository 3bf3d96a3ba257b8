"""Slides that are arrays in memory: for tests, for drawn slides, and for decoded images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import UsageError
from wsipsm.geometry import Box
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.fingerprint import fingerprint_array
from wsipsm.slide.reader import ReaderSlide, to_sizes


class ArraySlide(ReaderSlide):
    """A slide whose pixels are an array.

    Parameters
    ----------
    pixels
        RGB, shape (h, w, 3), uint8. Not copied.
    mpp
        Level-0 pixel size, um/px.
    name
        Name that takes the place of a file's path in messages.
    n_levels
        Number of levels; those after the first are made by halving, as long as no side becomes empty.

    Raises
    ------
    UsageError
        When the array is empty, or has another shape or dtype.
    """

    def __init__(self, pixels: NDArray[np.uint8], mpp: float | None, name: str = "<array>", n_levels: int = 1) -> None:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
            raise UsageError(f"{name}: an array of shape {pixels.shape}, {pixels.dtype}; (h, w, 3) uint8 is needed.")
        self._levels = [pixels]
        while len(self._levels) < n_levels:
            height, width = self._levels[-1].shape[:2]
            if min(height, width) < 2:
                break
            half = cv2.resize(self._levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
            self._levels.append(np.asarray(half, np.uint8))
        sizes = to_sizes([(level.shape[1], level.shape[0]) for level in self._levels])
        super().__init__(SlideInfo(name, "array", sizes, mpp, fingerprint_array(pixels)))

    def _read_inside(self, level: int, box: Box) -> NDArray[np.uint8]:
        return self._levels[level][box.y : box.bottom, box.x : box.right].copy()

    def _release(self) -> None:
        self._levels = []

"""Handling of label images: one number an instance, 0 = background."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Window: TypeAlias = tuple[slice, slice]
"""Rows and columns of a part of an array."""


def label_windows(labels: NDArray[np.int32]) -> Iterator[tuple[int, Window]]:
    """Give each label that has pixels, in order, with the smallest window that holds it."""
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is not None:
            rows, columns = window
            yield label, (rows, columns)


def framed(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Copy a label image into one with a frame of background, one pixel wide."""
    return np.asarray(cv2.copyMakeBorder(labels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), dtype=np.int32)


def grow(window: Window, margin_px: int) -> Window:
    """Widen a window on all sides; what lies outside the array is cut off when it is used."""
    rows, columns = (slice(max(0, part.start - margin_px), part.stop + margin_px) for part in window)
    return rows, columns


def keep_labels(labels: NDArray[np.int32], keep: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Make background of the labels that are not kept, and number the rest 1..n in their order.

    Parameters
    ----------
    labels
        Any shape.
    keep
        Whether each label is kept, shape (labels + 1,), bool; entry 0, the background, is not read.
    """
    kept = keep.copy()
    kept[0] = False
    return np.asarray(np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels])

"""Operations on label images: each instance has one number, and 0 is background."""

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
    """Yield each label that has pixels, in rising order, with the smallest window that holds it."""
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is not None:
            rows, columns = window
            yield label, (rows, columns)


def framed(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Copy a label image into one with a frame of background, one pixel wide."""
    return np.asarray(cv2.copyMakeBorder(labels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), dtype=np.int32)


def grow(window: Window, margin_px: int) -> Window:
    """Widen a window by a margin on all sides; it may extend beyond the array at the right and the bottom."""
    rows, columns = (slice(max(0, part.start - margin_px), part.stop + margin_px) for part in window)
    return rows, columns


def keep_labels(labels: NDArray[np.int32], keep: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Turn the labels that are not kept into background, and number the rest 1..n in their order.

    Parameters
    ----------
    labels
        Label image of any shape, int32.
    keep
        Whether each label is kept, shape (labels + 1,), bool; entry 0, the background, is ignored.

    Returns
    -------
    Label image of the same shape, int32.
    """
    kept = keep.copy()
    kept[0] = False
    return np.asarray(np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels])


def least_of_linked(n: int, one: NDArray[np.intp], other: NDArray[np.intp]) -> NDArray[np.intp]:
    """Find, for each of n things, the smallest of all that links join to it, itself included.

    scipy.sparse.csgraph would do, but its import costs a worker a tenth of a second, and groups here are small.

    Parameters
    ----------
    n
        Number of things, which are numbered from 0.
    one, other
        Both ends of each link, shape (links,).

    Returns
    -------
    Shape (n,).
    """
    least = np.arange(n, dtype=np.intp)
    while (differs := least[one] != least[other]).any():
        lower = np.minimum(least[one[differs]], least[other[differs]])
        for ends in (one[differs], other[differs]):
            np.minimum.at(least, least[ends], lower)
            np.minimum.at(least, ends, lower)
        least = least[least]
    return least

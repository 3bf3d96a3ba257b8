"""Removal of tails, bridges and burrs, which are thinner than a nucleus and do not belong to it, from label images."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.instances.labels import label_windows


def open_outlines(labels: NDArray[np.int32], share: float) -> None:
    """Open every label by a disc in proportion to its size, in place, and keep its largest 4-connected part.

    Score maps follow dark stroma and cytoplasm beside a nucleus, which gives tails, bridges and burrs that nuclei do
    not have. Only a label's own pixels decide, in integer arithmetic, so nothing depends on where an array was cut.

    Parameters
    ----------
    labels
        Shape (h, w), 0 = background.
    share
        Radius of the disc as a fraction of the square root of the area; that of a round nucleus is 0.56. A radius that
        rounds to 0 pixels changes nothing.
    """
    for label, window in label_windows(labels):
        view = labels[window]
        own = (view == label).view(np.uint8)
        radius = math.floor(share * math.sqrt(cv2.countNonZero(own)) + 0.5)
        if radius:
            lost = _lost_by_opening(own, radius)
            if lost is not None:
                view[lost] = 0


def _lost_by_opening(own: NDArray[np.uint8], radius: int) -> NDArray[np.bool_] | None:
    """Find the pixels that opening removes from a mask of zeros and ones; None where nothing would be left."""
    # The mask may touch the edge of its window, beyond which lies background.
    edge = radius + 1
    padded = cv2.copyMakeBorder(own, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, _disc(radius))
    n_parts, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if n_parts < 2:
        return None  # it is nowhere as wide as the disc; its area alone decides later whether it is kept
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    lost = np.asarray(parts[edge:-edge, edge:-edge] != largest)
    lost &= own.view(bool)
    return lost


@lru_cache(maxsize=64)
def _disc(radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), dtype=np.uint8)

"""Outlines made plain: what is thinner than a nucleus is wide does not belong to it."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.instances.labels import label_windows


def open_outlines(labels: NDArray[np.int32], share: float) -> None:
    """Open every label by a disc of a part of its own size, in place, and keep its largest 4-connected part.

    Scores follow stroma and cytoplasm that is dark beside a nucleus: tails, bridges and burrs, which nuclei do not
    have. A label's own pixels alone decide, by whole numbers, so nothing depends on where an array was cut.

    Parameters
    ----------
    labels
        Shape (h, w), 0 = background.
    share
        Radius of the disc as a part of the square root of the area; a round nucleus has 0.56. A disc under one
        pixel leaves all as it is.
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
    """Find the pixels that opening takes from a mask of zeros and ones; None where there are none."""
    # Beyond the window lies background, also for what is as wide as it.
    edge = radius + 1
    padded = cv2.copyMakeBorder(own, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, _disc(radius))
    n_parts, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if n_parts < 2:
        return None  # nowhere as wide as the disc: thin all over, and judged by its area
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    lost = np.asarray(parts[edge:-edge, edge:-edge] != largest)
    lost &= own.view(bool)
    return lost


@lru_cache(maxsize=64)
def _disc(radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), dtype=np.uint8)

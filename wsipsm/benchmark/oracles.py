"""Results with one kind of error undone by the truth: how much each costs. Nothing here can be used to segment."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels, find_boundaries

from wsipsm.metrics.segmentation import measure_overlap

Labels = NDArray[np.int32]

_FOUND_IOU = 0.3
"""Overlap from which a prediction is taken to be of a true nucleus."""
_NEAR_PX = 6
"""Farthest that found foreground may lie from a true nucleus to be given to it."""


def true_contours(truth: Labels, found: Labels) -> Labels:
    """Give each found nucleus the outline of the true one that it is; false ones stay where no true one lies."""
    pairs = _pairs(truth, found)
    result = np.where(np.isin(truth, list(pairs)), truth, 0)
    false = ~np.isin(found, [0, *pairs.values()]) & (result == 0)
    return _join(result, found * false)


def no_false_nuclei(truth: Labels, found: Labels) -> Labels:
    """Leave out what is no true nucleus."""
    return np.where(np.isin(found, list(_pairs(truth, found).values())), found, 0).astype(np.int32)


def no_misses(truth: Labels, found: Labels) -> Labels:
    """Add the true nuclei of which less than 30 % is covered."""
    area = np.bincount(truth.ravel())
    covered = np.bincount(truth.ravel(), weights=(found.ravel() > 0))
    missed = covered < _FOUND_IOU * np.maximum(area, 1)
    missed[0] = False
    return _join(found, np.where(missed[truth] & (found == 0), truth, 0).astype(np.int32))


def true_division(truth: Labels, found: Labels) -> Labels:
    """Divide the found foreground by the nearest true nucleus; parts far from any stay as they are."""
    if not truth.any():
        return found
    distance, nearest = ndimage.distance_transform_edt(truth == 0, return_indices=True)
    near = distance < _NEAR_PX
    divided = np.where((found > 0) & near, truth[tuple(nearest)], 0)
    return _join(divided, np.where(near, 0, found).astype(np.int32))


def shrunk(truth: Labels, found: Labels) -> Labels:
    """Take one pixel off every outline: 4-neighbours of another label."""
    del truth
    rim = find_boundaries(found, connectivity=1, mode="inner")  # type: ignore[no-untyped-call]
    return np.where(rim, 0, found).astype(np.int32)


def grown(truth: Labels, found: Labels) -> Labels:
    """Add one pixel to every outline, where no other nucleus lies."""
    del truth
    return np.asarray(expand_labels(found, 1), np.int32)  # type: ignore[no-untyped-call]


ORACLES: Mapping[str, Callable[[Labels, Labels], Labels]] = {
    "true contours": true_contours,
    "true division": true_division,
    "no false nuclei": no_false_nuclei,
    "no misses": no_misses,
    "1 px in": shrunk,
    "1 px out": grown,
}
"""Oracles by the names of their rows."""


def _pairs(truth: Labels, found: Labels) -> dict[int, int]:
    """Match true labels with the predictions taken for them, one to one, highest IoU first."""
    overlap = measure_overlap(truth, found)
    true_ids, found_ids = (np.unique(labels[labels > 0]) for labels in (truth, found))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for k in np.argsort(-overlap.iou, kind="stable"):
        true_id, found_id = int(true_ids[overlap.truth[k]]), int(found_ids[overlap.predicted[k]])
        if overlap.iou[k] < _FOUND_IOU:
            break
        if true_id not in pairs and found_id not in taken:
            pairs[true_id] = found_id
            taken.add(found_id)
    return pairs


def _join(first: NDArray[np.integer], second: NDArray[np.integer]) -> Labels:
    """Join two label images; the second's numbers follow the first's."""
    offset = int(first.max(initial=0))
    return np.where(second > 0, second + offset, first).astype(np.int32)

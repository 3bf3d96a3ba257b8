"""Corrects one kind of error in a result by the truth, to measure what that kind costs; this is no segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels, find_boundaries

from wsipsm.metrics.segmentation import measure_overlap

Labels = NDArray[np.int32]

_FOUND_IOU = 0.3
"""Smallest IoU at which a prediction counts as that true nucleus."""
_NEAR_PX = 6
"""Distance in pixels below which found foreground is assigned to a true nucleus."""


def true_contours(truth: Labels, found: Labels) -> Labels:
    """Give each found nucleus the outline of its true nucleus; keep false ones, except where a matched one lies."""
    pairs = _pairs(truth, found)
    result = np.where(np.isin(truth, list(pairs)), truth, 0)
    false = ~np.isin(found, [0, *pairs.values()]) & (result == 0)
    return _join(result, found * false)


def no_false_nuclei(truth: Labels, found: Labels) -> Labels:
    """Leave out found nuclei that match no true one."""
    return np.where(np.isin(found, list(_pairs(truth, found).values())), found, 0).astype(np.int32)


def no_misses(truth: Labels, found: Labels) -> Labels:
    """Add the true nuclei of which less than 30 % is covered."""
    area = np.bincount(truth.ravel())
    covered = np.bincount(truth.ravel(), weights=(found.ravel() > 0))
    missed = covered < _FOUND_IOU * np.maximum(area, 1)
    missed[0] = False
    return _join(found, np.where(missed[truth] & (found == 0), truth, 0).astype(np.int32))


def true_division(truth: Labels, found: Labels) -> Labels:
    """Assign each found foreground pixel to the nearest true nucleus; parts far from any stay unchanged."""
    if not truth.any():
        return found
    distance, nearest = ndimage.distance_transform_edt(truth == 0, return_indices=True)
    near = distance < _NEAR_PX
    divided = np.where((found > 0) & near, truth[tuple(nearest)], 0)
    return _join(divided, np.where(near, 0, found).astype(np.int32))


def shrunk(truth: Labels, found: Labels) -> Labels:
    """Remove the outermost pixels of every found nucleus, those with a 4-neighbour of another label."""
    del truth
    rim = find_boundaries(found, connectivity=1, mode="inner")  # type: ignore[no-untyped-call]
    return np.where(rim, 0, found).astype(np.int32)


def grown(truth: Labels, found: Labels) -> Labels:
    """Grow every found nucleus by one pixel, except into another one."""
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
"""Corrections by the names of their table rows; each takes the true and the found label image."""


def _pairs(truth: Labels, found: Labels) -> dict[int, int]:
    """Match true with found labels one to one, highest IoU first; return found labels by true ones."""
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
    """Join two label images; labels of the second are drawn over the first and numbered after its labels."""
    offset = int(first.max(initial=0))
    return np.where(second > 0, second + offset, first).astype(np.int32)

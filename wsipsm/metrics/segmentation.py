"""Scores of a label image against another: AJI, AJI+, panoptic quality, Dice by pixels and by objects.

Labels are any positive integers, 0 is background; gaps in the numbering do not matter. Instances are taken as
labelled: they are never relabelled by connected components.

Where neither image has an instance, every score is 1. Where only one of them has none, every score is 0. Segmentation
quality is 0 when nothing matched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsipsm.metrics.assignment import assign_pairs


@dataclass(frozen=True, slots=True)
class Overlap:
    """Areas of two label images' instances and of the overlaps between them."""

    truth_area: NDArray[np.int64]
    """Pixels of each true instance, shape (n_truth,), in order of their labels."""
    predicted_area: NDArray[np.int64]
    """Pixels of each predicted instance, shape (n_predicted,)."""
    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    """Indices into the areas of both instances of each overlapping pair, shape (n_pairs,), sorted by truth first."""
    shared: NDArray[np.int64]
    """Pixels that each pair shares, at least 1, shape (n_pairs,)."""

    @property
    def union(self) -> NDArray[np.int64]:
        """Pixels in either instance of each pair, shape (n_pairs,)."""
        return self.truth_area[self.truth] + self.predicted_area[self.predicted] - self.shared

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, shape (n_pairs,)."""
        return self.shared / self.union

    @property
    def both_empty(self) -> bool:
        """Whether neither image has an instance."""
        return self.truth_area.size == 0 and self.predicted_area.size == 0


@dataclass(frozen=True, slots=True)
class PanopticQuality:
    """Panoptic quality and its two factors."""

    pq: float
    sq: float
    """Segmentation quality: mean IoU of the matched pairs."""
    dq: float
    """Detection quality: F1 of the matching."""
    n_matched: int
    n_truth: int
    n_predicted: int


def measure_overlap(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> Overlap:
    """Count the pixels that each true and each predicted instance share.

    Parameters
    ----------
    truth, predicted
        Label images of one shape, integers, 0 is background.

    Returns
    -------
    The overlap, from which the scores of instances are computed, so that it is counted only once.

    Raises
    ------
    ValueError
        When shapes differ, a type is not an integer one, or a label is negative.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"label images: shapes {truth.shape} and {predicted.shape}; they must be the same.")
    truth_area, truth_index = _index_labels(truth)
    predicted_area, predicted_index = _index_labels(predicted)
    both = (truth_index > 0) & (predicted_index > 0)
    n_predicted = predicted_area.size
    key = (truth_index[both] - 1) * max(n_predicted, 1) + predicted_index[both] - 1
    pairs, shared = np.unique(key, return_counts=True)
    row, column = np.divmod(pairs, max(n_predicted, 1))
    return Overlap(truth_area, predicted_area, row, column, shared)


def aji(overlap: Overlap) -> float:
    """Compute the aggregated Jaccard index as the MoNuSeg organisers' code does.

    Every true nucleus is paired with the prediction of highest IoU, which may be paired with several. Predictions
    without a pair add their area to the union (Kumar et al. 2017, doi:10.1109/TMI.2017.2677499).
    """
    if overlap.both_empty:
        return 1.0
    # Pairs are sorted by true nucleus, then by falling IoU, so the first of each is its choice (of equals, lowest
    # label).
    order = np.lexsort((overlap.predicted, -overlap.iou, overlap.truth))
    chosen = order[np.unique(overlap.truth[order], return_index=True)[1]]
    return _aggregate(overlap, chosen)


def aji_plus(overlap: Overlap) -> float:
    """Compute the aggregated Jaccard index with one-to-one assignment, AJI+.

    Pairs are assigned so that the sum of IoU is largest (Graham et al. 2019, doi:10.1016/j.media.2019.101563).
    """
    if overlap.both_empty:
        return 1.0
    return _aggregate(overlap, assign_pairs(overlap.truth, overlap.predicted, overlap.iou))


def panoptic_quality(overlap: Overlap, iou: float = 0.5) -> PanopticQuality:
    """Compute the panoptic quality of pairs whose IoU is above ``iou`` (Kirillov et al. 2019, arXiv:1801.00868).

    Parameters
    ----------
    overlap
        Overlap that `measure_overlap` returned.
    iou
        IoU above which a pair matches. From 0.5 on no instance can be in two matches; with a lower one, pairs are
        assigned one to one by the largest sum of IoU.

    Returns
    -------
    Panoptic quality, its factors and counts.
    """
    n_truth, n_predicted = overlap.truth_area.size, overlap.predicted_area.size
    if overlap.both_empty:
        return PanopticQuality(1.0, 1.0, 1.0, 0, 0, 0)
    good = np.flatnonzero(overlap.iou > iou)
    if iou < 0.5:
        good = good[assign_pairs(overlap.truth[good], overlap.predicted[good], overlap.iou[good])]
    sq = float(overlap.iou[good].mean()) if good.size else 0.0
    dq = 2 * good.size / (n_truth + n_predicted)
    return PanopticQuality(dq * sq, sq, dq, good.size, n_truth, n_predicted)


def object_dice(overlap: Overlap) -> float:
    """Compute the Dice coefficient object by object, weighted by area, as in the GlaS challenge.

    The score is the mean of two figures. One is the area-weighted mean, over true objects, of the Dice with the
    predicted object that shares most pixels; the other is the same from predicted to true objects. An object without
    overlap scores 0 (Sirinukunwattana et al. 2017, doi:10.1016/j.media.2016.08.008). An object may be chosen several
    times; of equals the lowest label is chosen.
    """
    if overlap.both_empty:
        return 1.0
    if overlap.truth_area.size == 0 or overlap.predicted_area.size == 0:
        return 0.0
    score = 2 * overlap.shared / (overlap.truth_area[overlap.truth] + overlap.predicted_area[overlap.predicted])
    total = 0.0
    for own, other, area in (
        (overlap.truth, overlap.predicted, overlap.truth_area),
        (overlap.predicted, overlap.truth, overlap.predicted_area),
    ):
        order = np.lexsort((other, -overlap.shared, own))
        chosen = order[np.unique(own[order], return_index=True)[1]]
        total += float((area[own[chosen]] * score[chosen]).sum() / area.sum())
    return total / 2


def dice(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> float:
    """Compute the Dice coefficient of the two foregrounds, pixel by pixel."""
    shared, n_truth, n_predicted = _foreground(truth, predicted)
    total = n_truth + n_predicted
    return 2 * shared / total if total else 1.0


def foreground_iou(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> float:
    """Compute the intersection over union of the two foregrounds, pixel by pixel."""
    shared, n_truth, n_predicted = _foreground(truth, predicted)
    union = n_truth + n_predicted - shared
    return shared / union if union else 1.0


def _index_labels(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Compute the area of each instance, and the flat image with its labels replaced by 1..n in their order."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"label image: type {labels.dtype}; an integer type is needed.")
    ids, index, area = np.unique(labels.ravel(), return_inverse=True, return_counts=True)
    if ids.size and ids[0] < 0:
        raise ValueError(f"label image: label {ids[0]}; labels must be 0 or more.")
    if ids.size and ids[0] == 0:
        return area[1:], index
    return area, index + 1


def _aggregate(overlap: Overlap, chosen: NDArray[np.intp]) -> float:
    """Divide the shared pixels of the chosen pairs by their union plus the area of every instance in none of them."""
    lone_truth = np.ones(overlap.truth_area.size, bool)
    lone_predicted = np.ones(overlap.predicted_area.size, bool)
    lone_truth[overlap.truth[chosen]] = False
    lone_predicted[overlap.predicted[chosen]] = False
    union = (
        overlap.union[chosen].sum()
        + overlap.truth_area[lone_truth].sum()
        + overlap.predicted_area[lone_predicted].sum()
    )
    return float(overlap.shared[chosen].sum() / union)


def _foreground(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> tuple[int, int, int]:
    """Count the pixels in both foregrounds, in the true and in the predicted one."""
    if truth.shape != predicted.shape:
        raise ValueError(f"label images: shapes {truth.shape} and {predicted.shape}; they must be the same.")
    a, b = truth > 0, predicted > 0
    return int(np.count_nonzero(a & b)), int(np.count_nonzero(a)), int(np.count_nonzero(b))

"""Object Dice against a slow reference; AJI, PQ and pixel scores against an independent library; detection likewise."""

from __future__ import annotations

import cellseg_metrics
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from wsipsm.metrics.detection import match_points
from wsipsm.metrics.segmentation import (
    aji,
    aji_plus,
    dice,
    foreground_iou,
    measure_overlap,
    object_dice,
    panoptic_quality,
)

label_images = hnp.arrays(np.int32, (5, 6), elements=st.sampled_from([0, 0, 1, 2, 5, 9]))


def _masks(labels: np.ndarray) -> list[np.ndarray]:
    return [labels == i for i in sorted(set(labels.ravel().tolist()) - {0})]


def _slow_object_dice(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mask by mask, as the challenge's definition reads."""
    true_masks, found = _masks(truth), _masks(predicted)
    if not true_masks and not found:
        return 1.0
    halves = []
    for own, others in ((true_masks, found), (found, true_masks)):
        total = sum(int(mask.sum()) for mask in own)
        half = 0.0
        for mask in own:
            shared = [int((mask & other).sum()) for other in others]
            if shared and max(shared) > 0:
                best = others[int(np.argmax(shared))]
                half += mask.sum() / total * 2 * max(shared) / (mask.sum() + best.sum())
        halves.append(half)
    return sum(halves) / 2


@settings(deadline=None)
@given(label_images, label_images)
def test_object_dice_equals_the_slow_reference(truth, predicted):
    score = object_dice(measure_overlap(truth, predicted))
    assert score == pytest.approx(_slow_object_dice(truth, predicted))
    assert 0 <= score <= 1


@settings(deadline=None)
@given(label_images)
def test_object_dice_of_the_same_image_is_one(labels):
    assert object_dice(measure_overlap(labels, labels * 3)) == 1


def test_object_dice_punishes_a_merge_that_pixel_dice_does_not_see():
    truth = np.repeat(np.array([[1, 2]], np.int32), 4, axis=1)
    merged = np.ones_like(truth)
    assert dice(truth, merged) == 1
    # Each half meets the blob with Dice 2 x 4 / 12, the blob meets one half with the same.
    assert object_dice(measure_overlap(truth, merged)) == pytest.approx(2 / 3)


def _discs(seed: int, jitter: float) -> tuple[np.ndarray, np.ndarray]:
    """Two label images of the same discs, the second with other places and radii, some missing, some new."""
    random = np.random.default_rng(seed)
    centres = np.stack(np.meshgrid(np.arange(12, 150, 24), np.arange(12, 150, 24)), -1).reshape(-1, 2).astype(float)
    radius = random.uniform(5, 11, len(centres))
    y, x = np.mgrid[:150, :150]

    def draw(xy: np.ndarray, r: np.ndarray, keep: np.ndarray) -> np.ndarray:
        labels = np.zeros((150, 150), np.int32)
        for i in np.flatnonzero(keep):
            labels[(np.hypot(x - xy[i, 0], y - xy[i, 1]) < r[i]) & (labels == 0)] = i + 1
        return labels

    moved = centres + random.normal(0, jitter, centres.shape)
    first = draw(centres, radius, random.random(len(centres)) < 0.9)
    return first, draw(moved, radius * random.uniform(0.8, 1.2, len(centres)), random.random(len(centres)) < 0.9)


@pytest.mark.parametrize("seed", range(6))
def test_scores_agree_with_an_independent_library(seed):
    truth, predicted = _discs(seed, jitter=1 + seed)
    overlap = measure_overlap(truth, predicted)
    quality = panoptic_quality(overlap)
    theirs = cellseg_metrics.panoptic_quality(truth, predicted)
    assert (quality.pq, quality.sq, quality.dq) == pytest.approx((theirs["pq"], theirs["sq"], theirs["dq"]), abs=1e-6)
    shared, true_area, found_area = (np.count_nonzero(m) for m in ((truth > 0) & (predicted > 0), truth, predicted))
    assert dice(truth, predicted) == pytest.approx(2 * shared / (true_area + found_area))
    stats = cellseg_metrics.get_stats(truth > 0, predicted > 0)
    assert foreground_iou(truth, predicted) == pytest.approx(cellseg_metrics.iou_score(*stats), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_aji_agrees_with_an_independent_library_where_the_choice_is_plain(seed):
    # That library takes the prediction of largest intersection, the organisers the one of largest IoU: the same here.
    truth, predicted = _discs(seed, jitter=1)
    overlap = measure_overlap(truth, predicted)
    assert aji(overlap) == pytest.approx(cellseg_metrics.aggregated_jaccard_index(truth, predicted), abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_aji_plus_agrees_with_an_assignment_on_the_whole_matrix(seed):
    truth, predicted = _discs(seed, jitter=1 + seed)
    true_masks, found = (np.array([m.ravel() for m in _masks(x)], float) for x in (truth, predicted))
    shared = true_masks @ found.T
    union = true_masks.sum(1)[:, None] + found.sum(1)[None] - shared
    rows, columns = linear_sum_assignment(-shared / union)
    rows, columns = rows[shared[rows, columns] > 0], columns[shared[rows, columns] > 0]
    lone = np.delete(true_masks, rows, 0).sum() + np.delete(found, columns, 0).sum()
    expected = shared[rows, columns].sum() / (union[rows, columns].sum() + lone)
    assert aji_plus(measure_overlap(truth, predicted)) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 60), st.sampled_from([1.0, 3.0, 8.0]))
def test_as_many_points_match_as_in_a_maximum_bipartite_matching(seed, n_truth, n_predicted, radius):
    random = np.random.default_rng(seed)
    truth, predicted = random.uniform(0, 30, (n_truth, 2)), random.uniform(0, 30, (n_predicted, 2))
    near = csr_array(cdist(truth, predicted) <= radius)
    expected = int((maximum_bipartite_matching(near) >= 0).sum())
    assert match_points(truth, predicted, radius).score.n_matched == expected

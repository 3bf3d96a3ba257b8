"""AJI, AJI+, PQ, Dice against slow references, worked examples and properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsipsm.metrics.segmentation import (
    aji,
    aji_plus,
    dice,
    foreground_iou,
    measure_overlap,
    panoptic_quality,
)

# Few labels on few pixels: dense overlaps, gaps in the numbering, and empty images all come up.
label_images = hnp.arrays(np.int32, (5, 6), elements=st.sampled_from([0, 0, 1, 2, 5, 9]))


def _masks(labels: np.ndarray) -> list[np.ndarray]:
    return [labels == i for i in sorted(set(labels.ravel().tolist()) - {0})]


def _slow_aji(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mask by mask, as the paper's algorithm 1 reads."""
    true_masks, found = _masks(truth), _masks(predicted)
    if not true_masks and not found:
        return 1.0
    shared = union = 0
    used = set()
    for mask in true_masks:
        ious = [(mask & other).sum() / (mask | other).sum() for other in found]
        if not ious or max(ious) == 0:
            union += mask.sum()
            continue
        best = int(np.argmax(ious))
        used.add(best)
        shared += (mask & found[best]).sum()
        union += (mask | found[best]).sum()
    union += sum(other.sum() for j, other in enumerate(found) if j not in used)
    return float(shared / union)


def _assignments(n: int, m: int):
    """Every one-to-one choice of columns for n rows, None for a row without."""
    columns = [*range(m), *([None] * n)]
    return set(itertools.permutations(columns, n))


def _best_iou_sum(truth: np.ndarray, predicted: np.ndarray) -> tuple[float, set[float]]:
    """Largest sum of IoU over all one-to-one assignments, and the AJI+ of every assignment that reaches it."""
    true_masks, found = _masks(truth), _masks(predicted)
    scores: list[tuple[float, float]] = []
    for choice in _assignments(len(true_masks), len(found)):
        pairs = [(i, j) for i, j in enumerate(choice) if j is not None and (true_masks[i] & found[j]).any()]
        shared = sum(int((true_masks[i] & found[j]).sum()) for i, j in pairs)
        union = sum(int((true_masks[i] | found[j]).sum()) for i, j in pairs)
        union += sum(int(m.sum()) for i, m in enumerate(true_masks) if i not in {p[0] for p in pairs})
        union += sum(int(m.sum()) for j, m in enumerate(found) if j not in {p[1] for p in pairs})
        iou = sum((true_masks[i] & found[j]).sum() / (true_masks[i] | found[j]).sum() for i, j in pairs)
        scores.append((float(iou), shared / union if union else 1.0))
    best = max(iou for iou, _ in scores)
    return best, {round(score, 9) for iou, score in scores if iou > best - 1e-9}


def _slow_pq(truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float, float]:
    true_masks, found = _masks(truth), _masks(predicted)
    if not true_masks and not found:
        return 1.0, 1.0, 1.0
    ious = [(a & b).sum() / (a | b).sum() for a in true_masks for b in found]
    matched = [iou for iou in ious if iou > 0.5]
    missed, extra = len(true_masks) - len(matched), len(found) - len(matched)
    dq = len(matched) / (len(matched) + 0.5 * missed + 0.5 * extra)
    sq = float(np.mean(matched)) if matched else 0.0
    return dq * sq, sq, dq


@given(label_images, label_images)
def test_aji_equals_the_slow_reference(truth, predicted):
    assert aji(measure_overlap(truth, predicted)) == pytest.approx(_slow_aji(truth, predicted))


@settings(max_examples=40, deadline=None)
@given(label_images, label_images)
def test_aji_plus_is_that_of_a_best_assignment(truth, predicted):
    score = aji_plus(measure_overlap(truth, predicted))
    assert round(score, 9) in _best_iou_sum(truth, predicted)[1]


@given(label_images, label_images)
def test_panoptic_quality_equals_the_slow_reference(truth, predicted):
    quality = panoptic_quality(measure_overlap(truth, predicted))
    assert (quality.pq, quality.sq, quality.dq) == pytest.approx(_slow_pq(truth, predicted))


@given(label_images, label_images)
def test_scores_lie_between_0_and_1_and_the_symmetric_ones_are_symmetric(truth, predicted):
    forth, back = measure_overlap(truth, predicted), measure_overlap(predicted, truth)
    for score in (aji(forth), aji_plus(forth), panoptic_quality(forth).pq, dice(truth, predicted)):
        assert 0 <= score <= 1
    assert panoptic_quality(forth).pq == pytest.approx(panoptic_quality(back).pq)
    assert foreground_iou(truth, predicted) == pytest.approx(foreground_iou(predicted, truth))


@given(label_images, st.permutations([3, 70, 11, 4, 8, 200]))
def test_numbering_does_not_matter(truth, names):
    renamed = np.zeros_like(truth)
    for old, new in zip([1, 2, 5, 9], names, strict=False):
        renamed[truth == old] = new
    overlap = measure_overlap(truth, renamed)
    assert aji(overlap) == aji_plus(overlap) == panoptic_quality(overlap).pq == 1.0


@given(label_images)
def test_empty_images(labels):
    nothing = np.zeros_like(labels)
    expected = 1.0 if not labels.any() else 0.0
    for overlap in (measure_overlap(labels, nothing), measure_overlap(nothing, labels)):
        assert aji(overlap) == aji_plus(overlap) == panoptic_quality(overlap).pq == expected
    assert dice(labels, nothing) == foreground_iou(nothing, labels) == expected


def test_a_merged_blob_is_punished_by_aji_plus_more_than_its_share_in_aji():
    truth = np.zeros((4, 8), np.int32)
    truth[:, :4], truth[:, 4:] = 1, 2
    merged = np.ones_like(truth)
    overlap = measure_overlap(truth, merged)
    # AJI lets both halves take the blob: (16 + 16) / (32 + 32). AJI+: 16 / (32 + 16).
    assert aji(overlap) == pytest.approx(0.5)
    assert aji_plus(overlap) == pytest.approx(1 / 3)
    assert panoptic_quality(overlap).n_matched == 0, "an IoU of exactly 0.5 is no match"


def test_many_instances_match_scipy_on_the_whole_matrix():
    from scipy.optimize import linear_sum_assignment

    random = np.random.default_rng(4)
    truth = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((6, 6), int)).astype(np.int32)
    predicted = np.roll(truth, (2, 3), (0, 1)) * (random.random(truth.shape) > 0.2)
    overlap = measure_overlap(truth, predicted.astype(np.int32))
    iou = np.zeros((overlap.truth_area.size, overlap.predicted_area.size))
    iou[overlap.truth, overlap.predicted] = overlap.iou
    rows, columns = linear_sum_assignment(-iou)
    pairs = iou[rows, columns] > 0
    rows, columns = rows[pairs], columns[pairs]
    dense = {pair: k for k, pair in enumerate(zip(overlap.truth.tolist(), overlap.predicted.tolist(), strict=True))}
    chosen = [dense[pair] for pair in zip(rows.tolist(), columns.tolist(), strict=True)]
    shared, union = overlap.shared[chosen].sum(), overlap.union[chosen].sum()
    union += np.delete(overlap.truth_area, rows).sum() + np.delete(overlap.predicted_area, columns).sum()
    assert aji_plus(overlap) == pytest.approx(shared / union)


def test_pixel_scores_of_a_worked_example():
    truth = np.array([[1, 1, 2, 0]])
    predicted = np.array([[0, 3, 3, 3]])
    assert dice(truth, predicted) == pytest.approx(2 * 2 / 6)
    assert foreground_iou(truth, predicted) == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), r"shapes \(2, 2\) and \(2, 3\)"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "type float64"),
        (np.array([[0, -3]]), np.zeros((1, 2), int), "label -3"),
    ],
)
def test_wrong_input_is_named(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        measure_overlap(truth, predicted)


def test_panoptic_quality_below_half_stays_one_to_one():
    truth = np.array([[1, 1, 1, 2, 2, 2]])
    predicted = np.array([[1, 1, 3, 3, 3, 3]])
    quality = panoptic_quality(measure_overlap(truth, predicted), iou=0.1)
    assert (quality.n_matched, quality.sq) == (2, pytest.approx((2 / 3 + 3 / 4) / 2))

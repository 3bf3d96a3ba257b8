"""Point matching against exhaustive search, properties and worked examples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from wsipsm.metrics.detection import DetectionScore, match_points, nearest_within


def points(largest: int):
    grid = st.integers(0, 8).map(float)
    return st.integers(0, largest).flatmap(lambda n: hnp.arrays(np.float64, (n, 2), elements=grid))


def _exhaustive(truth: np.ndarray, predicted: np.ndarray, radius: float) -> tuple[int, float]:
    """Most pairs within the radius, and their smallest total distance."""
    best = (0, 0.0)
    columns = [*range(len(predicted)), *([None] * len(truth))]
    for choice in set(itertools.permutations(columns, len(truth))):
        pairs = [float(np.hypot(*(truth[i] - predicted[j]))) for i, j in enumerate(choice) if j is not None]
        if all(distance <= radius for distance in pairs) and (-len(pairs), sum(pairs)) < (-best[0], best[1]):
            best = (len(pairs), sum(pairs))
    return best


@settings(max_examples=60, deadline=None)
@given(points(4), points(4), st.sampled_from([1.0, 2.5, 4.0]))
def test_matching_equals_exhaustive_search(truth, predicted, radius):
    match = match_points(truth, predicted, radius)
    n, total = _exhaustive(truth, predicted, radius)
    assert match.score.n_matched == n
    assert match.distance.sum() == pytest.approx(total)


@settings(deadline=None)
@given(points(30), points(30), st.floats(0.5, 6))
def test_pairs_are_one_to_one_and_within_the_radius(truth, predicted, radius):
    match = match_points(truth, predicted, radius)
    assert len(set(match.truth.tolist())) == len(set(match.predicted.tolist())) == len(match.truth)
    distance = np.hypot(*(truth[match.truth] - predicted[match.predicted]).T)
    assert distance == pytest.approx(match.distance)
    assert (distance <= radius + 1e-9).all()
    assert np.all(np.diff(match.truth) > 0)


@settings(deadline=None)
@given(points(30), points(30))
def test_a_larger_radius_never_matches_less_and_sides_can_be_swapped(truth, predicted):
    counts = [match_points(truth, predicted, radius).score.n_matched for radius in (1, 2, 4)]
    assert counts == sorted(counts)
    assert match_points(predicted, truth, 2).score.n_matched == counts[1]


def test_assigning_inside_the_radius_keeps_the_match_that_assigning_first_loses():
    truth = np.array([[0.0, 2.0], [-5.0, 0.0]])
    predicted = np.array([[1.0, 0.0], [6.0, 0.0]])
    distance = np.hypot(*(truth[:, None] - predicted[None]).transpose(2, 0, 1))
    rows, columns = linear_sum_assignment(distance)
    assert not (distance[rows, columns] <= 5).any(), "the cheapest pairs are all too far apart"
    assert match_points(truth, predicted, 5).score == DetectionScore(1, 2, 2)


def test_more_pairs_beat_nearer_pairs():
    truth = np.array([[0.0, 0.0], [2.0, 0.0]])
    predicted = np.array([[1.9, 0.0], [3.9, 0.0]])
    match = match_points(truth, predicted, 2)
    assert match.predicted.tolist() == [0, 1]


def test_two_predictions_on_one_label_count_once():
    match = match_points(np.array([[5.0, 5.0]]), np.array([[5.0, 6.0], [5.0, 5.5]]), 3)
    assert match.predicted.tolist() == [1]
    assert (match.score.precision, match.score.recall, match.score.f1) == pytest.approx((0.5, 1.0, 2 / 3))


def test_the_radius_itself_is_inside():
    assert match_points(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), 5).score.n_matched == 1


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (DetectionScore(0, 0, 0), (1, 1, 1)),
        (DetectionScore(0, 3, 0), (0, 0, 0)),
        (DetectionScore(0, 0, 2), (0, 0, 0)),
        (DetectionScore(1, 2, 4), (0.25, 0.5, 1 / 3)),
    ],
)
def test_ratios_and_their_conventions(score, expected):
    assert (score.precision, score.recall, score.f1) == pytest.approx(expected)


def test_counts_add_up_over_images():
    assert DetectionScore(1, 2, 3) + DetectionScore(4, 5, 6) == DetectionScore(5, 7, 9)


def test_many_points_are_fast_and_exact():
    random = np.random.default_rng(0)
    truth = random.uniform(0, 3000, (20_000, 2))
    order = random.permutation(len(truth))
    match = match_points(truth, truth[order] + 0.01, 8)
    assert match.score.n_matched == len(truth)
    assert np.array_equal(order[match.predicted], match.truth)


def test_nearest_within():
    to = np.array([[0.0, 0.0], [10.0, 0.0]])
    xy = np.array([[1.0, 0.0], [9.0, 0.0], [5.0, 9.0]])
    assert nearest_within(xy, to, 2).tolist() == [0, 1, -1]
    assert nearest_within(xy, np.empty((0, 2)), 2).tolist() == [-1, -1, -1]
    assert nearest_within(np.empty((0, 2)), to, 2).tolist() == []


@pytest.mark.parametrize("radius", [0, -1, float("nan")])
def test_a_radius_that_cannot_match_is_refused(radius):
    with pytest.raises(ValueError, match="match radius"):
        match_points(np.zeros((1, 2)), np.zeros((1, 2)), radius)


def test_points_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        match_points(np.zeros((1, 3)), np.zeros((1, 2)), 1)

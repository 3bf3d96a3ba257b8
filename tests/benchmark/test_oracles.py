"""Each oracle undoes its own error, and no other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from wsipsm.benchmark.oracles import ORACLES, grown, no_false_nuclei, no_misses, shrunk, true_contours, true_division
from wsipsm.metrics.segmentation import aji, measure_overlap

Labels = NDArray[np.int32]


def discs(*at: tuple[int, int, int], size: int = 120) -> Labels:
    labels = np.zeros((size, size), np.int32)
    rows, columns = np.indices(labels.shape)
    for number, (row, column, radius) in enumerate(at, start=1):
        labels[(np.hypot(rows - row, columns - column) < radius) & (labels == 0)] = number
    return labels


TRUTH = discs((25, 25, 12), (25, 48, 12), (80, 30, 12), (80, 90, 12))


def score(found: Labels) -> float:
    return aji(measure_overlap(TRUTH, found))


@pytest.mark.parametrize("oracle", ORACLES.values())
def test_input_is_not_changed_and_the_truth_stays(oracle) -> None:  # type: ignore[no-untyped-def]
    found = discs((25, 27, 12), (50, 90, 8))
    before = found.copy()
    result = oracle(TRUTH, found)
    assert result.dtype == np.int32
    assert np.array_equal(found, before)
    if oracle not in (shrunk, grown):
        assert score(oracle(TRUTH, TRUTH)) == 1
        assert score(result) >= score(found)


def test_contours_are_put_right_and_false_nuclei_stay() -> None:
    found = discs((25, 24, 9), (25, 49, 9), (80, 30, 14), (80, 92, 9), (50, 100, 8))
    right = true_contours(TRUTH, found)
    assert score(right) == pytest.approx((TRUTH > 0).sum() / ((TRUTH > 0).sum() + (found == 5).sum()))


def test_false_nuclei_go() -> None:
    found = np.where(discs((50, 100, 8)) > 0, 9, TRUTH)
    assert np.array_equal(no_false_nuclei(TRUTH, found), TRUTH)


def test_missed_nuclei_are_added() -> None:
    assert score(no_misses(TRUTH, np.where(TRUTH == 3, 0, TRUTH))) == 1


def test_joined_and_divided_nuclei_are_put_right() -> None:
    joined = np.where(TRUTH == 2, 1, TRUTH)
    pieces = np.where((TRUTH == 4) & (np.indices(TRUTH.shape)[0] > 80), 5, joined)
    assert score(pieces) < 0.8
    assert score(true_division(TRUTH, pieces)) == 1


def test_a_pixel_in_and_out() -> None:
    lone = discs((60, 60, 12))
    assert np.all((shrunk(lone, lone) > 0) <= (lone > 0))
    assert np.all((grown(lone, lone) > 0) >= (lone > 0))
    rim = 2 * np.pi * 12
    assert np.count_nonzero(lone) - np.count_nonzero(shrunk(lone, lone)) == pytest.approx(rim, rel=0.2)
    assert np.count_nonzero(grown(lone, lone)) - np.count_nonzero(lone) == pytest.approx(rim, rel=0.2)
    both = grown(TRUTH, TRUTH)
    assert set(np.unique(both[TRUTH > 0])) == {1, 2, 3, 4}
    assert np.array_equal(both[TRUTH > 0], TRUTH[TRUTH > 0])

"""The labelling index: Wilson's interval against SciPy, and flags for what limits its use."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from wsipsm.instances.table import classify
from wsipsm.keys import NucleusClass
from wsipsm.scoring.index import labelling_index, wilson_interval


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy(counts: tuple[int, int], confidence: float) -> None:
    expected = binomtest(*counts).proportion_ci(confidence, method="wilson")
    assert wilson_interval(*counts, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_within_0_and_1(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


def test_wilson_of_nothing_knows_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("n_positive", "n"), [(-1, 5), (6, 5), (1, 0)])
def test_wilson_refuses_what_are_no_counts(n_positive: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{n_positive} positive of {n}"):
        wilson_interval(n_positive, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_wilson_refuses_what_is_no_confidence(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence)


def test_index_of_a_complete_roi_has_no_flag() -> None:
    index = labelling_index(150, 850, "Tumour 1", 1.0)
    assert index.value == 0.15
    assert (index.n_positive, index.n_scored) == (150, 1000)
    assert (index.low, index.high) == wilson_interval(150, 1000)
    assert index.flags == ()
    assert "Wilson" in index.method


@pytest.mark.parametrize(
    ("n_positive", "n_negative", "region", "coverage", "says"),
    [
        (0, 0, "Tumour", 1.0, "no nuclei"),
        (1, 498, "Tumour", 1.0, "only 499 nuclei"),
        (400, 600, "Tumour", 0.9999, "99.9% of the region"),
        (400, 600, "all nuclei", 1.0, "all nuclei: stroma and lymphocytes count"),
        (400, 600, "all nuclei without fold", 1.0, "all nuclei: stroma and lymphocytes count"),
    ],
)
def test_each_limit_has_its_flag(n_positive: int, n_negative: int, region: str, coverage: float, says: str) -> None:
    (flag,) = labelling_index(n_positive, n_negative, region, coverage).flags
    assert says in flag


def test_nothing_scored_has_no_value() -> None:
    index = labelling_index(0, 0, "all nuclei", 0.5)
    assert index.value is index.low is index.high is None
    assert (index.n_positive, index.n_scored) == (0, 0)
    assert len(index.flags) == 3
    assert orjson.loads(orjson.dumps(index))["value"] is None


def test_500_nuclei_are_enough() -> None:
    assert labelling_index(0, 500, "Tumour", 1.0).flags == ()


def test_classes_change_at_the_cut() -> None:
    classes = classify(np.array([0.0, 0.199, 0.2, 0.9, np.nan]), 5, 0.2)
    negative, positive = NucleusClass.NEGATIVE, NucleusClass.POSITIVE
    assert classes == [negative, negative, positive, positive, negative]
    assert classify(np.empty(0), 0, 0.2) == []

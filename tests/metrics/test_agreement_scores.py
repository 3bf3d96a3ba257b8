"""Agreement against published examples, formulas written out, and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.metrics.agreement import (
    Bands,
    Estimate,
    band_agreement,
    intraclass_correlation,
    limits_of_agreement,
)

Column = NDArray[np.float64]

# Bland & Altman 1986, table 1: peak expiratory flow rate, first readings, l/min.
WRIGHT = "494 395 516 434 476 557 413 442 650 433 417 656 267 478 178 423 427"
MINI_WRIGHT = "512 430 520 428 500 600 364 380 658 445 432 626 260 477 259 350 451"
# Shrout & Fleiss 1979, table 2: six subjects rated by four judges.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]

percentages = st.integers(0, 1000).map(lambda tenths: tenths / 10)

IKWG_BANDS, CUT_20 = (Bands.of(one) for one in DEFAULT_MARKER.compared_by)


def column(text: str) -> Column:
    return np.array(text.split(), np.float64)


@st.composite
def pairs_of_columns(draw: st.DrawFn) -> tuple[Column, Column]:
    n = draw(st.integers(3, 40))
    first, second = (draw(arrays(np.float64, n, elements=percentages)) for _ in range(2))
    return first, second


def icc_by_hand(ratings: Column) -> float:
    """Shrout & Fleiss 1979, ICC(2,1) from the mean squares of a two-way layout."""
    n, k = ratings.shape
    mean = ratings.mean()
    between = k * ((ratings.mean(1) - mean) ** 2).sum() / (n - 1)
    raters = n * ((ratings.mean(0) - mean) ** 2).sum() / (k - 1)
    residual = ratings - ratings.mean(1, keepdims=True) - ratings.mean(0, keepdims=True) + mean
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    return float((between - error) / (between + (k - 1) * error + k * (raters - error) / n))


def test_limits_of_bland_and_altmans_own_example() -> None:
    found = limits_of_agreement(column(MINI_WRIGHT), column(WRIGHT))
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.1)
    # The paper takes 2 for 1.96: -79.7 and 75.5, with standard errors of 16.3.
    assert found.lower.value == pytest.approx(-2.118 - 1.96 * 38.765, abs=0.01)
    assert found.upper.value == pytest.approx(-2.118 + 1.96 * 38.765, abs=0.01)
    assert found.upper.high is not None
    assert found.upper.low is not None
    assert (found.upper.high - found.upper.low) / 2 == pytest.approx(2.12 * 16.3, abs=0.1)


def test_icc_of_shrout_and_fleiss_own_example() -> None:
    found = intraclass_correlation(np.array(JUDGES, np.float64))
    assert found.value == pytest.approx(0.29, abs=0.005)
    # McGraw & Wong's interval as R's psych and irr print it for these data.
    assert (found.low, found.high) == pytest.approx((0.019, 0.761), abs=0.0005)


@settings(max_examples=25, deadline=None)
@given(pairs_of_columns())
def test_icc_is_the_formula_and_does_not_care_who_is_first(pair: tuple[Column, Column]) -> None:
    ratings = np.stack(pair, axis=1)
    assume(np.ptp(ratings) > 0)
    found = intraclass_correlation(ratings)
    assume(found.value is not None)
    assert found.value == pytest.approx(icc_by_hand(ratings), abs=1e-9)
    swapped = intraclass_correlation(np.ascontiguousarray(ratings[:, ::-1]))
    assert swapped.value == pytest.approx(found.value, abs=1e-9)
    if found.low is not None and found.high is not None:
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9


@settings(max_examples=100, deadline=None)
@given(pairs_of_columns(), st.floats(-50, 50))
def test_limits_follow_a_shift_and_turn_with_the_order(pair: tuple[Column, Column], shift: float) -> None:
    first, second = pair
    found, shifted, turned = (
        limits_of_agreement(first, second),
        limits_of_agreement(first, second + shift),
        limits_of_agreement(second, first),
    )
    assert found.bias.value is not None
    assert shifted.bias.value == pytest.approx(found.bias.value + shift, abs=1e-9)
    assert shifted.sd == pytest.approx(found.sd, abs=1e-9)
    assert turned.lower.value == pytest.approx(-(found.upper.value or 0.0), abs=1e-9)


def test_about_95_percent_of_normal_differences_lie_within_the_limits() -> None:
    rng = np.random.default_rng(1)
    reference = rng.uniform(0, 100, 20000)
    difference = rng.normal(3, 5, 20000)
    found = limits_of_agreement(reference, reference + difference)
    assert found.lower.value is not None
    assert found.upper.value is not None
    assert np.mean((difference > found.lower.value) & (difference < found.upper.value)) == pytest.approx(0.95, abs=0.01)


@settings(max_examples=100, deadline=None)
@given(pairs_of_columns(), st.sampled_from([IKWG_BANDS, CUT_20]))
def test_kappa_is_that_of_scikit_learn(pair: tuple[Column, Column], bands: Bands) -> None:
    found = band_agreement(*pair, bands)
    first, second = (bands.assign(values) for values in pair)
    assert sum(map(sum, found.table)) == len(first)
    assert found.share_agreeing == pytest.approx(np.mean(first == second))
    if found.kappa.value is None:
        assert len({*first.tolist(), *second.tolist()}) == 1
        return
    assert found.kappa.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-9)
    if found.kappa.low is not None and found.kappa.high is not None:
        assert -1 <= found.kappa.low <= found.kappa.value <= found.kappa.high <= 1
    else:
        assert found.kappa.note


def test_bands_at_their_edges() -> None:
    values = np.array([0, 5, 5.1, 19.9, 20, 29.9, 30, 100])
    assert IKWG_BANDS.assign(values).tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert CUT_20.assign(values).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([10, 20, 30], [10, 20, 30], 1.0),
        ([10, 20, 30], [20, 30, 40], 2 / 3),
    ],
)
def test_a_difference_that_is_the_same_everywhere_has_no_interval(
    first: list[float], second: list[float], expected: float
) -> None:
    found = intraclass_correlation(np.array([first, second], np.float64).T)
    assert found.value == pytest.approx(expected)
    assert (found.low, found.high) == (None, None)
    assert "no interval" in found.note


def test_what_is_not_defined_is_none_and_says_why() -> None:
    alike = np.full(5, 12.0)
    assert intraclass_correlation(np.stack([alike, alike], axis=1)) == Estimate(None, note="every value is the same")
    assert band_agreement(alike, alike, CUT_20).kappa == Estimate(None, note="all values lie in one band")
    apart = band_agreement(alike, alike + 40, CUT_20).kappa
    assert apart.value == 0
    assert "one band throughout" in apart.note
    perfect = band_agreement(np.array([1.0, 10, 50]), np.array([2.0, 11, 51]), IKWG_BANDS).kappa
    assert (perfect.value, perfect.low) == (1.0, None)


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, np.nan], [1.0, np.inf, 2.0]])
def test_columns_that_are_short_or_not_finite_are_refused(values: list[float]) -> None:
    bad = np.array(values)
    with pytest.raises(ValueError, match=r"needed|finite"):
        limits_of_agreement(bad, bad)
    with pytest.raises(ValueError, match=r"needed|finite"):
        intraclass_correlation(np.stack([bad, bad], axis=1))
    with pytest.raises(ValueError, match="one length"):
        limits_of_agreement(np.arange(4.0), np.arange(5.0))
    with pytest.raises(ValueError, match="at least two"):
        intraclass_correlation(np.arange(4.0)[:, None])

"""Stains of a slide, and the chart that shows which slides were stained otherwise."""

from __future__ import annotations

import itertools
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsipsm.scoring.drift import MIN_NUCLEI, MIN_SLIDES, control_chart, stain_statistics

small = st.floats(-1, 1, allow_nan=False, width=32)


@given(st.lists(small, min_size=MIN_SLIDES, max_size=60), st.data(), st.sampled_from([-100.0, 100.0]))
def test_a_planted_outlier_is_flagged_and_does_not_hide(values: list[float], data: st.DataObject, far: float) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    values[place] = far
    assert control_chart(values).outside[place]


@given(
    st.lists(st.integers(-1000, 1000), min_size=MIN_SLIDES, max_size=40),
    st.sampled_from([-4.0, 0.5, 2.0, 16.0]),
    st.integers(-100, 100),
)
def test_flags_do_not_depend_on_the_unit(values: list[int], scale: float, shift: int) -> None:
    row = np.array(values, np.float64)
    before, after = control_chart(row), control_chart(row * scale + shift)
    assert before.centre is not None
    assert after.centre == before.centre * scale + shift
    near_limit = np.isclose(np.abs(row - before.centre), (before.high or 0) - before.centre)
    assert (before.outside == after.outside)[~near_limit].all()


@given(st.lists(small, max_size=MIN_SLIDES - 1), st.integers(0, 20))
def test_few_slides_say_nothing(values: list[float], n_unknown: int) -> None:
    chart = control_chart([*values, *[np.nan] * n_unknown])
    assert (chart.centre, chart.low, chart.high, chart.n_known) == (None, None, None, len(values))
    assert not chart.outside.any()


def test_unknown_values_are_passed_over() -> None:
    known = [1.0, 2.0, 1.5, 9.0, 1.2, 1.8, 1.1, 1.6, 1.3]
    whole, gaps = control_chart(known), control_chart([np.nan, *known[:4], np.nan, *known[4:]])
    assert (gaps.centre, gaps.low, gaps.high) == (whole.centre, whole.low, whole.high)
    assert list(np.flatnonzero(gaps.outside)) == [4]


def test_limits_by_hand() -> None:
    chart = control_chart([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0])  # every step is 1
    assert chart.centre == 0.5
    assert chart.high == pytest.approx(0.5 + 3 / 0.9539, abs=1e-3)
    assert chart.low == pytest.approx(0.5 - 3 / 0.9539, abs=1e-3)


def test_slides_that_are_all_alike_lie_within_their_limits() -> None:
    chart = control_chart([0.25] * 10)
    assert chart.low == chart.high == 0.25
    assert not chart.outside.any()


def test_equal_slides_are_not_told_apart_by_rounding() -> None:
    values = [0.3] * 10 + [0.3001]
    assert control_chart(values).outside[-1]
    assert not control_chart(values, finest=0.002).outside.any()


def test_a_slow_drift_does_not_widen_the_limits_that_show_it() -> None:
    random = np.random.default_rng(3)
    drifting: NDArray[np.float64] = np.linspace(0.2, 0.6, 60) + random.normal(0, 0.01, 60)
    outside = control_chart(drifting).outside
    assert outside[:10].all()
    assert outside[-10:].all()


def test_chance_alone_flags_few() -> None:
    random = np.random.default_rng(4)
    flagged = np.mean([control_chart(random.normal(size=100)).outside.mean() for _ in range(300)])
    assert 0.002 < flagged < 0.008


@pytest.mark.parametrize("values", [[[1.0]], [np.inf] * 9])
def test_what_is_no_row_of_numbers(values: list[float]) -> None:
    with pytest.raises(ValueError, match="in a row"):
        control_chart(values)


def test_medians_by_class() -> None:
    dab = np.r_[np.full(30, 0.1), np.full(25, 0.7), np.nan]
    told = stain_statistics(np.r_[np.full(55, 0.4), np.nan], dab, 0.2, (240.0, 243.0, 246.0))
    assert asdict(told.rounded()) == {
        "hematoxylin_od": 0.4,
        "dab_od": 0.1,
        "dab_od_positive": 0.7,
        "dab_od_negative": 0.1,
        "background_level": 243.0,
    }


def test_too_few_nuclei_have_no_median() -> None:
    dab = np.r_[np.full(MIN_NUCLEI - 1, 0.7), np.full(MIN_NUCLEI, 0.1)]
    told = stain_statistics(dab, dab, 0.2, None)
    assert told.dab_od_positive is None
    assert told.dab_od_negative == 0.1
    assert told.background_level is None


def test_no_dab_on_hematoxylin_and_eosin() -> None:
    told = stain_statistics(np.full(50, 0.4), None, None, None)
    assert (told.hematoxylin_od, told.dab_od, told.dab_od_positive, told.dab_od_negative) == (0.4, None, None, None)


def test_nuclei_without_dab_measurement_count_for_no_class() -> None:
    dab = np.r_[np.full(30, np.nan), np.full(30, 0.7)]
    assert stain_statistics(dab, dab, 0.2, None).dab_od_negative is None


def test_eight_slides_and_twenty_nuclei_are_enough() -> None:
    assert (control_chart([1.0] * 7).centre, control_chart([1.0] * 8).centre) == (None, 1)
    few, enough = (stain_statistics(np.full(n, 0.3), None, None, None).hematoxylin_od for n in (19, 20))
    assert (few, enough) == (None, 0.3)


def test_a_nucleus_at_the_cut_is_positive() -> None:
    told = stain_statistics(np.full(40, 0.3), np.r_[np.full(20, 0.25), np.full(20, 0.2)], 0.25, None)
    assert (told.dab_od_positive, told.dab_od_negative) == (0.25, 0.2)


def test_a_statistic_is_stored_to_four_places() -> None:
    told = stain_statistics(np.full(40, 0.123449), None, None, (240.00006, 240.00006, 240.00006))
    assert told.rounded().hematoxylin_od == 0.1234
    assert told.rounded().background_level == 240.0001


@pytest.mark.parametrize("finest", [0.0, 0.01, 0.3, 2.0])
def test_limits_by_loops(finest: float) -> None:
    random = np.random.default_rng(7)
    values = random.normal(0.4, 0.1, 31).tolist()
    values[4] = values[20] = float("nan")
    known = [value for value in values if value == value]
    steps = sorted(abs(after - before) for before, after in itertools.pairwise(known))
    sigma = max((steps[13] + steps[14]) / 2 / 0.95387, finest)
    chart = control_chart(values, finest=finest)
    assert chart.centre == sorted(known)[14]
    assert (chart.low, chart.high) == pytest.approx((chart.centre - 3 * sigma, chart.centre + 3 * sigma), rel=1e-4)
    assert chart.n_known == 29
    assert chart.outside.tolist() == [value < chart.low or value > chart.high for value in values]

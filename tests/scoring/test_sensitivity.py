"""Index against cut: as many plain counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsipsm.scoring.sensitivity import share_near_cut, threshold_curve

OD = st.floats(0, 2, width=32) | st.just(float("nan"))


@given(arrays(np.float32, st.integers(1, 60), elements=OD), st.lists(st.floats(-1, 3), max_size=8))
def test_curve_is_the_index_at_each_cut(dab_od: np.ndarray, cuts: list[float]) -> None:
    curve = threshold_curve(dab_od, cuts)
    expected = [np.mean(dab_od.astype(float) >= cut) for cut in cuts]
    np.testing.assert_allclose(curve, expected)


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 2)))
def test_curve_only_falls(dab_od: np.ndarray) -> None:
    curve = threshold_curve(dab_od, np.linspace(0, 2, 21))
    assert curve[0] == 1
    assert (np.diff(curve) <= 0).all()


def test_near_is_both_sides_and_its_ends() -> None:
    dab_od = np.array([0.0, 0.25, 0.5, 0.75, 1.0, np.nan, 0.5, 0.25])
    assert share_near_cut(dab_od, 0.5, 0.25) == 5 / 8
    assert share_near_cut(dab_od, 0.5, 0.0) == 2 / 8
    assert share_near_cut(dab_od, 0.52) == 2 / 8


def test_no_nuclei_no_number() -> None:
    assert np.isnan(threshold_curve(np.empty(0), [0.1, 0.2])).all()
    assert np.isnan(share_near_cut(np.empty(0), 0.2))


def test_what_is_no_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="cuts:"):
        threshold_curve(np.zeros(3), [np.nan])
    with pytest.raises(ValueError, match="cuts:"):
        threshold_curve(np.zeros((3, 2)), [0.1])
    with pytest.raises(ValueError, match="within -1"):
        share_near_cut(np.zeros(3), 0.1, -1)

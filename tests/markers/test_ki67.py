"""Bands and threshold: which one, and when the interval does not decide."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsipsm.markers.bands import BandCall
from wsipsm.markers.known.ki67 import MARKER


def bands_of(value: float, low: float, high: float) -> list[BandCall]:
    return [one.call(value, low, high) for one in MARKER.bands]


@pytest.mark.parametrize(
    ("value", "prognostic", "drug"),
    [
        (0.0, "low", "below"),
        (0.05, "low", "below"),
        (0.051, "intermediate", "below"),
        (0.1999, "intermediate", "below"),
        (0.20, "intermediate", "at or above"),
        (0.2999, "intermediate", "at or above"),
        (0.30, "high", "at or above"),
        (1.0, "high", "at or above"),
    ],
)
def test_band_of_a_value(value: float, prognostic: str, drug: str) -> None:
    first, second = bands_of(value, value, value)
    assert (first.band, second.band) == (prognostic, drug)
    assert first.certain
    assert second.certain


@given(st.tuples(*[st.floats(0, 1)] * 3).map(sorted))
def test_certain_means_both_ends_are_in_the_same_band(three: list[float]) -> None:
    low, value, high = three
    ends = zip(bands_of(low, low, low), bands_of(high, high, high), strict=True)
    for call, (at_low, at_high) in zip(bands_of(value, low, high), ends, strict=True):
        assert call.certain == (at_low.band == at_high.band)


def test_wide_interval_tells_every_limit_it_crosses() -> None:
    prognostic, drug = bands_of(0.1, 0.01, 0.6)
    assert prognostic.straddled == (0.05, 0.30)
    assert drug.straddled == (0.20,)


def test_each_says_what_it_is_and_from_where() -> None:
    prognostic, drug = bands_of(0.1, 0.08, 0.12)
    assert "10.1093/jnci/djaa201" in prognostic.reference
    assert "abemaciclib" in drug.name
    stored = orjson.loads(orjson.dumps([prognostic, drug]))
    assert stored[0]["band"] == "intermediate"
    assert stored[1]["certain"] is True


@pytest.mark.parametrize(
    "three", [(0.1, 0.2, 0.3), (0.5, 0.1, 0.4), (0.1, -0.1, 0.2), (0.9, 0.8, 1.5), (20.0, 15.0, 25.0)]
)
def test_what_is_no_interval_is_refused(three: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="fractions"):
        bands_of(*three)


def test_500_nuclei_are_asked_for() -> None:
    assert (MARKER.min_nuclei, "10.1093/jnci/djr393" in MARKER.min_nuclei_reference) == (500, True)

"""Brown in nuclei passes; brown in membranes, around nuclei, or in all nuclei alike is named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.quality.brown import BrownPlace, check_brown, place_brown
from wsipsm.quality.dab_modes import check_modes
from wsipsm.quality.finding import Verdict

MPP, CUT = 0.25, 0.25
ROUND = np.full(60, 0.98)
RAGGED = np.full(60, 0.93)


def place(kind: str, radius_px: int = 14, dab: float = 0.8) -> BrownPlace:
    """Nucleus of one kind of marker, in a box with a margin of 4 um."""
    half = radius_px + 16
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    distance = np.hypot(y, x)
    inside = distance <= radius_px
    brown = {
        "nuclear": inside,
        "membrane": (distance <= radius_px) & (distance > 0.55 * radius_px),
        "cytoplasm": (distance <= radius_px + 14) & ~inside,
        "none": np.zeros_like(inside),
    }[kind]
    dab_od = cv2.GaussianBlur(brown.astype(np.float32) * np.float32(dab), (0, 0), 1.0)
    blue_od = dab_od * np.float32(0.776) + inside.astype(np.float32) * np.float32(0.1)
    return place_brown(inside, np.asarray(blue_od), np.asarray(dab_od), MPP, CUT)


@pytest.mark.parametrize("dab", [0.4, 0.8, 1.4])
@pytest.mark.parametrize("radius_px", [8, 14, 24])
def test_places_of_brown_are_told_apart(dab: float, radius_px: int) -> None:
    nuclear = place("nuclear", radius_px, dab)
    assert (nuclear.is_positive, nuclear.is_hollow, nuclear.is_ringed) == (True, False, False)
    assert place("membrane", radius_px, dab).is_hollow
    cytoplasm = place("cytoplasm", radius_px, dab)
    assert (cytoplasm.is_positive, cytoplasm.is_ringed) == (False, True)
    assert not place("none", radius_px, dab).is_ringed


def verdicts(places: list[BrownPlace], solidity: NDArray[np.float64]) -> dict[str, Verdict]:
    return {finding.name: finding.verdict for finding in check_brown(places, solidity, DEFAULT_MARKER)}


@pytest.mark.parametrize("hollow_share", [0.0, 0.08, 0.15])
def test_nuclear_brown_passes_with_the_hollow_nuclei_that_real_slides_have(hollow_share: float) -> None:
    n_hollow = round(100 * hollow_share)
    places = [place("membrane")] * n_hollow + [place("nuclear")] * (100 - n_hollow) + [place("none")] * 100
    assert set(verdicts(places, RAGGED).values()) == {Verdict.OK}


def test_round_nuclei_may_be_pale_in_the_middle() -> None:
    places = [place("membrane")] * 29 + [place("nuclear")] * 71
    assert verdicts(places, ROUND)["hollow_share"] is Verdict.OK
    assert verdicts(places, RAGGED)["hollow_share"] is Verdict.WITHHOLD


def test_a_membrane_marker_has_no_index() -> None:
    places = [place("membrane")] * 60 + [place("none")] * 60
    assert verdicts(places, ROUND)["hollow_share"] is Verdict.WITHHOLD
    assert verdicts(places, np.full(60, 0.84))["positive_solidity"] is Verdict.WITHHOLD


def test_a_cytoplasmic_marker_has_no_index() -> None:
    assert verdicts([place("cytoplasm")] * 60 + [place("none")] * 60, ROUND)["ringed_share"] is Verdict.WITHHOLD


def test_few_nuclei_are_not_judged() -> None:
    assert set(verdicts([place("membrane")] * 19, ROUND[:19]).values()) == {Verdict.UNKNOWN}
    # Of a few more, a high share may be chance.
    assert verdicts([place("membrane")] * 6 + [place("nuclear")] * 16, RAGGED)["hollow_share"] is Verdict.OK


def level(mean: float, spread: float, n: int) -> NDArray[np.float64]:
    return np.maximum(np.random.default_rng(0).normal(mean, spread, n), 0)


def modes(*parts: NDArray[np.float64], cut: float = CUT) -> dict[str, Verdict]:
    return {finding.name: finding.verdict for finding in check_modes(np.concatenate(parts), cut)}


@pytest.mark.parametrize("positive", [0.45, 0.7, 1.1])
@pytest.mark.parametrize("negative", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_two_modes_pass(positive: float, negative: float, share: float) -> None:
    found = modes(level(positive, 0.05, round(200 * share)), level(negative, 0.02, round(200 * (1 - share))))
    assert set(found.values()) == {Verdict.OK}


@pytest.mark.parametrize(("mean", "spread"), [(0.25, 0.06), (0.28, 0.1), (0.35, 0.12)])
def test_one_brown_mode_that_is_cut_in_two_is_flagged(mean: float, spread: float) -> None:
    assert modes(level(mean, spread, 300))["negative_level"] is Verdict.FLAG


def test_one_pale_mode_that_is_cut_in_two_is_flagged() -> None:
    assert modes(level(0.1, 0.02, 300), cut=0.1)["dab_gap_od"] is Verdict.FLAG


def test_all_negative_and_all_positive_slides_are_not_judged() -> None:
    assert modes(level(0.03, 0.01, 300))["dab_gap_od"] is Verdict.UNKNOWN
    assert modes(level(0.8, 0.1, 300))["negative_level"] is Verdict.UNKNOWN

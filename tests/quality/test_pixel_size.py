"""The pixel size is judged by what a network finds at several assumed sizes."""

from __future__ import annotations

import numpy as np
import pytest

from wsipsm.quality.finding import Verdict
from wsipsm.quality.pixel_size import (
    FLAG_OCTAVES,
    STEPS,
    PatchSeen,
    check_pixel_size,
    check_statements,
    estimate_octaves,
    unchecked_pixel_size,
)
from wsipsm.quality.ruler import Ruler
from wsipsm.slide.pixel_size import StatedMpp, choose_mpp

LINEAR = Ruler("0" * 64, np.zeros(6), np.ones(6), np.array([1.0, 0, 0, 0, 0, 0]), 0.0)
"""Reads the octaves off the first figure."""


def seen(place: int, octaves: float, score: float = 0.3) -> list[PatchSeen]:
    """A place that lies some octaves above what is stated, seen at every step."""
    described = [np.array([[octaves - step, 0], [0, 0], [0, 0]], np.float32) for step in STEPS]
    return [PatchSeen(place, step, one, score) for step, one in zip(STEPS, described, strict=True)]


@pytest.mark.parametrize("octaves", [0.0, 1.0, -1.4, 2.0])
def test_every_step_tells_the_same_octaves(octaves: float) -> None:
    assert estimate_octaves(seen(0, octaves), LINEAR) == pytest.approx(octaves, abs=1e-6)


def test_the_mean_of_the_places_counts() -> None:
    assert estimate_octaves(seen(0, 1.0) + seen(1, 0.0), LINEAR) == pytest.approx(0.5, abs=1e-6)


def test_a_place_without_nuclei_does_not_count() -> None:
    assert estimate_octaves(seen(0, 1.0) + seen(1, -2.0, score=0.01), LINEAR) == pytest.approx(1.0, abs=1e-6)


def test_a_place_counts_where_any_step_shows_nuclei() -> None:
    first, *rest = seen(0, 1.0, score=0.01)
    shown = PatchSeen(first.place, first.step, first.described, 0.3)
    assert estimate_octaves([shown, *rest], LINEAR) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("patches", [[], seen(0, 1.0, score=0.01)])
def test_no_nuclei_are_unknown(patches: list[PatchSeen]) -> None:
    assert estimate_octaves(patches, LINEAR) is None
    finding = check_pixel_size(None, 0.25, "--mpp")
    assert finding.verdict == Verdict.UNKNOWN
    assert "0.25 um/px (--mpp)" in finding.text


@pytest.mark.parametrize(
    ("octaves", "verdict"), [(0.0, "ok"), (0.6, "ok"), (-0.6, "ok"), (1.1, "flag"), (-1.3, "flag")]
)
def test_a_wrong_pixel_size_is_flagged_with_the_size_that_fits(octaves: float, verdict: str) -> None:
    finding = check_pixel_size(octaves, 0.5, "Aperio metadata")
    assert finding.verdict == verdict
    assert finding.value == pytest.approx(0.5 * 2**octaves, rel=1e-3)
    assert finding.low == pytest.approx(0.5 / 2**FLAG_OCTAVES, rel=1e-3)
    assert finding.high == pytest.approx(0.5 * 2**FLAG_OCTAVES, rel=1e-3)
    if verdict == "flag":
        assert f"about {finding.value:.2g} um/px" in finding.text
        assert "--mpp" in finding.text


def test_contradicting_statements_are_flagged_where_the_picture_does_not_decide() -> None:
    stated = [StatedMpp("Aperio metadata", 0.5), StatedMpp("TIFF resolution tags", 0.25)]
    _, statements = choose_mpp(stated, given=None)
    flagged = check_statements(statements, unchecked_pixel_size(0.5, "too few nuclei"))
    assert flagged is not None
    assert flagged.verdict == Verdict.FLAG
    assert "0.5 um/px" in flagged.text
    assert "0.25 um/px" in flagged.text
    assert check_statements(statements, check_pixel_size(0.1, 0.5, "Aperio metadata")) is None
    _, given = choose_mpp(stated, given=0.25)
    assert check_statements(given, unchecked_pixel_size(0.25, "too few nuclei")) is None

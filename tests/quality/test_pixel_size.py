"""The pixel size is judged by what a network finds at several assumed sizes."""

from __future__ import annotations

import numpy as np
import pytest

from wsipsm.keys import Stain
from wsipsm.models.registry import DEFAULT_MODELS, resolve_model
from wsipsm.quality.finding import Verdict
from wsipsm.quality.pixel_size import (
    NEAR_STEPS,
    RULERS,
    STEPS,
    NucleiSeen,
    check_pixel_size,
    check_statements,
    estimate_octaves,
    features,
    pool,
    see_nuclei,
    unchecked_pixel_size,
)
from wsipsm.slide.pixel_size import StatedMpp, judge_statements


def seen(n: int, area_um2: float = 40.0) -> NucleiSeen:
    return NucleiSeen(np.full(n, area_um2), np.full(n, 0.9), np.full(n, 0.8), 20_000.0)


@pytest.mark.parametrize("stain", list(Stain))
def test_rulers_are_fitted_for_the_shipped_weights(stain: Stain) -> None:
    assert RULERS[stain].sha256 == resolve_model(DEFAULT_MODELS[stain])[1].sha256
    assert [len(row) for row in RULERS[stain].weights] == [len(features(seen(3)))] * 3


def test_only_whole_compact_nuclei_are_measured() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 10:20] = 1
    labels[0:8, 30:38] = 2
    labels[25:37, 10:12] = labels[25:27, 12:24] = 3
    found = see_nuclei(labels, np.full((40, 40), 0.75, np.float32), np.full((40, 40), 0.5, np.float32), 0.5)
    assert found.area_um2.tolist() == [25.0]
    assert found.probability.tolist() == [0.75]
    assert found.searched_um2 == 400.0


def test_features_do_not_depend_on_how_many_patches_are_pooled() -> None:
    assert features(pool([seen(20), seen(20)])) == pytest.approx(features(seen(20)))
    assert features(pool([])) == features(seen(0))


def test_too_few_nuclei_are_unknown() -> None:
    assert estimate_octaves({step: seen(2) for step in STEPS}, RULERS[Stain.HE]) is None
    finding = check_pixel_size(None, 0.25, "--mpp")
    assert finding.verdict == Verdict.UNKNOWN
    assert "0.25 um/px (--mpp)" in finding.text


@pytest.mark.parametrize("stain", list(Stain))
def test_larger_nuclei_mean_a_smaller_pixel(stain: Stain) -> None:
    counts, areas = (60, 50, 25), (15.0, 40.0, 90.0)

    def estimate(factor: float) -> float:
        steps = {step: seen(n, area * factor) for step, n, area in zip(NEAR_STEPS, counts, areas, strict=True)}
        octaves = estimate_octaves(steps, RULERS[stain])
        assert octaves is not None
        return octaves

    assert estimate(2.0) < estimate(1.0) < estimate(0.5)


@pytest.mark.parametrize(
    ("octaves", "verdict"), [(0.0, "ok"), (0.6, "ok"), (-0.6, "ok"), (1.1, "flag"), (-1.3, "flag")]
)
def test_a_wrong_pixel_size_is_flagged_with_the_size_that_fits(octaves: float, verdict: str) -> None:
    finding = check_pixel_size(octaves, 0.5, "Aperio metadata")
    assert finding.verdict == verdict
    assert finding.value == pytest.approx(0.5 * 2**octaves, rel=1e-3)
    assert finding.low == pytest.approx(0.5 / 2**0.9, rel=1e-3)
    assert finding.high == pytest.approx(0.5 * 2**0.9, rel=1e-3)
    if verdict == "flag":
        assert f"about {finding.value:.2g} um/px" in finding.text
        assert "--mpp" in finding.text


def test_contradicting_statements_are_flagged_where_the_picture_does_not_decide() -> None:
    stated = [StatedMpp("Aperio metadata", 0.5), StatedMpp("TIFF resolution tags", 0.25)]
    _, statements = judge_statements(stated, given=None)
    flagged = check_statements(statements, unchecked_pixel_size(0.5, "too few nuclei"))
    assert flagged is not None
    assert flagged.verdict == Verdict.FLAG
    assert "0.5 um/px" in flagged.text
    assert "0.25 um/px" in flagged.text
    assert check_statements(statements, check_pixel_size(0.1, 0.5, "Aperio metadata")) is None
    _, given = judge_statements(stated, given=0.25)
    assert check_statements(given, unchecked_pixel_size(0.25, "too few nuclei")) is None

"""Background, decision, vectors and cut, written once more pixel by pixel, agree on samples of every kind."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from wsipsm.keys import Stain
from wsipsm.stain import (
    REFERENCE_DAB,
    REFERENCE_EOSIN,
    REFERENCE_HEMATOXYLIN,
    _fit_dab_cut,
    detect_stain,
    estimate_background,
    fit_stain_profile,
    optical_density,
    reference_amounts,
    separate,
)

Pixels = NDArray[np.uint8]


def drawn(seed: int, n: int = 4000) -> Pixels:
    """Glass of any tint, hematoxylin with eosin or DAB in any strength and share, black specks and white padding."""
    random = np.random.default_rng(seed)
    glass = random.uniform(150, 250) + random.uniform(-12, 12, 3) * (seed % 2)
    second = (REFERENCE_DAB, REFERENCE_EOSIN)[seed % 3 == 0]
    amounts = np.zeros((n, 2))
    stained, other = (
        random.random(n) < random.uniform(0.05, 0.8),
        random.random(n) < random.choice([0.0, 0.02, 0.3, 0.8]),
    )
    amounts[stained, 0] = random.gamma(4, random.uniform(0.05, 0.2), stained.sum())
    amounts[stained & other, 1] = random.gamma(6, random.uniform(0.03, 0.2), (stained & other).sum())
    grey = (glass + 1) * 10 ** -(amounts @ np.array([REFERENCE_HEMATOXYLIN, second])) - 1 + random.normal(0, 2, (n, 3))
    pixels = np.clip(grey, 0, 255).round().astype(np.uint8)
    pixels[: n // 50] = random.integers(0, 12, (n // 50, 3))
    pixels[n // 2 : n // 2 + int(random.choice([0, n // 10]))] = 255
    return random.permutation(pixels)


def background_of(pixels: Pixels) -> tuple[list[float], bool]:
    kept = pixels.tolist()
    white = [pixel for pixel in kept if pixel == [255, 255, 255]]
    near = [pixel for pixel in kept if min(pixel) >= 250 and pixel != [255, 255, 255]]
    if white and len(near) < 0.1 * len(white):
        if len(white) == len(kept):
            return [255.0] * 3, True
        kept = [pixel for pixel in kept if pixel != [255, 255, 255]]
    means = [sum(pixel) / 3 for pixel in kept]
    bound = float(np.percentile(means, 99)) - 10
    brightest = np.array([pixel for pixel, mean in zip(kept, means, strict=True) if mean >= bound - 1e-9])
    median = [float(np.median(brightest[:, channel])) for channel in range(3)]
    if sum(median) / 3 >= 200 and max(median) - min(median) <= 35:
        return median, True
    spreads = [float(np.std(brightest[:, k].astype(float) - brightest[:, k + 1])) for k in (0, 1)]
    is_even = len(brightest) >= 0.15 * len(kept) and max(median) >= 200 and median[1] >= min(median[0], median[2])
    if is_even and spreads[0] <= 3.5 and spreads[1] <= 5:
        return median, True
    return [245.0] * 3, False


def densities(pixels: Pixels, background: list[float]) -> NDArray[np.float64]:
    rows = [
        [
            min(max(-math.log10((level + 1) / (glass + 1)), 0), 1.6)
            for level, glass in zip(pixel, background, strict=True)
        ]
        for pixel in pixels.tolist()
    ]
    return np.array(rows)


def is_brown(od: list[float]) -> bool:
    return (od[2] - max(od[0], od[1])) / sum(od) > 0.02


@pytest.mark.parametrize("seed", range(40))
def test_background_and_decision_by_hand(seed: int) -> None:
    pixels = drawn(seed, 1500)
    background, is_seen = background_of(pixels)
    found, seen = estimate_background(pixels)
    assert (list(found), seen) == (background, is_seen)
    # What is as dark as can be told says nothing about hue.
    stained = [od for od in densities(pixels, background).tolist() if sum(od) > 0.2 and max(od) < 1.6]
    decision = detect_stain(pixels)
    if len(stained) < 300:
        assert (decision.stain, decision.is_certain) == (Stain.HE, False)
        assert f"only {len(stained)} stained pixels in a sample of 1500:" in decision.reason
        return
    n_pink = 0
    for od in stained:
        red, green, blue = (value / sum(od) for value in od)
        excess = green - max(red, blue)
        n_pink += (excess > 0.12 and blue - red > -0.05) or excess > 0.25
    pink, brown = n_pink / len(stained), sum(map(is_brown, stained)) / len(stained)
    assert decision.is_certain
    assert decision.stain is (Stain.HE if pink - brown > 0.15 else Stain.IHC)
    # A pixel at a cut of hue may fall on either side with float32.
    told = [float(word.rstrip("%")) / 100 for word in decision.reason.split() if word.endswith("%")]
    assert told == pytest.approx([pink, brown], abs=0.0015)


@pytest.mark.parametrize(("n", "is_certain"), [(299, False), (300, True)])
def test_three_hundred_stained_pixels_are_enough(n: int, is_certain: bool) -> None:
    pixels = np.concatenate([np.full((2000, 3), 240), np.tile([120, 100, 180], (n, 1)), np.full((500, 3), 0)])
    assert detect_stain(pixels.astype(np.uint8)).is_certain is is_certain


def unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / math.sqrt(float((values**2).sum()))


def angle_deg(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return math.degrees(math.acos(min(1.0, float(unit(one) @ unit(other)))))


def ends_of_the_main_plane(od: NDArray[np.float64], stain: Stain) -> list[NDArray[np.float64]]:
    centred = od - od.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    first, second = (axis if axis[0] >= 0 else -axis for axis in axes[:2])
    angles = np.percentile([math.atan2(pixel @ second, pixel @ first) for pixel in od], (1, 99))
    ends = [unit(math.cos(angle) * first + math.sin(angle) * second) for angle in angles]
    return sorted(ends, key=lambda end: end[2] - end[0] if stain is Stain.IHC else -end[0])


def vectors_by_hand(od: NDArray[np.float64], stain: Stain) -> tuple[list[NDArray[np.float64]], int]:
    """Vectors, and how many notes were made on them."""
    references = [np.array(REFERENCE_HEMATOXYLIN), np.array(REFERENCE_DAB if stain is Stain.IHC else REFERENCE_EOSIN)]
    usable = np.array([pixel for pixel in od.tolist() if sum(pixel) > 0.45 and max(pixel) < 1.5])
    if len(usable) < 300 or (stain is Stain.IHC and np.mean([is_brown(pixel) for pixel in usable.tolist()]) < 0.015):
        return references, 1
    fitted = ends_of_the_main_plane(usable, stain)
    is_far = [angle_deg(own, other) > 30 for own, other in zip(fitted, references, strict=True)]
    kept = [other if far else own for own, other, far in zip(fitted, references, is_far, strict=True)]
    if angle_deg(*kept) < 12:
        return references, sum(is_far) + 1
    return kept, sum(is_far)


def cut_by_hand(amounts: NDArray[np.float64]) -> float:
    dab = np.array([brown for blue, brown in amounts.tolist() if max(blue, 0) + max(brown, 0) > 0.15])
    if len(dab) < 300 or np.mean(dab > 0.2) < 0.015:
        return 0.2
    cut = float(threshold_otsu(np.clip(dab, 0, 0.45)))
    if cut < 0.1:
        return 0.2
    by_ratio = math.exp(float(threshold_otsu(np.log(np.clip(dab, 0, 1.6) + 0.07)))) - 0.07
    brown = dab[dab > by_ratio]
    if len(brown) == 0 or np.median(brown) < 1.6 * by_ratio:
        return cut
    return min(cut, max(0.1, by_ratio))


@pytest.mark.parametrize("stain", list(Stain))
@pytest.mark.parametrize("seed", range(30))
def test_fit_by_hand(seed: int, stain: Stain) -> None:
    pixels = drawn(seed)
    background, is_seen = background_of(pixels)
    vectors, n_notes = vectors_by_hand(densities(pixels, background), stain)
    profile = fit_stain_profile(pixels, stain, seed)
    assert list(profile.background) == background
    assert bool(profile.glass_notes) is not is_seen
    assert profile.hematoxylin == pytest.approx(vectors[0], abs=2e-3)
    assert profile.counterstain == pytest.approx(vectors[1], abs=2e-3)
    assert len([note for note in profile.notes if "vector" in note]) == n_notes
    assert (profile.n_pixels, profile.seed, profile.stain) == (4000, seed, stain)
    if stain is Stain.HE:
        assert profile.dab_cut_od is None
        return
    residual = unit(np.cross(profile.hematoxylin, profile.counterstain))
    rows = np.array([profile.hematoxylin, profile.counterstain, residual])
    amounts = densities(pixels, background) @ np.linalg.inv(rows)[:, :2]
    # Otsu's cut is a middle of one of 256 bins, which float32 may move by one.
    assert profile.dab_cut_od == pytest.approx(cut_by_hand(amounts), abs=0.005)
    assert profile.dab_cut_od == round(profile.dab_cut_od, 4)
    found = np.stack([plane[0] for plane in separate(pixels[None], profile)], 1)
    assert found == pytest.approx(np.maximum(amounts, 0), abs=1e-4)


def test_of_a_large_sample_each_chosen_pixel_is_taken_once() -> None:
    pixels = np.concatenate([drawn(seed, 10_000) for seed in range(1, 22)])
    chosen = np.sort(np.random.default_rng(7).choice(len(pixels), 200_000, replace=False))
    found, expected = fit_stain_profile(pixels, Stain.IHC, 7), fit_stain_profile(pixels[chosen], Stain.IHC, 7)
    assert found == replace(expected, n_pixels=210_000)
    # Where all are taken, the seed chooses nothing.
    one, other = (fit_stain_profile(pixels[:200_000], Stain.IHC, seed) for seed in (7, 8))
    assert replace(other, seed=7) == one


def test_amounts_by_the_references() -> None:
    od = optical_density(drawn(4, 200), (240.0, 240.0, 240.0))
    residual = unit(np.cross(REFERENCE_HEMATOXYLIN, REFERENCE_DAB))
    rows = np.array([REFERENCE_HEMATOXYLIN, REFERENCE_DAB, residual])
    found = reference_amounts(od)
    assert found.dtype == np.float32
    # What remains lies across both stains.
    rest = od - found @ rows[:2]
    assert np.abs(np.cross(rest, residual)).max() < 1e-5


@pytest.mark.parametrize(("n_pink", "stain"), [(59, Stain.IHC), (60, Stain.IHC), (61, Stain.HE)])
def test_more_than_the_cut_must_be_pink(n_pink: int, stain: Stain) -> None:
    pink, blue = [230, 90, 190], [120, 100, 180]
    pixels = np.concatenate([np.full((4000, 3), 240), np.tile(pink, (n_pink, 1)), np.tile(blue, (400 - n_pink, 1))])
    decision = detect_stain(pixels.astype(np.uint8))
    assert f"{n_pink / 400:.1%} of the stained pixels are pink" in decision.reason
    assert "and 0.0% brown" in decision.reason
    assert decision.stain is stain


@pytest.mark.parametrize(("level", "is_fitted"), [(0.2, False), (0.2001, True)])
def test_brown_begins_above_qupaths_cut(level: float, is_fitted: bool) -> None:
    dab = np.concatenate([np.linspace(0.02, 0.19, 1000), np.full(400, level)]).astype(np.float32)
    notes: list[str] = []
    cut = _fit_dab_cut(np.full(1400, 0.5, np.float32), dab, notes)
    assert (cut != 0.2, notes == []) == (is_fitted, is_fitted)


def test_hematoxylin_is_the_end_that_is_red_against_blue_however_blue_it_is() -> None:
    """Here with more of red and blue together than DAB has."""
    hematoxylin = unit(np.array([0.75, 0.5, 0.43]))
    random = np.random.default_rng(2)
    is_brown_one = random.random(6000) < 0.4
    amounts = np.stack([np.where(is_brown_one, 0.1, 0.5), np.where(is_brown_one, 0.7, 0.0)], 1)
    amounts *= random.normal(1, 0.1, (6000, 1))
    grey = 241 * 10 ** -(amounts @ np.array([hematoxylin, REFERENCE_DAB])) - 1 + random.normal(0, 1.5, (6000, 3))
    pixels = np.concatenate([np.full((6000, 3), 240.0), grey]).clip(0, 255).round().astype(np.uint8)
    profile = fit_stain_profile(pixels, Stain.IHC, 0)
    assert angle_deg(np.array(profile.hematoxylin), hematoxylin) < 6
    assert angle_deg(np.array(profile.counterstain), np.array(REFERENCE_DAB)) < 8

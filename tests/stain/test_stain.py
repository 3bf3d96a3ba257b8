"""Stains: hue tells them apart, vectors and cut are found again, unmixing agrees with scikit-image."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter
from skimage.color import hdx_from_rgb, separate_stains
from skimage.data import immunohistochemistry

from wsipsm.keys import Stain
from wsipsm.stain import (
    DEFAULT_DAB_CUT_OD,
    FALLBACK_BACKGROUND,
    OD_CAP,
    REFERENCE_DAB,
    REFERENCE_EOSIN,
    REFERENCE_HEMATOXYLIN,
    StainProfile,
    Vector,
    detect_stain,
    estimate_background,
    fit_stain_profile,
    optical_density,
    separate,
)
from wsipsm.text import clean_json

GLASS: Vector = (240.0, 238.0, 236.0)


def drawn_pixels(
    second: Vector, share: float, n: int = 60_000, strength: float = 0.8, hematoxylin: Vector = REFERENCE_HEMATOXYLIN
) -> NDArray[np.uint8]:
    """Half glass, then nuclei of hematoxylin, of which a share carries the second stain instead of most of it."""
    rng = np.random.default_rng(1)
    stained = rng.random(n) < 0.5
    other = stained & (rng.random(n) < share)
    amounts = np.zeros((n, 2))
    amounts[stained, 0] = rng.normal(0.5, 0.1, stained.sum())
    amounts[other] = np.stack([rng.normal(0.1, 0.03, other.sum()), rng.normal(strength, 0.15, other.sum())], axis=1)
    od = np.maximum(amounts, 0) @ np.array([hematoxylin, second])
    grey = (np.array(GLASS) + 1) * 10**-od - 1 + rng.normal(0, 1.5, (n, 3))
    return np.clip(grey, 0, 255).round().astype(np.uint8)


def angle_deg(first: Vector, second: Vector) -> float:
    cosine = np.dot(first, second) / np.linalg.norm(first) / np.linalg.norm(second)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def reference_profile() -> StainProfile:
    return StainProfile(Stain.IHC, (255.0,) * 3, REFERENCE_HEMATOXYLIN, REFERENCE_DAB, 0.2, 0, 0, ())


@given(hnp.arrays(np.uint8, (5, 3)), st.floats(1, 255))
def test_optical_density_is_the_capped_logarithm(rgb: NDArray[np.uint8], level: float) -> None:
    expected = np.clip(-np.log10((rgb.astype(float) + 1) / (level + 1)), 0, OD_CAP)
    np.testing.assert_allclose(optical_density(rgb, (level,) * 3), expected, atol=1e-6)


def test_grey_levels_up_to_five_are_equally_black() -> None:
    """There noise and JPEG decide; every level above is told from the next."""
    od = optical_density(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1), (255.0,) * 3)
    assert (od[:6] == od[0]).all()
    assert (np.diff(od[5:], axis=0) < 0).all()
    assert od[255].tolist() == [0, 0, 0]


def test_optical_density_takes_every_shape() -> None:
    rgb = np.full((4, 6, 3), 100, np.uint8)
    assert optical_density(rgb[::2, 1:], GLASS).shape == (2, 5, 3)
    assert optical_density(np.empty((0, 3), np.uint8), GLASS).shape == (0, 3)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.4, 0.9])
def test_dab_and_blue_alone_are_ihc(share: float) -> None:
    decision = detect_stain(drawn_pixels(REFERENCE_DAB, share))
    assert decision.stain is Stain.IHC
    assert "%" in decision.reason


@pytest.mark.parametrize("strength", [0.2, 0.8])
def test_pale_blue_alone_is_ihc(strength: float) -> None:
    pixels = drawn_pixels(REFERENCE_DAB, 0.0)
    od = -np.log10((pixels + 1.0) / (np.array(GLASS) + 1)) * strength
    pale = np.clip((np.array(GLASS) + 1) * 10**-od - 1, 0, 255).round().astype(np.uint8)
    assert detect_stain(pale).stain is Stain.IHC


def test_eosin_is_he() -> None:
    assert detect_stain(drawn_pixels(REFERENCE_EOSIN, 0.6)).stain is Stain.HE


def test_too_few_stained_pixels_are_told() -> None:
    decision = detect_stain(np.full((5000, 3), 240, np.uint8))
    assert decision.stain is Stain.HE
    assert "too few" in decision.reason
    assert detect_stain(np.empty((0, 3), np.uint8)).stain is Stain.HE


def test_scikit_image_ihc_is_ihc() -> None:
    assert detect_stain(immunohistochemistry().reshape(-1, 3)).stain is Stain.IHC


def test_every_he_image_is_he(data_dir: Path) -> None:
    for path in sorted((data_dir / "monuseg" / "train" / "images").glob("*.tif")):
        decision = detect_stain(tifffile.imread(path)[::3, ::3, :3].reshape(-1, 3))
        assert decision.stain is Stain.HE, (path, decision.reason)


def test_every_ki67_image_is_ihc(data_dir: Path) -> None:
    folder = data_dir / "ki67"
    paths = [*folder.glob("bcdata/images/test/*.png"), *folder.glob("*/*.jpg")]
    assert len(paths) > 30
    for path in sorted(paths):
        decision = detect_stain(np.asarray(Image.open(path).convert("RGB"))[::3, ::3].reshape(-1, 3))
        assert decision.stain is Stain.IHC, (path, decision.reason)


def test_background_is_the_glass() -> None:
    background, seen = estimate_background(drawn_pixels(REFERENCE_DAB, 0.3))
    assert seen
    np.testing.assert_allclose(background, GLASS, atol=1.5)


def test_white_padding_is_no_glass() -> None:
    padded = np.concatenate([drawn_pixels(REFERENCE_DAB, 0.3), np.full((200_000, 3), 255, np.uint8)])
    np.testing.assert_allclose(estimate_background(padded)[0], GLASS, atol=1.5)


def test_background_of_dark_pixels_falls_back() -> None:
    dark = np.random.default_rng(0).integers(0, 150, (5000, 3)).astype(np.uint8)
    assert estimate_background(dark) == (FALLBACK_BACKGROUND, False)
    assert estimate_background(np.empty((0, 3), np.uint8)) == (FALLBACK_BACKGROUND, False)
    assert "245" in fit_stain_profile(dark, Stain.HE, 0).notes[0]


@pytest.mark.parametrize(("stain", "second"), [(Stain.IHC, REFERENCE_DAB), (Stain.HE, REFERENCE_EOSIN)])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_fit_finds_drawn_vectors(stain: Stain, second: Vector, share: float) -> None:
    """Whichever stain has most pixels, and so whichever way the main plane is turned."""
    profile = fit_stain_profile(drawn_pixels(second, share), stain, seed=3)
    assert angle_deg(profile.hematoxylin, REFERENCE_HEMATOXYLIN) < 5
    assert angle_deg(profile.counterstain, second) < 5
    assert np.linalg.norm(profile.hematoxylin) == pytest.approx(1)
    assert profile.notes == ()


def test_cut_lies_between_drawn_classes_and_ignores_how_dark_the_positives_are() -> None:
    cuts = []
    for strength in (0.5, 0.8, 1.6):
        profile = fit_stain_profile(drawn_pixels(REFERENCE_DAB, 0.3, strength=strength), Stain.IHC, 0)
        assert profile.dab_cut_od is not None
        cuts.append(profile.dab_cut_od)
    assert min(cuts) >= 0.1
    assert max(cuts) < 0.35
    assert max(cuts) - min(cuts) < 0.06


def spread_nuclei(strength: float, share: float = 0.2, haze: float = 0.03) -> tuple[NDArray[np.float64], Any]:
    """Amounts of DAB in pixels of nuclei, positives from weak to strong, and which of them are positive."""
    rng = np.random.default_rng(3)
    positive = rng.random(40_000) < share
    amounts = np.abs(rng.normal(0, haze, len(positive)))
    amounts[positive] += strength * rng.uniform(0.25, 1.5, positive.sum())
    return amounts, positive


@pytest.mark.parametrize("share", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("strength", [0.3, 0.4, 0.5, 0.6, 1.0, 1.3, 1.6])
def test_cut_follows_the_strength_of_dab(strength: float, share: float) -> None:
    """At 0.3 to 1.6 times the stain as many are called positive: a cut that stays would lose every third weak one."""
    amounts, positive = spread_nuclei(strength, share)
    cut = fit_stain_profile(drawn_from_amounts(amounts), Stain.IHC, 0).dab_cut_od
    assert cut is not None
    assert abs(np.mean(amounts >= cut) - positive.mean()) < 0.03


@pytest.mark.parametrize("width", [0.2, 0.35, 0.5])
def test_cut_does_not_fall_into_haze(width: float) -> None:
    """Brown haze of one kind with few true positives: the ratio of pixels divides haze in its middle."""
    rng = np.random.default_rng(4)
    amounts = np.concatenate([0.1 * np.exp(rng.normal(0, width, 20_000)), rng.normal(0.6, 0.1, 500)])
    cut = fit_stain_profile(drawn_from_amounts(amounts), Stain.IHC, 0).dab_cut_od
    assert cut is not None
    assert np.mean(amounts[:20_000] >= cut) < 0.1


def test_without_brown_the_references_are_taken_and_noted() -> None:
    profile = fit_stain_profile(drawn_pixels(REFERENCE_DAB, 0.001), Stain.IHC, 0)
    assert profile.hematoxylin == REFERENCE_HEMATOXYLIN
    assert profile.counterstain == REFERENCE_DAB
    assert profile.dab_cut_od == DEFAULT_DAB_CUT_OD
    assert any("Ruifrok" in note for note in profile.notes)
    assert any("QuPath" in note for note in profile.notes)


def test_implausible_vector_falls_back_on_its_own() -> None:
    green_ink: Vector = (0.9, 0.1, 0.42)
    profile = fit_stain_profile(drawn_pixels(green_ink, 0.5), Stain.HE, 0)
    assert any("degrees" in note for note in profile.notes)
    assert profile.counterstain == REFERENCE_EOSIN or profile.hematoxylin == REFERENCE_HEMATOXYLIN


def test_fit_depends_on_the_seed_alone() -> None:
    pixels = drawn_pixels(REFERENCE_DAB, 0.3, n=250_000)
    first, again, other = (fit_stain_profile(pixels, Stain.IHC, seed) for seed in (5, 5, 6))
    assert first == again
    assert first.seed != other.seed
    assert angle_deg(first.counterstain, other.counterstain) < 1


def test_profile_survives_json() -> None:
    for stain, second in ((Stain.IHC, REFERENCE_DAB), (Stain.HE, REFERENCE_EOSIN)):
        profile = fit_stain_profile(drawn_pixels(second, 0.001), stain, 7)
        assert TypeAdapter(StainProfile).validate_json(orjson.dumps(clean_json(profile))) == profile


def test_separate_agrees_with_scikit_image() -> None:
    rgb = immunohistochemistry()
    hematoxylin, dab = separate(rgb, reference_profile())
    # scikit-image's unit is the density of 1e-6, ours is the decade; its rows are not of unit length.
    theirs = separate_stains((rgb + 1.0) / 256, hdx_from_rgb) * 6
    lengths = np.linalg.norm([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]], axis=1)
    ordinary = (rgb > 10).all(axis=2)
    np.testing.assert_allclose(hematoxylin[ordinary], theirs[ordinary][:, 0] * lengths[0], atol=2e-2)
    np.testing.assert_allclose(dab[ordinary], theirs[ordinary][:, 1] * lengths[1], atol=2e-2)


@settings(max_examples=30)
@given(st.floats(0.05, 0.8), st.floats(0.05, 0.8))
def test_separate_finds_drawn_amounts(hematoxylin: float, dab: float) -> None:
    od = hematoxylin * np.array(REFERENCE_HEMATOXYLIN) + dab * np.array(REFERENCE_DAB)
    rgb = (256 * 10**-od - 1).round().clip(0, 255).astype(np.uint8).reshape(1, 1, 3)
    found = separate(rgb, reference_profile())
    assert found[0].item() == pytest.approx(hematoxylin, abs=0.05)
    assert found[1].item() == pytest.approx(dab, abs=0.05)


def test_black_pixels_stay_finite_and_positive() -> None:
    hematoxylin, dab = separate(np.zeros((2, 2, 3), np.uint8), reference_profile())
    assert hematoxylin.dtype == dab.dtype == np.float32
    assert 0.5 < dab.min() <= dab.max() < 2 * OD_CAP
    assert hematoxylin.max() < 2 * OD_CAP


def test_separate_does_not_depend_on_where_a_pixel_lies() -> None:
    rgb = immunohistochemistry()
    whole, part = separate(rgb, reference_profile()), separate(rgb[37:238, 11:300], reference_profile())
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[37:238, 11:300], other)


def test_vectors_agree_with_tiatoolbox(data_dir: Path) -> None:
    package = pytest.importorskip("tiatoolbox", exc_type=ImportError)
    # Its file alone: tiatoolbox.tools imports all tools, which ask for umap, transformers and a torchvision that fits.
    file = Path(package.__file__).parent / "tools" / "stainextract.py"
    spec = importlib.util.spec_from_file_location("stainextract_alone", file)
    assert spec is not None
    assert spec.loader is not None
    extract = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extract)
    image = tifffile.imread(data_dir / "monuseg" / "train" / "images" / "TCGA-HE-7128-01Z-00-DX1.tif")
    theirs = extract.MacenkoExtractor().get_stain_matrix(image)
    ours = fit_stain_profile(image.reshape(-1, 3), Stain.HE, 0)
    assert angle_deg(tuple(theirs[0]), ours.hematoxylin) < 10
    assert angle_deg(tuple(theirs[1]), ours.counterstain) < 10


def test_cut_separates_labelled_nuclei(data_dir: Path) -> None:
    """Mean DAB OD in a disk at each labelled point: the fitted cut tells both classes apart on BCData."""
    h5py = pytest.importorskip("h5py")
    folder = data_dir / "ki67" / "bcdata"
    right: dict[str, list[bool]] = {"positive": [], "negative": []}
    offsets = np.argwhere(np.hypot(*np.mgrid[-9:10, -9:10]) <= 9) - 9
    for path in sorted((folder / "images" / "test").glob("*.png")):
        image = np.asarray(Image.open(path).convert("RGB"))
        profile = fit_stain_profile(image.reshape(-1, 3), Stain.IHC, 0)
        dab = np.pad(separate(image, profile)[1], 9, mode="reflect")
        for kind, results in right.items():
            with h5py.File(folder / "annotations" / "test" / kind / f"{path.stem}.h5") as file:
                points = np.asarray(file["coordinates"])[:, ::-1] + 9
            means = dab[tuple((points[:, None] + offsets).transpose(2, 0, 1))].mean(axis=1)
            results += list((means >= profile.dab_cut_od) == (kind == "positive"))
    assert np.mean(right["positive"]) > 0.93
    assert np.mean(right["negative"]) > 0.93


@pytest.mark.parametrize("tint", [(1, 0.9, 0.7), (0.85, 0.95, 1), (0.8, 1, 0.85), (1, 0.85, 0.6)])
def test_tinted_glass_is_seen_for_what_it_is(tint: tuple[float, float, float]) -> None:
    pixels = drawn_pixels(REFERENCE_DAB, 0.3) * np.array(tint)
    background, seen = estimate_background(np.clip(pixels, 0, 255).round().astype(np.uint8))
    assert seen
    assert background == pytest.approx(np.array(GLASS) * np.array(tint), abs=3)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_white_is_the_glass_where_its_neighbours_are_there_too(channel: int) -> None:
    """A lamp so bright that most of the glass is pure white; padding has no neighbours, whatever one channel says."""
    near = np.full((200, 3), 252, np.uint8)
    white = np.full((1000, 3), 255, np.uint8)
    tissue = np.full((800, 3), 120, np.uint8)
    assert estimate_background(np.concatenate([white, near, tissue])) == ((255.0, 255.0, 255.0), True)
    assert estimate_background(white) == ((255.0, 255.0, 255.0), True)
    one_bright = np.full((200, 3), 225, np.uint8)
    one_bright[:, channel] = 252
    found, is_glass = estimate_background(np.concatenate([white, one_bright, tissue]))
    assert is_glass
    assert found == tuple(float(level) for level in one_bright[0])


def test_white_with_few_neighbours_is_padding() -> None:
    white = np.full((1000, 3), 255, np.uint8)
    near, glass = np.full((50, 3), 251, np.uint8), np.full((900, 3), 228, np.uint8)
    assert estimate_background(np.concatenate([white, near, glass]))[0] == (251.0, 251.0, 251.0)
    assert estimate_background(np.concatenate([white, np.repeat(near, 3, axis=0), glass]))[0] == (255.0, 255.0, 255.0)


def of_levels(levels: tuple[float, float, float], noise: float, n: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return np.clip(np.array(levels) + random.normal(0, noise, (n, 3)), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("levels", "noise", "share", "is_glass"),
    [
        ((225, 225, 225), 8, 0.5, True),  # grainy, but grey
        ((225, 225, 225), 8, 0.05, True),
        ((205, 205, 205), 1, 0.5, True),
        ((190, 190, 190), 1, 0.5, False),  # even, but so dim that it may be pale tissue
        ((240, 225, 190), 1, 0.5, True),  # tinted and even
        ((240, 225, 190), 1, 0.05, False),  # tinted, and too little to be the glass
        ((240, 215, 190), 8, 0.5, False),  # tinted and uneven: pale tissue
        ((240, 215, 190), 8, 0.05, False),
        ((230, 225, 200), 8, 0.5, True),  # tinted by less than 35 grey levels
        ((170, 195, 170), 1, 0.5, False),
        ((235, 190, 215), 1, 0.5, False),  # as even as glass, but pink or purple: eosin or pale hematoxylin
        ((240, 185, 200), 2, 0.9, False),
        ((220, 180, 230), 1, 0.3, False),
    ],
)
def test_what_is_taken_for_glass(
    levels: tuple[float, float, float], noise: float, share: float, is_glass: bool
) -> None:
    n_bright = round(20_000 * share)
    tissue = of_levels((90, 70, 120), 10, 20_000 - n_bright)
    found, seen = estimate_background(np.concatenate([of_levels(levels, noise, n_bright), tissue]))
    assert seen is is_glass
    assert found == (pytest.approx(levels, abs=16) if is_glass else FALLBACK_BACKGROUND)


def test_a_decision_is_certain_but_where_too_little_is_stained() -> None:
    assert detect_stain(drawn_pixels(REFERENCE_DAB, 0.3)).is_certain
    assert detect_stain(drawn_pixels(REFERENCE_EOSIN, 0.6)).is_certain
    assert not detect_stain(np.full((5000, 3), 240, np.uint8)).is_certain


def test_each_vector_that_is_replaced_is_named() -> None:
    green_ink: Vector = (0.9, 0.1, 0.42)
    notes = fit_stain_profile(drawn_pixels(green_ink, 0.5), Stain.HE, 0).notes
    assert any("vector: the fit lies" in note and "degrees from Ruifrok's" in note for note in notes)
    alike = fit_stain_profile(drawn_pixels(REFERENCE_HEMATOXYLIN, 0.5), Stain.HE, 0)
    assert any("degrees between both fits" in note for note in alike.notes)
    assert (alike.hematoxylin, alike.counterstain) == (REFERENCE_HEMATOXYLIN, REFERENCE_EOSIN)


def drawn_from_amounts(dab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Glass, and as many pixels of hematoxylin with an amount of DAB in each."""
    od = np.outer(np.full(len(dab), 0.3), REFERENCE_HEMATOXYLIN) + np.outer(dab, REFERENCE_DAB)
    grey = (np.array(GLASS) + 1) * 10**-od - 1
    return np.concatenate([np.tile(np.array(GLASS), (len(dab), 1)), grey]).clip(0, 255).round().astype(np.uint8)


def test_a_cut_that_lies_in_the_haze_is_refused_and_noted() -> None:
    amounts = np.concatenate([np.zeros(12_000), np.full(9000, 0.06), np.full(420, 0.25)])
    profile = fit_stain_profile(drawn_from_amounts(amounts), Stain.IHC, 0)
    assert profile.dab_cut_od == DEFAULT_DAB_CUT_OD
    assert any("the fit gave" in note for note in profile.notes)


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("seed", [0, 1])
def test_stains_of_near_hue_are_told_apart_from_twelve_degrees_on(share: float, seed: int) -> None:
    """Between hematoxylin and eosin as drawn; nearer ones are one stain and its noise."""
    apart = angle_deg(REFERENCE_HEMATOXYLIN, REFERENCE_EOSIN)
    for wanted, is_fitted in ((18.0, True), (7.0, False)):
        along = wanted / apart
        second = (1 - along) * np.array(REFERENCE_HEMATOXYLIN) + along * np.array(REFERENCE_EOSIN)
        drawn: Vector = tuple(second / np.linalg.norm(second))
        profile = fit_stain_profile(drawn_pixels(drawn, share), Stain.HE, seed)
        assert any("degrees between both fits" in note for note in profile.notes) is not is_fitted
        assert (angle_deg(profile.counterstain, drawn) < 6) is is_fitted


@pytest.mark.parametrize("hematoxylin", [(0.55, 0.80, 0.10), (0.58, 0.80, 0.15)])
def test_purple_that_leans_to_red_is_no_eosin(hematoxylin: Vector) -> None:
    """Its green is in excess as eosin's is, and its blue is not."""
    assert detect_stain(drawn_pixels(REFERENCE_DAB, 0.0, hematoxylin=hematoxylin)).stain is Stain.IHC


def test_every_pixel_of_a_small_sample_is_looked_at_for_glass() -> None:
    pixels = np.tile(np.array([[120, 90, 140], [230, 230, 230]], np.uint8), (500, 1))
    assert estimate_background(pixels) == ((230.0, 230.0, 230.0), True)
    assert estimate_background(pixels[::-1]) == ((230.0, 230.0, 230.0), True)


@pytest.mark.parametrize(
    ("red_green", "green_blue", "is_glass"),
    [(3.0, 1.0, True), (4.2, 1.0, False), (1.0, 4.5, True), (1.0, 5.8, False), (4.2, 5.8, False)],
)
def test_tinted_glass_is_of_one_hue(red_green: float, green_blue: float, is_glass: bool) -> None:
    """Between red and green, and between green and blue, whose difference varies as much as is given."""
    first, second = np.random.default_rng(3).normal(0, 1, (2, 10_000, 1))
    noise = first * red_green * [0.5, -0.5, -0.5] + second * green_blue * [0.5, 0.5, -0.5]
    bright = np.clip(np.array([235, 220, 185]) + noise, 0, 255).round().astype(np.uint8)
    tissue = of_levels((90, 70, 120), 10, 10_000)
    assert estimate_background(np.concatenate([bright, tissue]))[1] is is_glass


@pytest.mark.parametrize(
    ("n_pale", "n_brown", "is_fitted"), [(4000, 400, True), (30_000, 300, False), (120, 130, False), (300, 330, True)]
)
def test_a_cut_is_fitted_to_enough_pixels_of_which_enough_are_brown(n_pale: int, n_brown: int, is_fitted: bool) -> None:
    """Few of either, and the cut is QuPath's, though one between both kinds could be had."""
    random = np.random.default_rng(5)
    amounts = np.concatenate([random.normal(0.04, 0.02, n_pale), random.normal(0.8, 0.1, n_brown)])
    profile = fit_stain_profile(drawn_from_amounts(np.maximum(amounts, 0)), Stain.IHC, 0)
    assert any("DAB cut" in note and "too few to fit" in note for note in profile.notes) is not is_fitted
    assert (profile.dab_cut_od != DEFAULT_DAB_CUT_OD) is is_fitted

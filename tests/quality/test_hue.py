"""Hues that are not those of hematoxylin with DAB are named; faint, dark, tinted and hazy DAB is left alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from virtual_stains import (
    BLUES,
    CHROMOGENS,
    COUNTERSTAINS,
    GREENS,
    MELANIN,
    TINTS,
    Rgb,
    as_jpeg,
    drawn,
    grey,
    hazy,
    tinted,
    unmix,
    with_chromogen,
    with_counterstain,
    with_pigment,
    with_stains,
    with_strength,
)
from virtual_stains import compose as composed

from wsipsm.keys import Stain
from wsipsm.quality.finding import Finding, Verdict, flags_of
from wsipsm.quality.hue import check_hues
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_thumbnail
from wsipsm.stain import detect_stain


@cache
def picture() -> Rgb:
    return drawn()


def findings(rgb: Rgb) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_hues(rgb.reshape(-1, 3))}


def without_dab() -> Rgb:
    return composed(*(amount * keep for amount, keep in zip(unmix(picture()), (1, 0), strict=True)))


@pytest.mark.parametrize(("contrast", "noise"), [(0.15, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 2.0), (1.3, 2.0)])
def test_a_grey_picture_has_no_index(contrast: float, noise: float) -> None:
    levels = grey(picture(), contrast) + np.random.default_rng(0).normal(0, noise, picture().shape)
    found = findings(np.clip(levels, 0, 255).round().astype(np.uint8))
    assert found["colour"].verdict is Verdict.WITHHOLD
    assert "grey" in found["colour"].text


def test_a_toned_picture_of_a_grey_camera_has_no_index() -> None:
    assert findings(tinted(grey(picture()), (1, 0.9, 0.75)))["colour"].verdict is Verdict.WITHHOLD


@pytest.mark.parametrize("name", CHROMOGENS)
@pytest.mark.parametrize("strength", [0.7, 1.0, 1.5])
def test_another_chromogen_has_no_index(name: str, strength: float) -> None:
    found = findings(with_chromogen(picture(), CHROMOGENS[name], strength))
    wrong = "chromogen_dark" if name == "silver" else "chromogen_red"
    assert found[wrong].verdict is Verdict.WITHHOLD


@pytest.mark.parametrize("colour", MELANIN)
@pytest.mark.parametrize(("n", "radius"), [(150, (3, 7)), (25, (2, 6)), (400, (1, 3))])
@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_melanin_without_dab_is_flagged(
    colour: tuple[int, int, int], n: int, radius: tuple[int, int], blur: float
) -> None:
    found = findings(with_pigment(without_dab(), colour, n, radius, blur_px=blur))
    assert found["chromogen_dark"].verdict in (Verdict.FLAG, Verdict.WITHHOLD)
    assert "pigment" in found["chromogen_dark"].text


def test_a_slide_without_counterstain_has_no_index() -> None:
    found = findings(with_counterstain(picture(), None))["hematoxylin_share"]
    assert found.verdict is Verdict.WITHHOLD
    assert "no hematoxylin" in found.text


def test_another_counterstain_is_flagged() -> None:
    assert (
        findings(with_counterstain(picture(), COUNTERSTAINS["methyl green"]))["counterstain_hue"].verdict
        is Verdict.FLAG
    )
    red = findings(with_counterstain(picture(), COUNTERSTAINS["nuclear fast red"]))
    assert red["hematoxylin_share"].verdict is Verdict.WITHHOLD


@pytest.mark.parametrize("name", GREENS)
@pytest.mark.parametrize("strength", [0.7, 1.0, 1.5])
def test_a_green_chromogen_is_flagged(name: str, strength: float) -> None:
    found = findings(with_chromogen(picture(), GREENS[name], strength))
    assert found["green_share"].verdict is Verdict.FLAG
    assert "green chromogen" in found["green_share"].text


@pytest.mark.parametrize("dab", [0.0, 0.5, 1.0, 1.6])
def test_a_green_counterstain_is_flagged_beside_any_amount_of_dab(dab: float) -> None:
    found = findings(with_counterstain(with_strength(picture(), dab=dab), COUNTERSTAINS["methyl green"]))
    assert Verdict.FLAG in {found[name].verdict for name in ("counterstain_hue", "green_share")}


def test_green_is_not_judged_where_no_glass_is_seen() -> None:
    dark = picture().reshape(-1, 3)
    dark = dark[dark.max(axis=1) < 180]
    found = {finding.name: finding for finding in check_hues((dark * np.array([0.8, 1, 0.8])).astype(np.uint8))}
    assert found["green_share"].verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("name", BLUES)
def test_a_blue_chromogen_beside_nuclear_fast_red_is_never_scored_unflagged(name: str) -> None:
    """It is taken for H&E, which has no index; with the model for IHC named, that is told and so is the red."""
    pixels = with_stains(picture(), COUNTERSTAINS["nuclear fast red"], BLUES[name]).reshape(-1, 3)
    assert detect_stain(pixels).stain is Stain.HE
    assert any(finding.verdict is Verdict.WITHHOLD for finding in check_hues(pixels))


def plain_variants(rgb: Rgb) -> dict[str, NDArray[np.uint8]]:
    variants = {"itself": rgb, "haze": hazy(rgb, 0.25), "compressed": as_jpeg(rgb, 30)}
    variants |= {f"DAB x {dab}": with_strength(rgb, dab=dab) for dab in (0.4, 0.5, 0.6, 0.8, 1.3, 1.6)}
    variants |= {f"hematoxylin x {factor}": with_strength(rgb, hematoxylin=factor) for factor in (0.6, 1.4, 1.8)}
    return variants | {f"tint {tint}": tinted(rgb, tint) for tint in TINTS}


def test_faint_dark_tinted_hazy_and_compressed_dab_is_not_flagged() -> None:
    flagged = {name: flags_of(check_hues(rgb.reshape(-1, 3))) for name, rgb in plain_variants(picture()).items()}
    assert {name: flags for name, flags in flagged.items() if flags} == {}


def test_a_slide_without_any_positive_nucleus_is_not_flagged() -> None:
    assert flags_of(check_hues(drawn(positive_fraction=0.0).reshape(-1, 3))) == []


def test_too_few_stained_pixels_are_not_judged() -> None:
    (found,) = check_hues(np.full((5000, 3), 240, np.uint8))
    assert found.verdict is Verdict.UNKNOWN


def test_without_glass_its_tint_may_be_the_cause_so_nothing_but_grey_withholds() -> None:
    dark = picture().reshape(-1, 3)
    dark = dark[dark.max(axis=1) < 180]
    found = check_hues((dark * np.array([1, 0.85, 0.55])).astype(np.uint8))
    assert Verdict.WITHHOLD not in [finding.verdict for finding in found]
    assert any("No glass was seen" in flag for flag in flags_of(found))


@pytest.mark.parametrize("dab", [0.4, 0.5, 0.6, 1.6])
def test_faint_and_dark_dab_on_real_ki67_is_not_flagged(data_dir: Path, dab: float) -> None:
    with open_slide(data_dir / "slides/real/ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif", identify=False) as slide:
        crop = read_thumbnail(slide, 1101)[0]
    pictures = [crop]
    for path in sorted(data_dir.glob("unlabelled/ihc/pnet_ki67/*")):
        with Image.open(path) as image:
            pictures.append(np.array(image.convert("RGB")))
    assert len(pictures) > 3
    for rgb in pictures:
        assert flags_of(check_hues(with_strength(rgb, dab=dab).reshape(-1, 3))) == []


def test_real_ki67_of_many_laboratories_is_not_flagged(data_dir: Path) -> None:
    paths = [*data_dir.glob("ki67/bcdata/images/**/*.png"), *data_dir.glob("ki67/*/*.jpg")]
    paths += data_dir.glob("unlabelled/ihc/*/*")
    assert len(paths) > 50
    flagged = {}
    for path in sorted(paths):
        with Image.open(path) as image:
            small = np.array(image.convert("RGB").resize((400, 400), Image.Resampling.BOX))
        flagged[path.name] = flags_of(check_hues(small.reshape(-1, 3)))
    assert {name: flags for name, flags in flagged.items() if flags} == {}

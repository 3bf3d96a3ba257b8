"""Focus: real and drawn tissue is sharp, the same blurred is not, and what cannot be judged says so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from wsipsm.quality.finding import Verdict
from wsipsm.quality.focus import FOCUS_MPP, check_focus
from wsipsm.quality.ink import check_ink
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_thumbnail
from wsipsm.tissue import find_slide_tissue, sample_tissue

REAL = [
    ("slides/real/aperio-jpeg-he-skin-cmu1-small-region.svs", None),
    ("slides/real/ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif", None),
    ("slides/real/ometiff-he-tma-core-instanseg.ome.tif", None),
    ("ki67/shidc/p1_0309_3.jpg", 0.2),
]


def patches_of(path: Path, mpp: float | None) -> tuple[NDArray[np.uint8], ...]:
    with open_slide(path, mpp) as slide:
        return sample_tissue(slide, find_slide_tissue(slide.info, *read_thumbnail(slide)), 0).patches


def blurred(patches: tuple[NDArray[np.uint8], ...], um: float) -> list[NDArray[np.uint8]]:
    return [np.asarray(cv2.GaussianBlur(patch, (0, 0), um / FOCUS_MPP), np.uint8) for patch in patches]


@pytest.mark.parametrize(("name", "mpp"), REAL)
def test_real_tissue_is_in_focus_and_the_same_blurred_is_flagged(data_dir: Path, name: str, mpp: float | None) -> None:
    patches = patches_of(data_dir / name, mpp)
    assert check_focus(patches, FOCUS_MPP).verdict == Verdict.OK
    # The palest set shows too little to judge once it is blurred.
    expected = {Verdict.FLAG, Verdict.UNKNOWN} if "shidc" in name else {Verdict.FLAG}
    for um in (2.5, 5.0):
        assert check_focus(blurred(patches, um), FOCUS_MPP).verdict in expected


def drawn_patches(n: int) -> tuple[NDArray[np.uint8], ...]:
    rng = np.random.default_rng(0)
    patches = []
    for _ in range(n):
        patch = np.full((128, 128, 3), (225, 190, 215), np.uint8)
        for _ in range(25):
            centre = tuple(int(value) for value in rng.integers(0, 128, 2))
            cv2.circle(patch, centre, int(rng.integers(5, 10)), (110, 80, 150), -1, cv2.LINE_AA)
        patches.append(np.asarray(cv2.GaussianBlur(patch, (0, 0), 0.7), np.uint8))
    return tuple(patches)


def test_share_in_focus_counts_patches() -> None:
    patches = drawn_patches(20)
    half = (*patches[:10], *blurred(patches[10:], 2.5))
    found = check_focus(half, FOCUS_MPP)
    assert found.value == pytest.approx(0.5)
    assert found.verdict == Verdict.FLAG
    assert "50%" in found.text


@pytest.mark.parametrize(("n", "mpp"), [(20, None), (20, 1.0), (2, FOCUS_MPP)])
def test_what_cannot_be_judged_is_unknown(n: int, mpp: float | None) -> None:
    assert check_focus(drawn_patches(n), mpp).verdict == Verdict.UNKNOWN


def test_empty_glass_is_unknown() -> None:
    assert check_focus([np.full((128, 128, 3), 240, np.uint8)] * 20, FOCUS_MPP).verdict == Verdict.UNKNOWN


def test_much_ink_is_flagged_and_little_is_named() -> None:
    assert check_ink(0.0).verdict == Verdict.OK
    assert "1.0%" in check_ink(0.01).text
    assert check_ink(0.2).verdict == Verdict.FLAG

"""Area of tissue, and ink: against outlines drawn by hand on real slides, and against drawn pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from drawn_outlines import CMU_1, TCGA_CR_7395, TMA_CORE
from numpy.typing import NDArray

from wsipsm.demo.draw import draw_slide
from wsipsm.geometry import Size
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_thumbnail
from wsipsm.tissue import TissueMask, find_slide_tissue, find_tissue

Picture = NDArray[np.uint8]
MPP, PX0 = 0.5, 4.0
"""Of the drawn pictures: 2 um a pixel."""
PENS = {"green": (20, 140, 60), "blue": (30, 40, 200), "red": (210, 25, 40), "cyan": (20, 150, 170)}


def piece_of_tissue() -> tuple[Picture, NDArray[np.bool_]]:
    picture = np.clip(240 + np.random.default_rng(0).normal(0, 2, (700, 1000, 3)), 0, 255).astype(np.uint8)
    truth = np.zeros(picture.shape[:2], np.uint8)
    cv2.ellipse(truth, (400, 350), (250, 180), 20, 0, 360, 1, -1)
    texture = np.random.default_rng(1).normal(0, 12, picture.shape)
    tissue = np.clip(np.array((190, 130, 170)) + texture, 0, 255).astype(np.uint8)
    return np.where(truth[..., None] == 1, tissue, picture).astype(np.uint8), truth == 1


def find(picture: Picture) -> TissueMask:
    height, width = picture.shape[:2]
    return find_tissue(picture, PX0, Size(round(width * PX0), round(height * PX0)), MPP)


def test_area_is_that_of_the_tissue_and_not_of_the_margin_that_is_searched() -> None:
    picture, truth = piece_of_tissue()
    found = find(picture)
    assert found.area_px0() == pytest.approx(truth.sum() * PX0**2, rel=0.02)
    assert found.mask.sum() > 1.1 * truth.sum()
    assert not (found.tissue & ~found.mask).any()


@pytest.mark.parametrize(
    ("name", "mpp", "drawn", "off"),
    [
        ("aperio-jpeg-he-skin-cmu1-small-region.svs", None, CMU_1, 0.18),
        ("aperio-jp2k33005-he-tcga-cr-7395-nompp.svs", 1.0, TCGA_CR_7395, 0.05),
        ("ometiff-he-tma-core-instanseg.ome.tif", None, TMA_CORE, 0.05),
    ],
)
def test_area_agrees_with_outlines_drawn_by_hand(
    slides_dir: Path, name: str, mpp: float | None, drawn: shapely.Polygon, off: float
) -> None:
    """The skin's outline is 16 % too large: keratin in the follicle is taken for tissue."""
    with open_slide(slides_dir / "real" / name, mpp) as slide:
        found = find_slide_tissue(slide.info, *read_thumbnail(slide))
    assert found.area_px0() == pytest.approx(drawn.area, rel=off)
    rows, columns = np.nonzero(found.tissue)
    inside = shapely.contains_xy(drawn, (columns + 0.5) * found.px0_per_pixel, (rows + 0.5) * found.px0_per_pixel)
    shared = inside.sum() * found.px0_per_pixel**2
    assert shared > 0.95 * drawn.area


def test_glass_of_a_drawn_slide_is_no_tissue(tmp_path: Path) -> None:
    draw_slide(tmp_path / "drawn.tiff", size=(1500, 1200), n_nuclei=300)
    with open_slide(tmp_path / "drawn.tiff", None) as slide:
        found = find_slide_tissue(slide.info, *read_thumbnail(slide))
    assert 0.1 < found.fraction < 0.95


# Red ink on tissue cannot be told from blood.
@pytest.mark.parametrize(
    ("pen", "on_tissue"), [(p, on) for p in PENS for on in (True, False) if (p, on) != ("red", True)]
)
def test_ink_belongs_to_neither_search_nor_area(pen: str, on_tissue: bool) -> None:
    picture, truth = piece_of_tissue()
    clean = find(picture)
    stroke = np.zeros(truth.shape, np.uint8)
    cv2.line(stroke, *(((250, 250), (520, 430)) if on_tissue else ((760, 60), (900, 600))), 1, 14)
    glass = np.array((240, 240, 240)) / 255
    inked = picture.copy()
    # Ink and stain absorb one after the other.
    inked[stroke == 1] = np.clip(picture[stroke == 1] * (np.array(PENS[pen]) / 255) / glass, 0, 255).astype(np.uint8)
    found = find(inked)
    assert (found.mask & (stroke == 1)).sum() <= 0.02 * stroke.sum()
    assert (found.tissue & (stroke == 1)).sum() <= 0.02 * stroke.sum()
    covered = (truth & (stroke == 1)).sum() / truth.sum()
    assert found.ink_fraction == pytest.approx(covered, abs=0.03)
    lost = (clean.tissue & ~found.tissue).sum() / clean.tissue.sum()
    assert lost <= covered + 0.03


def test_a_counterstain_of_one_hue_is_no_ink() -> None:
    picture, truth = piece_of_tissue()
    picture[truth] = (60, 165, 190)
    assert find(picture).ink_fraction == 0.0


def test_no_ink_on_real_tissue(data_dir: Path) -> None:
    paths = sorted((data_dir / "monuseg" / "train" / "images").glob("*.tif"))[::10]
    paths += sorted((data_dir / "ki67").glob("bcdata/images/test/*.png"))[::4]
    for path in paths:
        with open_slide(path, 0.25) as slide:
            assert find_slide_tissue(slide.info, *read_thumbnail(slide)).ink_fraction == 0.0, path.name


def test_both_masks_survive_storage() -> None:
    found = find(piece_of_tissue()[0])
    again = TissueMask.from_picture(found.to_picture(), found.facts())
    assert again.facts() == found.facts()
    np.testing.assert_array_equal(again.mask, found.mask)

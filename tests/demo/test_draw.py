from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import shapely

from wsipsm.demo.draw import TRUTH_SUFFIX, DrawnTruth, draw_array, draw_slide
from wsipsm.errors import OutputError, UsageError
from wsipsm.geometry import Size
from wsipsm.keys import NucleusClass, Stain

SMALL = {"size": (1200, 900), "n_nuclei": 180}


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, DrawnTruth]:
    return draw_array(seed=3, **SMALL)


def density(rgb: np.ndarray) -> np.ndarray:
    return -np.log10((rgb.astype(float) + 1) / 256)


def stored(truth: DrawnTruth, folder: Path) -> bytes:
    truth.save(folder / "saved.json")
    return (folder / "saved.json").read_bytes()


def test_same_seed_draws_the_same_and_another_does_not(drawn: tuple[np.ndarray, DrawnTruth], tmp_path: Path) -> None:
    rgb, truth = draw_array(seed=3, **SMALL)
    assert np.array_equal(rgb, drawn[0])
    assert stored(truth, tmp_path) == stored(drawn[1], tmp_path)
    other, _ = draw_array(seed=4, **SMALL)
    assert not np.array_equal(other, rgb)


def test_counts_and_index_are_as_asked(drawn: tuple[np.ndarray, DrawnTruth]) -> None:
    rgb, truth = drawn
    assert rgb.shape == (900, 1200, 3)
    assert rgb.dtype == np.uint8
    assert len(truth.polygons) == len(truth.classes) == 180
    assert truth.n_positive == round(0.27 * 180)
    assert truth.labelling_index == pytest.approx(0.27, abs=0.005)


def test_nuclei_are_valid_apart_inside_and_of_nuclear_size(drawn: tuple[np.ndarray, DrawnTruth]) -> None:
    truth = drawn[1]
    assert shapely.is_valid(truth.polygons).all()
    assert shapely.within(truth.polygons, shapely.box(0, 0, 1200, 900)).all()
    first, second = shapely.STRtree(truth.polygons).query(truth.polygons, predicate="intersects")
    assert np.array_equal(first, second)
    diameter_um = 2 * np.sqrt(shapely.area(truth.polygons) / np.pi) * truth.mpp
    assert diameter_um.min() > 5.5
    assert diameter_um.max() < 12
    first, second = shapely.STRtree(truth.polygons).query(truth.polygons, predicate="dwithin", distance=1.0)
    touching = np.unique(first[first != second])
    assert 0.02 < len(touching) / len(truth.polygons) < 0.12


def test_glass_is_white_negatives_blue_positives_brown(drawn: tuple[np.ndarray, DrawnTruth]) -> None:
    rgb, truth = drawn
    assert rgb[:20].mean() > 230
    column, row = truth.centroids_px0.astype(int).T
    at_nuclei = density(rgb)[row, column]
    positive = truth.classes == NucleusClass.POSITIVE.value
    assert np.median(at_nuclei[~positive, 0]) > np.median(at_nuclei[~positive, 2]) * 1.3
    assert np.median(at_nuclei[positive, 2]) > np.median(at_nuclei[positive, 0]) * 1.3
    assert np.median(at_nuclei[positive, 2]) > 2 * np.median(at_nuclei[~positive, 2])


def test_outlines_lie_on_the_pixels_they_enclose() -> None:
    """Darkness just inside the outline is higher than just outside, on every side: no shift by half a pixel."""
    rgb, truth = draw_array(seed=1, size=(900, 900), n_nuclei=60, touching_fraction=0, positive_fraction=1)
    dark = density(rgb)[..., 2]
    flanks = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "top": (0.0, -1.0), "bottom": (0.0, 1.0)}
    half_level = dict.fromkeys(flanks, 0.0)
    for polygon, (cx, cy) in zip(truth.polygons, truth.centroids_px0, strict=True):
        ring = shapely.get_coordinates(polygon)
        centre = dark[int(cy) - 2 : int(cy) + 3, int(cx) - 2 : int(cx) + 3].mean()
        for side, (ux, uy) in flanks.items():
            x, y = ring[np.argmax(ring @ (ux, uy))]
            half_level[side] += dark[min(int(y), 899), min(int(x), 899)] / centre / len(truth.polygons)
    values = np.array(list(half_level.values()))
    assert np.all((values > 0.2) & (values < 0.8))
    assert np.ptp(values) < 0.2


def test_hematoxylin_and_eosin_has_one_class_and_no_index() -> None:
    rgb, truth = draw_array(seed=2, size=(600, 500), n_nuclei=60, stain=Stain.HE)
    assert set(truth.classes) == {NucleusClass.NUCLEUS.value}
    assert truth.labelling_index is None
    tissue = rgb[rgb.mean(axis=-1) < 200]
    assert tissue[:, 1].mean() < tissue[:, [0, 2]].mean()  # pink and purple take green


def test_crowded_slide_gets_what_fits() -> None:
    _, truth = draw_array(size=(300, 300), n_nuclei=500)
    assert 10 < len(truth.polygons) < 200
    assert shapely.is_valid(truth.polygons).all()
    _, empty = draw_array(size=(300, 300), n_nuclei=0)
    assert len(empty.polygons) == 0
    assert empty.labelling_index is None


def test_slide_opens_with_its_pixel_size_and_levels(tmp_path: Path) -> None:
    path = tmp_path / "drawn.tiff"
    truth = draw_slide(path, seed=5, size=(2100, 1100), n_nuclei=100, mpp=0.5)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (2100, 1100)
        assert slide.level_dimensions[1] == (525, 275)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        level0 = np.asarray(slide.read_region((0, 0), 0, (2100, 1100)).convert("RGB"), dtype=float)
    rgb, _ = draw_array(seed=5, size=(2100, 1100), n_nuclei=100, mpp=0.5)
    assert np.abs(level0 - rgb).mean() < 4  # JPEG, right colours
    loaded = DrawnTruth.load(path.with_suffix(TRUTH_SUFFIX))
    assert loaded.size == Size(2100, 1100)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drawn.tiff", "drawn.truth.json"]
    assert stored(loaded, tmp_path) == stored(truth, tmp_path)


def test_what_cannot_be_drawn_or_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"positive fraction 1\.5"):
        draw_array(positive_fraction=1.5)
    with pytest.raises(OutputError, match="absent"):
        draw_slide(tmp_path / "absent" / "drawn.tiff", size=(100, 100), n_nuclei=0)
    with pytest.raises(UsageError, match=r"none\.json"):
        DrawnTruth.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"width": 10, "height": 10, "mpp": 0.5, "stain": "ihc", "seed": 0}')
    with pytest.raises(UsageError, match=r"other\.json: .*nuclei: Field required"):
        DrawnTruth.load(tmp_path / "other.json")

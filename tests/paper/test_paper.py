"""The paper's engine on drawn tissue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsipsm.config import PaperOptions
from wsipsm.demo.draw import draw_array
from wsipsm.errors import OutputError, UsageError
from wsipsm.keys import Stain
from wsipsm.paper.engine import PaperEngine, fit_maps, train_maps, train_paper
from wsipsm.psm.semantic import NUCLEUS, POSITIVE
from wsipsm.training.pretext_training import PretextLog

SHORT = {"steps": 1, "batch": 2, "crop_px": 64}
TINY = {"pretext": {**SHORT, "network": "torchvision:resnet18"}, "detection": SHORT, "segmentation": SHORT}


def options(stain: Stain, **sections: dict[str, object]) -> PaperOptions:
    return PaperOptions.model_validate({"stain": stain, **TINY, **sections})


def silent(*_: object) -> None:
    pass


def drawn(stain: Stain, *sizes: tuple[int, int]) -> list[NDArray[np.uint8]]:
    return [draw_array(seed=i, size=size, n_nuclei=14, stain=stain)[0] for i, size in enumerate(sizes, start=1)]


@pytest.fixture(scope="module")
def he() -> tuple[PaperEngine, list[NDArray[np.uint8]], list[str]]:
    lines: list[str] = []
    images = drawn(Stain.HE, (128, 128), (140, 101))
    return train_paper(images, options(Stain.HE), None, lines.append, silent), images, lines


@pytest.fixture(scope="module")
def ihc() -> tuple[PaperEngine, list[NDArray[np.uint8]]]:
    images = drawn(Stain.IHC, (160, 160))
    section = {"fitted": "set", "beta": 4.0, "min_area_px": 40}
    return train_paper(images, options(Stain.IHC, clusters=section), None, silent, silent), images


def test_he_has_masks_points_and_labels(he: tuple[PaperEngine, list[NDArray[np.uint8]], list[str]]) -> None:
    engine, images, lines = he
    for rgb in images:
        mask = engine.maps.pseudo_mask(rgb)
        assert set(np.unique(mask)) == {0, NUCLEUS}
        assert set(engine.points(rgb)) == {NUCLEUS}
        labels = engine.segment(rgb)
        assert labels.shape == rgb.shape[:2]
        assert labels.dtype == np.int32
    assert lines[0].startswith("pretext similarity: 1 steps, loss ")
    assert [line.split(":")[0] for line in lines[1:]] == [
        *(f"pseudo masks {n}/2" for n in (1, 2)),
        *(f"points {n}/2" for n in (1, 2)),
    ]


def test_the_cut_follows_the_pseudo_mask(he: tuple[PaperEngine, list[NDArray[np.uint8]], list[str]]) -> None:
    engine, (rgb, _), _ = he
    section = engine.maps.options.segmentation.model_copy(update={"cut": "mask"})
    changed = engine.maps.options.model_copy(update={"segmentation": section})
    following = replace(engine, maps=replace(engine.maps, options=changed))
    share = (following.maps.pseudo_mask(rgb) > 0).mean()
    assert 0.02 < share < 0.9
    assert (following.segment(rgb) > 0).mean() == pytest.approx(share, abs=0.01)
    half = np.zeros(rgb.shape[:2], np.uint8)
    half[:, : half.shape[1] // 2] = 1
    assert (following.segment(rgb, pseudo_mask=half) > 0).mean() == pytest.approx(0.5, abs=0.01)
    assert not following.segment(rgb, pseudo_mask=np.zeros_like(half)).any()


def test_how_nuclei_are_told_apart_trains_nothing_anew(tmp_path: Path) -> None:
    images = drawn(Stain.HE, (128, 128))
    before = options(Stain.HE)
    train_paper(images, before, tmp_path, silent, silent)
    kept = sorted(path.name for path in tmp_path.rglob("*.checkpoint"))
    section = before.segmentation.model_copy(update={"cut": "mask", "instances": "watershed"})
    steps: list[str] = []
    train_paper(
        images,
        before.model_copy(update={"segmentation": section}),
        tmp_path,
        silent,
        lambda part, *_: steps.append(part),
    )
    assert sorted(path.name for path in tmp_path.rglob("*.checkpoint")) == kept
    assert steps == []


def test_ihc_detects_two_classes_and_does_not_segment(ihc: tuple[PaperEngine, list[NDArray[np.uint8]]]) -> None:
    engine, (rgb,) = ihc
    assert set(np.unique(engine.maps.pseudo_mask(rgb))) == {0, NUCLEUS, POSITIVE}
    points = engine.points(rgb)
    assert set(points) == {NUCLEUS, POSITIVE}
    assert all(xy.shape[1:] == (2,) for xy in points.values())
    assert engine.segmenter is None
    with pytest.raises(UsageError, match="segmentation: the engine was trained for detection only"):
        engine.segment(rgb)


def test_an_image_without_positive_cells_is_told(ihc: tuple[PaperEngine, list[NDArray[np.uint8]]]) -> None:
    own = replace(ihc[0].maps, clusters=None)
    blue, _ = draw_array(seed=5, size=(160, 160), n_nuclei=14, stain=Stain.IHC, positive_fraction=0.0)
    mask, note = own.classify(blue)
    assert not (mask == POSITIVE).any()
    assert note.startswith("no positive cluster: the brownest has ")
    assert own.classify(ihc[1][0])[1] == ""


def test_clusters_of_the_set_are_fitted_once(ihc: tuple[PaperEngine, list[NDArray[np.uint8]]]) -> None:
    maps, rgb = ihc[0].maps, ihc[1][0]
    assert maps.clusters is not None
    assert maps.clusters_of(rgb, maps.activation(rgb)) is maps.clusters
    activation = maps.activation(rgb)
    assert activation.shape == rgb.shape[:2]
    assert 0 <= activation.min() <= activation.max() <= 1


@pytest.mark.parametrize("weights", ["image", "set"])
@pytest.mark.parametrize("stage", [1, 3])
def test_maps_of_any_stage(
    he: tuple[PaperEngine, list[NDArray[np.uint8]], list[str]], weights: str, stage: int
) -> None:
    engine, images, _ = he
    maps = fit_maps(engine.maps.network, images, options(Stain.HE, activation={"stage": stage, "weights": weights}))
    assert (maps.weights == ()) == (weights == "image")
    first = maps.activation(images[1])
    assert np.array_equal(first, maps.activation(images[1]))
    assert first.shape == (101, 140)


def test_no_image_small_images_and_no_nuclei() -> None:
    with pytest.raises(UsageError, match="no image to learn from"):
        train_paper([], options(Stain.HE), None, silent, silent)
    with pytest.raises(UsageError, match="an image has a side of 20 px; at least 32 px are needed"):
        train_paper([np.zeros((64, 20, 3), np.uint8)], options(Stain.HE), None, silent, silent)
    blank = np.full((64, 64, 3), 242, np.uint8)
    for stain in Stain:
        with pytest.raises(UsageError, match="no image shows a nuclear cluster"):
            train_paper([blank], options(stain), None, silent, silent)


def test_collapse_is_told() -> None:
    lines: list[str] = []
    _, log = train_maps([np.full((64, 64, 3), 242, np.uint8)], options(Stain.HE), None, lines.append, silent)
    assert isinstance(log, PretextLog)
    assert log.collapsed
    assert "COLLAPSED, its maps say little" in lines[0]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        train_maps(drawn(Stain.HE, (64, 64)), options(Stain.HE), tmp_path / "file" / "keep", silent, silent)


def test_epochs_are_scaled_by_the_budget() -> None:
    seen: list[int] = []
    section = {**TINY["pretext"], "steps": None, "epochs": 30, "batch": 2, "crop_px": 32}
    images = drawn(Stain.HE, (64, 64), (64, 64), (64, 64))
    chosen = PaperOptions.model_validate({**TINY, "pretext": section, "budget": 0.05})
    train_maps(images, chosen, None, silent, lambda part, step, steps, loss: seen.append(steps))
    # 30 epochs of two batches (of 3 images), a twentieth of them.
    assert seen == [3] * 3


def test_stains_of_he_are_not_taken_on_ihc() -> None:
    with pytest.raises(UsageError, match="made for H&E"):
        train_paper(drawn(Stain.IHC, (96, 96)), options(Stain.IHC, clusters={"image": "stains"}), None, silent, silent)

"""Classical methods on drawn nuclei whose truth is known, and on images without any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from wsipsm.benchmark.classical import (
    dab_cut,
    detect_ihc,
    segment_cellprofiler,
    segment_fiji,
    segment_he,
    split_by_dab,
)
from wsipsm.benchmark.scoring import centroids, score_labels
from wsipsm.benchmark.sets.monuseg import monuseg_images
from wsipsm.metrics.detection import match_points
from wsipsm.metrics.segmentation import aji, measure_overlap

HEMATOXYLIN, EOSIN, DAB = np.array([[0.644, 0.717, 0.267], [0.093, 0.954, 0.283], [0.268, 0.570, 0.776]])
SEGMENT = (segment_he, segment_cellprofiler, segment_fiji)


def _discs() -> np.ndarray:
    labels = np.zeros((200, 200), np.int32)
    y, x = np.mgrid[:200, :200]
    for i, (cx, cy) in enumerate(np.stack(np.meshgrid(range(25, 200, 50), range(25, 200, 50)), -1).reshape(-1, 2)):
        labels[np.hypot(x - cx, y - cy) < 9] = 2 * i + 1
        labels[(np.hypot(x - cx - 17, y - cy) < 9) & (labels == 0)] = 2 * i + 2  # its neighbour touches it
    return labels


def _stained(labels: np.ndarray, nucleus: np.ndarray, ground: np.ndarray) -> np.ndarray:
    amount = ndimage.gaussian_filter((labels > 0).astype(float), 1)[..., None]
    od = amount * nucleus + (1 - amount) * ground + np.random.default_rng(0).normal(0, 0.01, (*labels.shape, 1))
    return np.clip(256 * 10**-od - 1, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("segment", SEGMENT)
def test_drawn_nuclei_are_found_and_touching_ones_told_apart(segment: Callable[..., np.ndarray]) -> None:
    truth = _discs()
    found = segment(_stained(truth, 0.7 * HEMATOXYLIN, 0.2 * EOSIN))
    assert found.dtype == np.int32
    assert found.shape == truth.shape
    match = match_points(centroids(truth), centroids(found), 5).score
    assert match.f1 > 0.9
    assert aji(measure_overlap(truth, found)) > 0.7


@pytest.mark.parametrize("segment", SEGMENT)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_image_of_one_colour_has_no_nucleus(segment: Callable[..., np.ndarray], value: int) -> None:
    assert not segment(np.full((64, 64, 3), value, np.uint8)).any()


@pytest.mark.parametrize("method", ["floor", "cellprofiler", "fiji"])
def test_brown_and_blue_nuclei_are_told_apart(method: str) -> None:
    truth = _discs()
    brown = (truth > 0) & (np.arange(200)[:, None] < 100)
    rgb = _stained(truth, 0.55 * HEMATOXYLIN, 0.03 * HEMATOXYLIN)
    rgb[:100] = _stained(truth, 0.8 * DAB + 0.2 * HEMATOXYLIN, 0.03 * HEMATOXYLIN)[:100]
    cut = dab_cut([rgb])
    if method == "floor":
        positive, negative = detect_ihc(rgb, 18, cut)
    elif method == "fiji":
        positive, negative = split_by_dab(segment_fiji(rgb, 18, ihc=True), rgb, cut)
    else:
        positive, negative = split_by_dab(segment_cellprofiler(rgb, (9, 36), ihc=True), rgb, cut)
    assert match_points(centroids(np.where(brown, truth, 0)), positive, 5).score.f1 > 0.85
    assert match_points(centroids(np.where(brown, 0, truth)), negative, 5).score.f1 > 0.85


def test_objects_outside_the_diameters_are_dropped() -> None:
    rgb = _stained(_discs(), 0.7 * HEMATOXYLIN, 0.2 * EOSIN)
    assert not segment_cellprofiler(rgb, (40, 80)).any()


def test_nothing_splits_into_nothing() -> None:
    positive, negative = split_by_dab(np.zeros((9, 9), np.int32), np.full((9, 9, 3), 255, np.uint8), 0.2)
    assert positive.shape == negative.shape == (0, 2)


def test_the_floor_scores_what_it_scored_before(data_dir: Path) -> None:
    image = monuseg_images(data_dir / "monuseg" / "train")[0]
    scores = score_labels(image.truth, segment_he(image.rgb))
    assert (scores["AJI"], scores["PQ"], scores["Dice"]) == pytest.approx(FIRST_IMAGE, abs=5e-4)


FIRST_IMAGE = (0.5489, 0.4732, 0.8281)
"""AJI, PQ and Dice of TCGA-18-5592-01Z-00-DX1, as measured when the floor was first written down."""

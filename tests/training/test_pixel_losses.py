"""Losses of detector and segmenter (Eq. 8) against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wsipsm.psm.pseudo_label import IGNORED
from wsipsm.training.losses import detection_loss, segmentation_loss

Planes = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def planes() -> Planes:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 2, 6, 7)).astype(np.float32)
    mask = rng.choice([0, 1], size=(2, 6, 7)).astype(np.uint8)
    voronoi = rng.choice([0, 1, IGNORED], size=(2, 6, 7)).astype(np.uint8)
    return logits, mask, voronoi


def surprise(logits: NDArray[np.float32], n: int, y: int, x: int, kind: int) -> float:
    values = logits[n, :, y, x].astype(float)
    return float(np.log(np.exp(values).sum()) - values[kind])


def on_torch(planes: Planes) -> tuple[torch.Tensor, list[torch.Tensor]]:
    logits, *targets = (torch.from_numpy(plane) for plane in planes)
    return logits.requires_grad_(), targets


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_segmentation_is_equation_8(planes: Planes, weight: float) -> None:
    logits, mask, voronoi = planes
    places = list(np.ndindex(2, 6, 7))
    points = [surprise(logits, *p, voronoi[p]) for p in places if voronoi[p] != IGNORED]
    background = [surprise(logits, *p, 0) for p in places if mask[p] == 0]
    found = segmentation_loss(*on_torch(planes), weight)
    assert float(found.detach()) == pytest.approx(weight * np.mean(points) + np.mean(background), rel=1e-5)


def test_balanced_points_and_edges_weigh_alike(planes: Planes) -> None:
    logits, mask, voronoi = planes
    places = list(np.ndindex(2, 6, 7))
    edges, points = ([surprise(logits, *p, kind) for p in places if voronoi[p] == kind] for kind in (0, 1))
    background = [surprise(logits, *p, 0) for p in places if mask[p] == 0]
    found = segmentation_loss(*on_torch(planes), 0.5, balanced=True)
    expected = 0.5 * (np.mean(edges) + np.mean(points)) / 2 + np.mean(background)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)


def test_only_the_background_of_the_mask_teaches(planes: Planes) -> None:
    logits, (mask, voronoi) = on_torch(planes)
    segmentation_loss(logits, [mask, torch.full_like(voronoi, IGNORED)], 0.5).backward()
    gradient = logits.grad
    assert gradient is not None
    felt = (gradient != 0).any(dim=1)
    assert torch.equal(felt, mask == 0)
    assert (gradient[:, 0][felt] < 0).all(), "towards background"


def test_nothing_labelled_is_no_loss(planes: Planes) -> None:
    logits, (mask, voronoi) = on_torch(planes)
    loss = segmentation_loss(logits, [torch.ones_like(mask), torch.full_like(voronoi, IGNORED)], 0.5)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_detection_is_cross_entropy_of_the_mask(planes: Planes) -> None:
    logits, _, classes = planes
    expected = np.mean([surprise(logits, *p, classes[p]) for p in np.ndindex(2, 6, 7) if classes[p] != IGNORED])
    found = detection_loss(torch.from_numpy(logits), [torch.from_numpy(classes)])
    assert float(found) == pytest.approx(expected, rel=1e-5)

"""Pseudo labels of another self-training round: what a network finds again at other scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsipsm.models.unet import NucleusUnet
from wsipsm.psm.pseudo_label import IGNORED
from wsipsm.training.rounds import RoundOptions, relabel_images, score_at_scale
from wsipsm.training.student import StudentOptions, train_student

PALE, DARK, BROWN = (230, 200, 220), (60, 50, 140), (110, 60, 30)


class _Darkness(NucleusUnet):
    """Finds what is dark, so that what a round makes of an image is known."""

    def forward(self, rgb: Tensor) -> Tensor:
        red = rgb[:, 0]
        nucleus = (170 - red) / 6
        planes = [nucleus, nucleus - 1]
        if self.head.out_channels == 3:
            planes.append((rgb[:, 0] - rgb[:, 2]) / 6)
        return torch.stack(planes, dim=1)


@pytest.fixture
def image() -> NDArray[np.uint8]:
    rgb = np.full((200, 208, 3), PALE, np.uint8)
    rows, columns = np.indices(rgb.shape[:2])
    for k in range(16):
        away = np.hypot(columns - (26 + 50 * (k % 4)), rows - (26 + 48 * (k // 4)))
        rgb[away < 12] = BROWN if k < 8 else DARK
        rgb[away < 4] = PALE  # hollow
    return rgb


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_scores_lie_on_the_image_at_every_scale(image: NDArray[np.uint8], scale: float) -> None:
    scores = score_at_scale(_Darkness(2), image, scale)
    assert scores.shape == (2, 200, 208)
    dark = image[..., 0] < 170
    assert ((scores[0] > 0.5) == dark).mean() > 0.98


def test_whole_nuclei_are_kept_smooth_and_filled(image: NDArray[np.uint8]) -> None:
    told: list[str] = []
    (made,) = relabel_images([image], _Darkness(2), 0.25, RoundOptions(), told.append)
    assert told == [f"pseudo labels 1/1: {len(made.label.points_xy)} nuclei kept, {len(made.cutouts)} to paste"]
    assert 8 <= len(made.label.points_xy) <= 12  # the best share of 16
    area = np.bincount(made.label.instances.ravel())[1:]
    np.testing.assert_allclose(area[area > 0], np.pi * 12**2, rtol=0.15)
    assert len(made.cutouts) == len(made.label.points_xy)
    assert (made.label.positive == IGNORED).all()
    assert (made.label.nucleus[made.label.instances > 0] == 1).all()
    assert made.label.nucleus[0, 0] == 0
    assert (made.label.nucleus == IGNORED).any()  # the nuclei that were not kept


def test_classes_of_ki67(image: NDArray[np.uint8]) -> None:
    (made,) = relabel_images([image], _Darkness(3), 0.25, RoundOptions(), lambda line: None)
    upper = made.label.positive[:100]
    lower = made.label.positive[100:]
    assert set(np.unique(upper)) == {1, IGNORED}
    assert set(np.unique(lower)) == {0, IGNORED}
    assert {cutout.positive for cutout in made.cutouts} == {0, 1}


def test_nothing_found_teaches_background() -> None:
    blank = np.full((64, 64, 3), PALE, np.uint8)
    (made,) = relabel_images([blank], _Darkness(3), 0.25, RoundOptions(), lambda line: None)
    assert (made.label.nucleus == 0).all()
    assert made.cutouts == ()


def test_a_round_is_learned_from(image: NDArray[np.uint8]) -> None:
    labelled = relabel_images([image], _Darkness(2), 0.25, RoundOptions(), lambda line: None)
    losses: list[float] = []
    options = StudentOptions(steps=8, batch=2, crop_px=96, robustness=0.0)
    first = train_student(labelled, 2, options, progress=lambda step, steps, loss: losses.append(loss))
    second = train_student(labelled, 2, options)
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())

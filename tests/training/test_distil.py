"""A student of coarser pixels says what the network says of the fine ones, and training it goes on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsipsm.errors import ModelError
from wsipsm.models.unet import NucleusUnet
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.distil import DistilOptions, distil_student

AS_IT_IS = AugmentOptions(
    log_gain=(0.0, 0.0), offset_od=(0.0, 0.0), log_gamma=0.0, blur_share=0.0, noise=0.0, jpeg_share=0.0,
    scale=(0.999, 1.001),
)  # fmt: skip
OPTIONS = DistilOptions(steps=40, batch=2, crop_px=64, learning_rate=2e-3, augment=AS_IT_IS)


def scores(network: NucleusUnet, rgb: NDArray[np.uint8]) -> Tensor:
    with torch.inference_mode():
        return torch.sigmoid(network(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()))


def mean_of_blocks(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    mean: NDArray[np.float64] = image.reshape(80, 2, 80, 2, 3).mean(axis=(1, 3))
    return np.rint(mean).astype(np.uint8)


def test_it_says_of_coarse_pixels_what_the_teacher_says_of_fine_ones(
    teacher: NucleusUnet, image: NDArray[np.uint8]
) -> None:
    student = distil_student([image], teacher, OPTIONS)
    wanted = torch.nn.functional.avg_pool2d(scores(teacher, image), 2)
    before, after = (
        float((scores(network, mean_of_blocks(image)) - wanted).pow(2).mean()) for network in (teacher, student)
    )
    assert after < 0.8 * before
    assert student.detail is not None
    assert not student.training


def test_it_learns_what_the_teacher_says_of_a_paler_look(teacher: NucleusUnet, image: NDArray[np.uint8]) -> None:
    student = distil_student([image], teacher, replace(OPTIONS, view_gains=(0.4,) * 4))
    half = mean_of_blocks(image)
    paler = np.exp(0.4 * np.log(np.maximum(image, 1) / 255)) * 255  # Beer-Lambert: 0.4 times the density
    of_paler, of_plain = (
        torch.nn.functional.avg_pool2d(scores(teacher, seen), 2) for seen in (np.rint(paler).astype(np.uint8), image)
    )
    said = scores(student, half)
    assert float((said - of_paler).abs().mean()) < float((said - of_plain).abs().mean())


def test_the_teacher_is_not_changed(teacher: NucleusUnet, image: NDArray[np.uint8]) -> None:
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    distil_student([image], teacher, replace(OPTIONS, steps=2))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training


def test_it_is_seeded_and_goes_on(teacher: NucleusUnet, image: NDArray[np.uint8], tmp_path: Path) -> None:
    short = replace(OPTIONS, steps=2)
    plain, kept, again = (
        distil_student([image], teacher, short, keep=keep).state_dict()
        for keep in (None, tmp_path / "distil", tmp_path / "distil")
    )
    for name in plain:
        assert torch.equal(plain[name], kept[name])
        assert torch.equal(plain[name], again[name])
    with pytest.raises(ModelError, match="other images or settings"):
        distil_student([255 - image], teacher, short, keep=tmp_path / "distil")

"""The second training makes a network say of a compressed scan what it says of the scan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsipsm.errors import ModelError
from wsipsm.models.registry import resolve_model
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import build_network
from wsipsm.training.augment import AugmentOptions, compress
from wsipsm.training.consistency import ConsistencyOptions, train_consistency

HARD = AugmentOptions(
    log_gain=(0.0, 0.0), offset_od=(0.0, 0.0), log_gamma=0.0, blur_share=0.0, noise=0.0, jpeg_share=1.0,
    jpeg_quality=(15, 30), scale=(0.999, 1.001),
)  # fmt: skip
OPTIONS = ConsistencyOptions(steps=16, batch=2, crop_px=96, learning_rate=5e-4, augment=HARD)


@pytest.fixture(scope="module")
def student(teacher: NucleusUnet, image: NDArray[np.uint8]) -> NucleusUnet:
    return train_consistency([image], teacher, OPTIONS)


def scores(network: NucleusUnet, rgb: NDArray[np.uint8]) -> Tensor:
    with torch.inference_mode():
        return torch.sigmoid(network(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()))


def test_the_student_is_nearer_to_the_teacher_on_compressed_images(
    teacher: NucleusUnet, student: NucleusUnet, image: NDArray[np.uint8]
) -> None:
    wanted = sum(
        torch.rot90(scores(teacher, np.rot90(image, turns)), -turns, (2, 3)) for turns in range(4)
    ) / 4  # fmt: skip
    rng = np.random.default_rng(9)
    before = after = 0.0
    for _ in range(4):
        compressed = compress(image, HARD, rng)
        before += float((scores(teacher, compressed) - wanted).abs().mean())
        after += float((scores(student, compressed) - wanted).abs().mean())
    assert after < 0.95 * before


def test_the_teacher_is_not_changed(teacher: NucleusUnet, student: NucleusUnet) -> None:
    weights, card = resolve_model("nuclei-he")
    shipped = build_network(card, weights).state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    own = student.state_dict()
    assert not torch.equal(own["head.weight"], shipped["head.weight"])
    # Norms keep the teacher's statistics, but for the rounding of the average.
    assert all(torch.allclose(own[name], shipped[name]) for name in own if "running" in name)
    assert not student.training


def test_it_is_seeded_and_goes_on(teacher: NucleusUnet, image: NDArray[np.uint8], tmp_path: Path) -> None:
    short = replace(OPTIONS, steps=2, crop_px=64)
    plain, kept, again = (
        train_consistency([image], teacher, short, keep=keep).state_dict()
        for keep in (None, tmp_path / "steady", tmp_path / "steady")
    )
    for name in plain:
        assert torch.equal(plain[name], kept[name])
        assert torch.equal(plain[name], again[name])
    with pytest.raises(ModelError, match="other images or settings"):
        train_consistency([255 - image], teacher, short, keep=tmp_path / "steady")


def test_the_student_learns_what_the_teacher_sees_in_a_paler_image(
    teacher: NucleusUnet, image: NDArray[np.uint8]
) -> None:
    plain = replace(HARD, jpeg_share=0.0)
    student = train_consistency([image], teacher, replace(OPTIONS, steps=30, view_gains=(0.4,) * 4, augment=plain))
    paler = np.exp(0.4 * np.log(np.maximum(image, 1) / 255)) * 255  # Beer-Lambert: 0.4 times the density
    wanted = scores(teacher, np.rint(paler).astype(np.uint8))
    before, after = (float((scores(network, image) - wanted).abs().mean()) for network in (teacher, student))
    assert after < 0.9 * before

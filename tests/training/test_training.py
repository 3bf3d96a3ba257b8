"""Losses, augmentation and the loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.errors import WsipsmError
from wsipsm.psm.pseudo_label import IGNORED, PseudoLabel
from wsipsm.training.augment import AugmentOptions, compress, jitter_stains, turn
from wsipsm.training.losses import generalised_cross_entropy
from wsipsm.training.student import PseudoLabelledImage, StudentOptions, train_student

TINY = StudentOptions(steps=6, batch=2, crop_px=64)


@pytest.fixture(scope="module")
def labelled() -> PseudoLabelledImage:
    y, x = np.mgrid[:96, :96]
    disc = np.hypot(x - 48, y - 48) < 20
    rgb = np.where(disc[..., None], np.array([90, 60, 150]), np.array([235, 220, 230])).astype(np.uint8)
    label = PseudoLabel(
        disc.astype(np.uint8), disc.astype(np.int32), np.full(disc.shape, IGNORED, np.uint8), np.array([[48.5, 48.5]])
    )
    return PseudoLabelledImage(rgb, label)


def test_loss_is_the_paper_s_formula_and_ignores() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 8, 8)).astype(np.float32)
    target = rng.choice([0, 1, IGNORED], size=(1, 8, 8)).astype(np.uint8)
    p = 1 / (1 + np.exp(-logits))
    of_label = np.where(target == 1, p, 1 - p)
    weight = (target != IGNORED) * np.where(target == 1, 1.3, 1.0)
    expected = ((1 - of_label**0.5) / 0.5 * weight).sum() / weight.sum()
    found = float(generalised_cross_entropy(torch.from_numpy(logits), torch.from_numpy(target)))
    assert found == pytest.approx(expected, rel=1e-4)
    near_zero = float(generalised_cross_entropy(torch.from_numpy(logits), torch.from_numpy(target), q=1e-3))
    assert near_zero == pytest.approx(float((-np.log(of_label) * weight).sum() / weight.sum()), rel=1e-2)


PLAIN = AugmentOptions(log_gain=(0.0, 0.0), offset_od=(0.0, 0.0), log_gamma=0.0, blur_share=0.0, noise=0.0)


def test_no_jitter_changes_nothing() -> None:
    rgb = torch.randint(20, 255, (2, 3, 16, 16)).float()
    assert (jitter_stains(rgb, PLAIN, torch.Generator()) - rgb).abs().max() < 2


def test_jitter_changes_colour() -> None:
    rgb = torch.full((1, 3, 8, 8), 120.0)
    assert (jitter_stains(rgb, AugmentOptions(), torch.Generator().manual_seed(1)) - rgb).abs().max() > 3


@given(sigma_px=st.floats(0.5, 3.0))
@settings(max_examples=10, deadline=None)
def test_blur_is_gaussian_of_the_given_width(sigma_px: float) -> None:
    dot = torch.full((1, 3, 41, 41), 250.0)
    dot[..., 20, 20] = 50.0
    options = replace(PLAIN, blur_share=1.0, blur_sigma_px=(sigma_px, sigma_px))
    blurred = jitter_stains(dot, options, torch.Generator().manual_seed(0))[0, 0].double().numpy()
    depth = np.clip(blurred.max() - blurred, 0, None)
    far = np.arange(41) - 20
    measured = np.sqrt((depth.sum(axis=0) * far**2).sum() / depth.sum())
    assert measured == pytest.approx(sigma_px, abs=0.1)


@pytest.mark.parametrize("turns", range(4))
def test_planes_turn_together(turns: int) -> None:
    plane = np.arange(16).reshape(4, 4)
    colour, flat = turn([np.repeat(plane[..., None], 3, 2), plane], turns, mirrored=True)
    assert np.array_equal(colour[..., 0], flat)


def test_training_is_seeded_and_learns(labelled: PseudoLabelledImage) -> None:
    losses: list[float] = []
    first = train_student([labelled], 2, TINY, progress=lambda step, steps, loss: losses.append(loss))
    second = train_student([labelled], 2, TINY)
    assert losses[-1] < losses[0]
    left, right = first.state_dict(), second.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_ten_steps_are_enough_for_the_schedule(labelled: PseudoLabelledImage) -> None:
    train_student([labelled], 2, StudentOptions(steps=10, batch=1, crop_px=32))


def test_no_number_stops(labelled: PseudoLabelledImage) -> None:
    with pytest.raises(WsipsmError, match=r"loss is nan at step 1[^0-9]"):
        train_student([labelled], 2, replace(TINY, learning_rate=float("inf")))


def test_compression_is_seen_and_bounded() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(60, 200, (32, 40, 3)).astype(np.uint8)
    always = compress(rgb, AugmentOptions(jpeg_share=1.0), rng)
    assert always.shape == rgb.shape
    assert 0 < np.abs(always.astype(int) - rgb).mean() < 40
    assert compress(rgb, AugmentOptions(jpeg_share=0.0), rng) is rgb

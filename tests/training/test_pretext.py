"""The pretext learns, and tells when it learns nothing."""

from __future__ import annotations

import numpy as np

from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.training.pretext_training import PretextOptions, train_pretext


def test_loss_falls_on_tissue() -> None:
    rgb, _ = draw_array(seed=2, size=(128, 128), n_nuclei=10, stain=Stain.HE)
    told: list[int] = []
    options = PretextOptions(steps=12, batch=3, crop_px=48, learning_rate=1e-3)
    _, log = train_pretext([rgb], options, lambda step, steps, loss: told.append(step))
    assert np.mean(log.losses[-3:]) < np.mean(log.losses[:3])
    assert log.spread > 1e-3
    assert not log.collapsed
    assert told == list(range(12))


def test_images_of_one_colour_are_told_as_collapse() -> None:
    plain = np.full((64, 64, 3), 210, np.uint8)
    _, log = train_pretext([plain], PretextOptions(steps=2, batch=2, crop_px=48))
    assert log.collapsed


def test_seeds_differ() -> None:
    rgb, _ = draw_array(seed=2, size=(96, 96), n_nuclei=6, stain=Stain.HE)
    first, second = (train_pretext([rgb], PretextOptions(1, 2, 48, seed=seed))[1] for seed in (0, 1))
    assert first.losses != second.losses


def test_an_image_smaller_than_a_crop_sets_the_crop_for_all() -> None:
    rgb, _ = draw_array(seed=2, size=(96, 96), n_nuclei=6, stain=Stain.HE)
    _, log = train_pretext([rgb, rgb[:40]], PretextOptions(steps=2, batch=3, crop_px=64))
    assert np.isfinite(log.losses).all()

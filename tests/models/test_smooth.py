"""Smoothing of a network's input: both forms agree, and tiles leave no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsipsm.demo.draw import draw_array
from wsipsm.models.registry import resolve_model
from wsipsm.models.smooth import smooth_image, smoothing_radius
from wsipsm.models.smooth_batch import smooth_batch
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import measure_reach

RGB = np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)
SIGMAS = (0.5, 1.0, 1.2, 3.0)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_images_and_batches_are_smoothed_alike(sigma: float) -> None:
    tissue, _ = draw_array(seed=1, size=(96, 80), n_nuclei=8)
    # OpenCV's kernel has whole numbers of 1/256, which shows in noise more than in tissue.
    for rgb, levels in ((tissue, 1.0), (RGB, 2.0)):
        found = smooth_batch(torch.from_numpy(rgb).permute(2, 0, 1)[None].float(), sigma)[0].permute(1, 2, 0).numpy()
        image = smooth_image(rgb, sigma)
        assert found.shape == image.shape == rgb.shape
        assert np.abs(found - image).max() <= levels
        assert image.std() < rgb.std()


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("y", "x"), [(0, 0), (7, 13), (16, 32)])
def test_a_crop_is_smoothed_as_the_whole_is(sigma: float, y: int, x: int) -> None:
    radius = smoothing_radius(sigma)
    inner = np.s_[radius : 60 - radius, radius : 50 - radius]
    whole, crop = smooth_image(RGB, sigma), smooth_image(RGB[y : y + 60, x : x + 50], sigma)
    np.testing.assert_array_equal(crop[inner], whole[y : y + 60, x : x + 50][inner])


@pytest.mark.parametrize("sigma", SIGMAS)
def test_nothing_is_felt_beyond_the_radius(sigma: float) -> None:
    radius = smoothing_radius(sigma)
    changed = RGB.copy()
    changed[:, :40] = 0
    np.testing.assert_array_equal(
        smooth_image(changed, sigma)[:, 40 + radius :], smooth_image(RGB, sigma)[:, 40 + radius :]
    )


def test_no_sigma_changes_nothing() -> None:
    assert smooth_image(RGB, 0) is RGB
    batch = torch.zeros(1, 3, 8, 8)
    assert smooth_batch(batch, 0) is batch


class Smoothed(nn.Module):
    """A network behind its smoothing, as one that reach is measured of."""

    def __init__(self, network: NucleusUnet, sigma_px: float) -> None:
        super().__init__()
        self.network, self.sigma_px = network, sigma_px

    def forward(self, rgb: Tensor) -> Tensor:
        logits: Tensor = self.network(smooth_batch(rgb, self.sigma_px))
        return logits


@pytest.mark.parametrize("name", ["nuclei-he", "ki67-ihc"])
def test_the_reach_of_shipped_cards_holds_their_smoothing(name: str) -> None:
    _, card = resolve_model(name)
    assert measure_reach(Smoothed(NucleusUnet(len(card.outputs)), card.input_sigma_px)) <= card.reach_px

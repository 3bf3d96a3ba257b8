"""Consistency distillation: it trains a network to find the same nuclei in a scan however that was compressed.

The teacher is the network before this training. It scores each crop in four rotations (test-time augmentation). The
student gets the crop once, compressed, blurred, with other stain strengths, and smoothed as in later use, and learns
the mean of the teacher's scores. Where these vary, as for a nucleus that is divided in some views only, the student
learns the average.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from wsipsm.models.smooth_batch import smooth_batch
from wsipsm.models.unet import NucleusUnet
from wsipsm.training.augment import AugmentOptions, compress, crop_scaled, jitter_stains
from wsipsm.training.bounds import CHECKED, Batch, CropPx, Positive, Sigma, Steps, ViewGains
from wsipsm.training.checkpoint import digest_arrays, digest_state
from wsipsm.training.fit import BatchSource, FitOptions, Progress, averaged_plan, fit
from wsipsm.training.losses import soft_loss

_Pair: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, config=CHECKED)
class ConsistencyOptions:
    """Settings of a consistency distillation."""

    steps: Steps = 400
    batch: Batch = 6
    crop_px: CropPx = 256
    view_gains: ViewGains = (1.0, 1.0, 1.0, 1.0)
    """Gain of the optical density in each test-time augmentation view of a crop; each view is rotated by a further
    quarter turn. The target is the mean of the teacher's scores over the views."""
    learning_rate: Positive = 1e-3
    seed: NonNegativeInt = 0
    input_sigma_px: Sigma = 0.0
    """Sigma of the smoothing of the student's input, pixels, which becomes that of its card."""
    teacher_sigma_px: Sigma = 0.0
    """Sigma of the smoothing of the teacher's input, pixels; it should be the one that the teacher was trained with."""
    augment: AugmentOptions = field(
        default_factory=lambda: AugmentOptions(
            log_gain=(-0.2, 0.2), offset_od=(-0.02, 0.02), log_gamma=0.1, jpeg_share=1.0
        )
    )
    """Augmentation of the student's input. It is milder than in other trainings, since the teacher gets the image as it
    is."""


def train_consistency(
    images: Sequence[NDArray[np.uint8]],
    network: NucleusUnet,
    options: ConsistencyOptions,
    progress: Progress | None = None,
    keep: Path | None = None,
    student: NucleusUnet | None = None,
) -> NucleusUnet:
    """Train a copy of a network to give for a compressed image the scores that the network gives for the image itself.

    Parameters
    ----------
    images
        Unlabelled images at the teacher's mpp, shape (h, w, 3), uint8.
    network
        The teacher, which is not changed.
    options
        Settings of the training.
    progress
        Function that is called with the step, the number of steps and the loss.
    keep
        Path of checkpoint and log, without suffix; None: nothing is stored.
    student
        Network that the student starts from; None: the teacher.

    Returns
    -------
    The student with averaged weights, in evaluation mode, on the processor.
    """
    teacher = copy.deepcopy(network).eval().requires_grad_(False)
    start = network if student is None else student
    learner = _FrozenNorms(copy.deepcopy(start).requires_grad_(True))

    def make_batch(source: BatchSource) -> _Pair:
        crops = [_draw_crop(images, options, source.rng) for _ in range(source.share(options.batch))]
        compressed = [compress(crop, options.augment, source.rng) for crop in crops]
        shown = jitter_stains(_as_batch(compressed), options.augment, source.generator())
        plain = smooth_batch(_as_batch(crops), options.teacher_sigma_px)
        return plain, smooth_batch(shown, options.input_sigma_px)

    def loss(trained: nn.Module, pair: _Pair, device: torch.device) -> Tensor:
        plain, shown = (part.to(device) for part in pair)
        target = _mean_over_views(teacher.to(device), plain, options.view_gains)
        return soft_loss(trained(shown).float(), target)

    plan = averaged_plan(learner, make_batch, loss, options.learning_rate, options.steps)
    weights = [digest_state(part.state_dict()) for part in (network, start)]
    identity = f"consistency {options} {' '.join(weights)} {digest_arrays(images)}"
    fit(plan, FitOptions(options.steps, options.seed, keep, identity), progress)
    return learner.inner.cpu().eval()


class _FrozenNorms(nn.Module):
    """A network whose batch norms keep their statistics in training, since those of the teacher already fit."""

    def __init__(self, inner: NucleusUnet) -> None:
        super().__init__()
        self.inner = inner

    def train(self, mode: bool = True) -> _FrozenNorms:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, rgb: Tensor) -> Tensor:
        logits: Tensor = self.inner(rgb)
        return logits


def _mean_over_views(teacher: NucleusUnet, rgb: Tensor, view_gains: Sequence[float]) -> Tensor:
    with torch.no_grad():
        total = torch.zeros(())
        for turns, gain in enumerate(view_gains):
            # Optical density is -log of the transmission, so a gain of it is a power of the transmission.
            seen = rgb if gain == 1 else 255 * (rgb / 255) ** gain
            scores = torch.sigmoid(teacher(torch.rot90(seen, turns, (2, 3))).float())
            total = total.to(scores) + torch.rot90(scores, -turns, (2, 3))
    return total / len(view_gains)


def _draw_crop(
    images: Sequence[NDArray[np.uint8]], options: ConsistencyOptions, rng: np.random.Generator
) -> NDArray[np.uint8]:
    image = images[int(rng.integers(len(images)))]
    window, soft = crop_scaled(image.shape, options.crop_px, options.augment, rng)
    crop = cv2.resize(image[window], (options.crop_px, options.crop_px), interpolation=soft)
    return np.ascontiguousarray(np.rot90(crop, int(rng.integers(4))), dtype=np.uint8)


def _as_batch(crops: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()

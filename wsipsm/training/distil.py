"""Distillation of a faster student: a copy of a network learns the network's scores from coarser pixels.

The teacher scores every whole image once, when it is first needed, and the scores are kept in memory. Otherwise the
teacher, with its finer pixels, would take most of the time of every step. The student gets crops that are compressed,
blurred and of other stain strengths, in which each pixel is the mean of several of the teacher's, and learns the mean
of the teacher's scores there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from wsipsm.models.unet import NucleusUnet, refine_head
from wsipsm.training.augment import AugmentOptions, compress, crop_scaled, jitter_stains
from wsipsm.training.bounds import CHECKED, Batch, CropPx, Positive, Shrink, Steps, ViewGains
from wsipsm.training.checkpoint import digest_arrays, digest_state
from wsipsm.training.fit import BatchSource, FitOptions, Progress, averaged_plan, fit
from wsipsm.training.losses import soft_loss
from wsipsm.training.rounds import score_at_scale

_Pair: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, config=CHECKED)
class DistilOptions:
    """Settings of the distillation of a faster student."""

    steps: Steps = 3000
    batch: Batch = 6
    crop_px: CropPx = 192
    """Side of a crop, pixels of the student."""
    shrink: Shrink = 2
    """Width of a pixel of the student, pixels of the teacher."""
    view_gains: ViewGains = (1.0, 1.0, 1.0, 1.0)
    """Gain of the optical density in each test-time augmentation view of an image; each view is rotated by a further
    quarter turn. The target is the mean of the teacher's scores over the views."""
    learning_rate: Positive = 1e-3
    seed: NonNegativeInt = 0
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    """Augmentation of the student's input; its blur is in pixels of the student."""


def distil_student(
    images: Sequence[NDArray[np.uint8]],
    teacher: NucleusUnet,
    options: DistilOptions,
    progress: Progress | None = None,
    keep: Path | None = None,
) -> NucleusUnet:
    """Train a copy of a network, with a fine head, to give the network's scores from coarser pixels.

    Parameters
    ----------
    images
        Unlabelled images at the teacher's mpp, shape (h, w, 3), uint8.
    teacher
        Network that is learned from; it is not changed.
    options
        Settings of the training.
    progress
        Function that is called with the step, the number of steps and the loss.
    keep
        Path of checkpoint and log, without suffix; None: nothing is stored.

    Returns
    -------
    The student with averaged weights, in evaluation mode, on the processor. See
    :func:`~wsipsm.models.unet.refine_head` for its head.
    """
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)

    @cache
    def teacher_scores(index: int) -> NDArray[np.float16]:
        # Scored only when first needed, so that a training that is already finished, or refused, spends no time here.
        return _mean_over_views(teacher, images[index], options.view_gains)

    def make_batch(source: BatchSource) -> _Pair:
        pairs = [_draw_pair(images, teacher_scores, options, source.rng) for _ in range(source.share(options.batch))]
        crops, targets = (torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2) for part in zip(*pairs, strict=True))
        # The mean of each block of pixels, as scanners and readers make the coarser levels of a slide.
        small = functional.avg_pool2d(crops.float(), options.shrink)
        return jitter_stains(small, options.augment, source.generator()), targets

    def loss(trained: nn.Module, pair: _Pair, device: torch.device) -> Tensor:
        shown, target = (part.to(device) for part in pair)
        return soft_loss(trained(shown).float(), target)

    student = refine_head(teacher).requires_grad_(True)
    plan = averaged_plan(student, make_batch, loss, options.learning_rate, options.steps)
    identity = f"distil {options} {digest_state(teacher.state_dict())} {digest_arrays(images)}"
    fit(plan, FitOptions(options.steps, options.seed, keep, identity), progress)
    return student.cpu().eval()


def _mean_over_views(teacher: NucleusUnet, rgb: NDArray[np.uint8], view_gains: Sequence[float]) -> NDArray[np.float16]:
    """Average the scores of a whole image, shape (h, w, outputs), float16, since those of all images are in memory."""
    total: NDArray[np.float32] = np.zeros((), np.float32)
    for turns, gain in enumerate(view_gains):
        # Optical density is -log of the transmission, so a gain of it is a power of the transmission.
        seen = np.rint(255 * (rgb / 255) ** gain).astype(np.uint8)
        scores = score_at_scale(teacher, np.rot90(seen, turns), 1.0)
        total = total + np.rot90(scores, -turns, (1, 2))
    return np.ascontiguousarray((total / len(view_gains)).transpose(1, 2, 0), dtype=np.float16)


def _draw_pair(
    images: Sequence[NDArray[np.uint8]],
    teacher_scores: Callable[[int], NDArray[np.float16]],
    options: DistilOptions,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Choose a random crop, in the teacher's pixels, and its target scores, in the student's pixels."""
    index = int(rng.integers(len(images)))
    side_px = options.crop_px * options.shrink
    window, soft = crop_scaled(images[index].shape, side_px, options.augment, rng)
    crop = cv2.resize(images[index][window], (side_px, side_px), interpolation=soft)
    scores = teacher_scores(index)[window].astype(np.float32)
    mean = cv2.INTER_AREA if len(scores) > options.crop_px else cv2.INTER_LINEAR
    target = cv2.resize(scores, (options.crop_px, options.crop_px), interpolation=mean)
    turns = int(rng.integers(4))
    turned = np.ascontiguousarray(np.rot90(crop, turns), dtype=np.uint8)
    return compress(turned, options.augment, rng), np.ascontiguousarray(np.rot90(target, turns), dtype=np.float32)

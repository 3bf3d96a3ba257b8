"""The student's training: random crops of pseudo-labelled images, a moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsipsm.errors import WsipsmError
from wsipsm.models.unet import NucleusUnet
from wsipsm.psm.pseudo_label import PseudoLabel
from wsipsm.training.augment import AugmentOptions, compress, jitter_stains, turn
from wsipsm.training.losses import student_loss


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Settings of the student's training."""

    steps: int = 600
    batch: int = 6
    crop_px: int = 256
    learning_rate: float = 2e-3
    seed: int = 0
    augment: AugmentOptions = field(default_factory=AugmentOptions)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One image and what it teaches."""

    rgb: NDArray[np.uint8]
    label: PseudoLabel


def train_student(
    lessons: Sequence[Lesson],
    n_outputs: int,
    options: TrainOptions,
    start: dict[str, Tensor] | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> NucleusUnet:
    """Train the network on pseudo labels.

    Parameters
    ----------
    lessons
        Images with their pseudo labels.
    n_outputs
        2 for H&E, 3 for IHC.
    options
        Settings; two runs on the same CPU with the same seed give the same weights.
    start
        Weights to start from, by name; those that fit are taken, others stay random.
    progress
        Called with the step and the loss.

    Returns
    -------
    The network with the averaged weights, in evaluation mode.

    Raises
    ------
    WsipsmError
        When the loss is no number any more.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    network = NucleusUnet(n_outputs)
    _start_from(network, start or {})
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=1e-4)
    # OneCycleLR divides by zero where its first phase has no length, which is at 10 steps.
    n_scheduled = max(options.steps, 11)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=n_scheduled, pct_start=0.1
    )
    average = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(options.steps):
        rgb, nucleus, distance, positive = _draw_batch(lessons, options, rng)
        rgb = jitter_stains(rgb, options.augment, generator).contiguous(memory_format=torch.channels_last)
        loss = student_loss(network(rgb), nucleus, distance, positive)
        told = float(loss.detach())
        if not math.isfinite(told):
            raise WsipsmError(f"training: the loss is {told:g} at step {step}; a number is needed. Try another --seed.")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        _update_average(average, network, step)
        if progress is not None:
            progress(step, told)
    network.load_state_dict(average)
    network.eval()
    return network


def _start_from(network: NucleusUnet, start: dict[str, Tensor]) -> None:
    own = network.state_dict()
    fitting = {name: value for name, value in start.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict({**own, **fitting})


def _update_average(average: dict[str, Tensor], network: NucleusUnet, step: int) -> None:
    momentum = min(0.99, (step + 1) / (step + 10))
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].mul_(momentum).add_(value, alpha=1 - momentum)
        else:
            average[name].copy_(value)


def _draw_batch(
    lessons: Sequence[Lesson], options: TrainOptions, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    crops = [_draw_crop(lessons[int(rng.integers(len(lessons)))], options, rng) for _ in range(options.batch)]
    rgb, nucleus, distance, positive = (np.stack(planes) for planes in zip(*crops, strict=True))
    return (
        torch.from_numpy(rgb).permute(0, 3, 1, 2).float(),
        torch.from_numpy(nucleus),
        torch.from_numpy(distance),
        torch.from_numpy(positive),
    )


def _draw_crop(lesson: Lesson, options: TrainOptions, rng: np.random.Generator) -> list[NDArray[np.generic]]:
    low, high = (math.log(s) for s in options.augment.scale)
    height, width = lesson.rgb.shape[:2]
    side = min(round(options.crop_px / math.exp(rng.uniform(low, high))), height, width)
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    window = np.s_[y : y + side, x : x + side]
    size = (options.crop_px, options.crop_px)
    soft = cv2.INTER_AREA if side > options.crop_px else cv2.INTER_LINEAR
    planes: list[NDArray[np.generic]] = [
        compress(np.asarray(cv2.resize(lesson.rgb[window], size, interpolation=soft), np.uint8), options.augment, rng),
        cv2.resize(lesson.label.nucleus[window], size, interpolation=cv2.INTER_NEAREST_EXACT),
        cv2.resize(lesson.label.distance[window], size, interpolation=cv2.INTER_LINEAR),
        cv2.resize(lesson.label.positive[window], size, interpolation=cv2.INTER_NEAREST_EXACT),
    ]
    return [np.ascontiguousarray(p) for p in turn(planes, int(rng.integers(4)), bool(rng.random() < 0.5))]

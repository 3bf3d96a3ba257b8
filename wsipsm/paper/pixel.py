"""Training of the paper's detector and segmenter on pseudo labels, and their score maps of whole images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsipsm.models.padding import pad_aligned
from wsipsm.models.resnet_unet import STRIDE, ResnetUnet
from wsipsm.training.augment import AugmentOptions, jitter_stains, turn
from wsipsm.training.checkpoint import load_trunk
from wsipsm.training.fit import BatchSource, FitOptions, Progress, TrainingPlan, fit

PixelLoss: TypeAlias = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""Function from logits (n, classes, h, w) and target planes (n, h, w) to a loss."""
_RIM_PX = 64
"""Width of the reflected rim around a scored image, pixels."""


@dataclass(frozen=True, slots=True)
class PixelOptions:
    """Settings of a detector's or segmenter's training."""

    steps: int
    batch: int = 4
    crop_px: int = 256
    learning_rate: float = 1e-4
    seed: int = 0
    augment: bool = False
    """Whether inputs are rotated, mirrored and given other stain strengths; the published code has no augmentation."""
    encoder_weights: Path | None = None
    """Safetensors file of weights of torchvision's ResNet-34; None: random weights."""


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """An image and the planes that its loss reads, each of shape (h, w), uint8."""

    rgb: NDArray[np.uint8]
    targets: tuple[NDArray[np.uint8], ...]


_Batch: TypeAlias = tuple[Tensor, list[Tensor]]


def train_pixels(
    examples: Sequence[TrainingExample],
    n_classes: int,
    loss: PixelLoss,
    options: PixelOptions,
    progress: Progress | None = None,
    keep: Path | None = None,
    identity: str = "",
) -> ResnetUnet:
    """Train a ResNet-34 encoder-decoder with Adam at a constant rate, as the paper does.

    Parameters
    ----------
    examples
        Images with their targets, at least one; crops are no larger than the smallest image.
    n_classes
        Number of classes: the background and each class of nuclei.
    loss
        Loss of a batch: Eq. 8, or cross-entropy for the detector of Eq. 7.
    options
        Settings of the training.
    progress
        Function that is called with the step, the number of steps and the loss.
    keep
        Path of checkpoint and log, without suffix; None: nothing is stored.
    identity
        Hash of all that shapes the targets; a checkpoint of others is not continued.

    Returns
    -------
    The network in evaluation mode.
    """
    smallest = min(min(example.rgb.shape[:2]) for example in examples)
    side = max(STRIDE, min(options.crop_px, smallest) // STRIDE * STRIDE)

    def make_batch(source: BatchSource) -> _Batch:
        # With crops of one stride, the deepest batch norm gets one value for each crop, and it needs at least two.
        n_crops = max(source.share(options.batch), 2 if side == STRIDE else 1)
        crops = [_draw_crop(examples, side, options, source) for _ in range(n_crops)]
        rgb = torch.from_numpy(np.stack([crop[0] for crop in crops])).permute(0, 3, 1, 2).float()
        if options.augment:
            rgb = jitter_stains(rgb, AugmentOptions(), source.generator())
        targets = [torch.from_numpy(np.stack(planes)) for planes in zip(*(crop[1:] for crop in crops), strict=True)]
        return rgb, targets

    def batch_loss(trained: nn.Module, batch: _Batch, device: torch.device) -> Tensor:
        rgb, targets = batch
        return loss(trained(rgb.to(device)), [target.to(device) for target in targets])

    network = ResnetUnet(n_classes, options.seed)
    if options.encoder_weights is not None:
        load_trunk(network.encoder, options.encoder_weights, "torchvision's resnet34")
    plan = TrainingPlan(
        network=network,
        make_batch=make_batch,
        loss=batch_loss,
        optimiser=lambda module: torch.optim.Adam(module.parameters(), lr=options.learning_rate),
        learning_rate=lambda step: options.learning_rate,
    )
    fit(plan, FitOptions(options.steps, options.seed, keep, f"{options} {n_classes} {identity}"), progress)
    return network


def _draw_crop(
    examples: Sequence[TrainingExample], side: int, options: PixelOptions, source: BatchSource
) -> list[NDArray[np.generic]]:
    example = examples[int(source.rng.integers(len(examples)))]
    height, width = example.rgb.shape[:2]
    y, x = int(source.rng.integers(height - side + 1)), int(source.rng.integers(width - side + 1))
    planes: list[NDArray[np.generic]] = [p[y : y + side, x : x + side] for p in (example.rgb, *example.targets)]
    if options.augment:
        planes = turn(planes, int(source.rng.integers(4)), bool(source.rng.random() < 0.5))
    return [np.ascontiguousarray(plane) for plane in planes]


def score_pixels(network: ResnetUnet, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute class probabilities of a whole image, (h, w, 3), reflected at its border; (classes, h, w), float32."""
    device = next(network.parameters()).device
    image = torch.from_numpy(rgb.copy()).to(device).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        padded, (rows, columns) = pad_aligned(image, _RIM_PX, STRIDE)
        scores = torch.softmax(network(padded), dim=1)[0, :, rows, columns]
    return np.ascontiguousarray(scores.cpu().numpy(), dtype=np.float32)

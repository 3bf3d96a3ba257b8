"""The pretext task that prepares the activation network, on pixels alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsipsm.psm.activation import ActivationNetwork


@dataclass(frozen=True, slots=True)
class PretextOptions:
    """Settings of the similarity pretext."""

    steps: int = 25
    """Enough to settle the batch-norm statistics on the tissue; the loss falls fast and more collapses z."""
    batch: int = 6
    crop_px: int = 96
    learning_rate: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PretextLog:
    """What the training showed."""

    losses: tuple[float, ...]
    spread: float
    """Mean standard deviation of the embedding's components over the last batch; near 0 is collapse."""
    collapsed: bool


def train_similarity(
    images: Sequence[NDArray[np.uint8]], options: PretextOptions, progress: Callable[[int, float], None] | None = None
) -> tuple[ActivationNetwork, PretextLog]:
    """Train by similarity (Eq. 2): z of a patch and z of its rotation shall be close in Manhattan distance.

    Parameters
    ----------
    images
        Unlabelled RGB images, each of shape (height, width, 3), uint8.
    options
        Settings.
    progress
        Called with the step and the loss.

    Returns
    -------
    The network in evaluation mode, and the log with the spread of the embeddings.
    """
    rng = np.random.default_rng(options.seed)
    network = ActivationNetwork(options.seed).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    losses: list[float] = []
    spread = 0.0
    for step in range(options.steps):
        anchor = _crops(images, options, rng)
        positive = torch.rot90(anchor, int(rng.integers(1, 4)), (2, 3))
        _, z = network(torch.cat([anchor, positive]))
        za, zp = z.chunk(2)
        loss = (za - zp).abs().sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        spread = float(za.detach().std(dim=0).mean())
        if progress is not None:
            progress(step, losses[-1])
    return network.eval(), PretextLog(tuple(losses), spread, collapsed=spread < 1e-3)


def _crops(images: Sequence[NDArray[np.uint8]], options: PretextOptions, rng: np.random.Generator) -> Tensor:
    crops = []
    side = min(options.crop_px, *(min(image.shape[:2]) for image in images))  # a batch has one size
    for _ in range(options.batch):
        image = images[int(rng.integers(len(images)))]
        y = int(rng.integers(image.shape[0] - side + 1))
        x = int(rng.integers(image.shape[1] - side + 1))
        crops.append(torch.from_numpy(image[y : y + side, x : x + side].copy()).permute(2, 0, 1).float())
    return torch.stack(crops)

"""Training of the activation network by a pretext task, from pixels alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsipsm.errors import ModelError
from wsipsm.psm.backbone import EMBEDDING_SIZE, SMALL_NETWORK, ActivationNetwork
from wsipsm.psm.pretext import (
    N_TURNS,
    UNTRAINED,
    Pretext,
    PretextHead,
    contrastive_loss,
    embedding_spread,
    rotation_loss,
    similarity_loss,
    simsiam_loss,
    turned,
)
from wsipsm.training.checkpoint import digest_arrays, digest_state, load_trunk
from wsipsm.training.fit import BatchSource, FitOptions, Progress, TrainingPlan, fit

_COLLAPSED = 1e-3
"""Spread below which the embedding has collapsed."""


@dataclass(frozen=True, slots=True)
class PretextOptions:
    """Settings of a pretext training."""

    steps: int = 25
    """Number of steps. The default fits the batch-norm statistics to the tissue; with many more steps z collapses."""
    batch: int = 6
    crop_px: int = 96
    learning_rate: float = 1e-4
    seed: int = 0
    pretext: Pretext = Pretext.SIMILARITY
    network: str = SMALL_NETWORK
    embedding_size: int = EMBEDDING_SIZE
    margin: float = 10.0
    """Margin of Eq. 1."""
    weights: Path | None = None
    """Safetensors file of weights, by the network's own names, that the training starts from; ImageNet's need one."""


@dataclass(frozen=True, slots=True)
class PretextLog:
    """The record of a pretext training."""

    losses: tuple[float, ...]
    spread: float
    """Mean standard deviation of the embedding's components over a batch; near 0 is collapse."""
    collapsed: bool


@dataclass(frozen=True, slots=True)
class _Views:
    anchor: Tensor
    positive: Tensor
    negative: Tensor
    turns: Tensor


class _Task(nn.Module):
    """Network and head in one module, which maps views to the loss."""

    def __init__(self, network: ActivationNetwork, options: PretextOptions) -> None:
        super().__init__()
        self.network, self.options = network, options
        self.head = PretextHead(options.pretext, options.embedding_size)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor, turns: Tensor) -> Tensor:
        """Embed all views at once, so that batch norm sees them together."""
        views = [anchor, positive] + ([negative] if self.options.pretext == Pretext.CONTRAST else [])
        _, z = self.network(torch.cat(views))
        z = z.float()  # in bf16 the distance of similar embeddings would round to 0
        za, zp, *rest = z.split(len(anchor))
        match self.options.pretext:
            case Pretext.CONTRAST:
                return contrastive_loss(za, zp, rest[0], self.options.margin)
            case Pretext.ROTATION:
                return rotation_loss(self.head, zp, turns)
            case Pretext.SIMSIAM:
                return simsiam_loss(self.head, za, zp)
            case _:
                return similarity_loss(za, zp)


def train_pretext(
    images: Sequence[NDArray[np.uint8]],
    options: PretextOptions,
    progress: Progress | None = None,
    keep: Path | None = None,
) -> tuple[ActivationNetwork, PretextLog]:
    """Train an activation network by its pretext task (Eq. 1 or 2, or one beyond the paper).

    Parameters
    ----------
    images
        Unlabelled RGB images, each of shape (height, width, 3), uint8.
    options
        Settings; two runs on the same CPU with the same settings give the same weights.
    progress
        Function that is called with the step, the number of steps and the loss.
    keep
        Path of checkpoint and log, without suffix; None: nothing is stored.

    Returns
    -------
    The network in evaluation mode, and the log with the spread of the embeddings.

    Raises
    ------
    ModelError
        When weights do not fit the network, or the checkpoint is of another training.
    """
    network = ActivationNetwork(options.network, options.seed, options.embedding_size)
    if options.weights is not None:
        load_trunk(network.trunk, options.weights, network.name)
    elif options.pretext == Pretext.IMAGENET:
        raise ModelError(
            f"pretext imagenet: no weights were given; a .safetensors file for {options.network} is needed. "
            "pipelines/imagenet_lite0.py makes one for tf_efficientnet_lite0; pass it as weights."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        task = _Task(network, options)

    def make_batch(source: BatchSource) -> _Views:
        return _draw_views(images, options, source)

    def loss(trained: nn.Module, views: _Views, device: torch.device) -> Tensor:
        moved = [v.to(device, non_blocking=True) for v in (views.anchor, views.positive, views.negative, views.turns)]
        value: Tensor = trained(*moved)
        # For an untrained network the passes fit batch-norm statistics to the images, and no weight changes.
        return value * 0 if options.pretext in UNTRAINED else value

    # Random weights are not trained, but their batch-norm statistics are fitted; ImageNet's weights keep theirs.
    learning_rate = 0.0 if options.pretext in UNTRAINED else options.learning_rate
    steps = 0 if options.pretext == Pretext.IMAGENET else options.steps
    plan = TrainingPlan(
        network=task,
        make_batch=make_batch,
        loss=loss,
        optimiser=lambda module: torch.optim.Adam(module.parameters(), lr=learning_rate),
        learning_rate=lambda step: learning_rate,
    )
    identity = f"{options} {digest_state(task.state_dict())} {digest_arrays(images)}"
    losses = fit(plan, FitOptions(steps, options.seed, keep, identity), progress)
    # The spread is measured after training, so that it is the same for one that was continued from a checkpoint.
    spread = _measure_spread(network, _draw_views(images, options, _first(options)))
    return network.eval(), PretextLog(tuple(losses), spread, collapsed=spread < _COLLAPSED)


def _first(options: PretextOptions) -> BatchSource:
    return BatchSource(np.random.default_rng(options.seed), options.seed)


def _measure_spread(network: ActivationNetwork, views: _Views) -> float:
    """Measure the spread over one batch in training mode, on a copy, since the pass changes batch-norm statistics."""
    device = next(network.parameters()).device
    trained = copy.deepcopy(network).train()
    with torch.no_grad():
        return embedding_spread(trained(torch.cat([views.anchor, views.positive]).to(device))[1][: len(views.anchor)])


def _draw_views(images: Sequence[NDArray[np.uint8]], options: PretextOptions, source: BatchSource) -> _Views:
    batch = source.share(options.batch)
    side = min(options.crop_px, *(min(image.shape[:2]) for image in images))  # a batch has one size
    anchors, negatives = [], []
    for _ in range(batch):
        index = int(source.rng.integers(len(images)))
        anchors.append(_crop(images[index], side, source.rng))
        # The negative comes from another image, where there is one; a crop of the same image may show the same tissue.
        other = (index + int(source.rng.integers(1, max(2, len(images))))) % len(images)
        negatives.append(_crop(images[other], side, source.rng))
    anchor, negative = torch.stack(anchors), torch.stack(negatives)
    # The classifier of turns must also know upright images; the other tasks need a view that differs.
    lowest = 0 if options.pretext == Pretext.ROTATION else 1
    turns = torch.from_numpy(source.rng.integers(lowest, N_TURNS, size=batch))
    return _Views(anchor, turned(anchor, turns), negative, turns)


def _crop(image: NDArray[np.uint8], side: int, rng: np.random.Generator) -> Tensor:
    y = int(rng.integers(image.shape[0] - side + 1))
    x = int(rng.integers(image.shape[1] - side + 1))
    return torch.from_numpy(image[y : y + side, x : x + side].copy()).permute(2, 0, 1).float()

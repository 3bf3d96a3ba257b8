"""Losses of the pretext tasks that prepare the activation network on pixels alone (Eq. 1, 2; Table 3).

The positive of an image is its rotation, and the distance of two embeddings is the Manhattan distance. Similarity and
contrast are the paper's tasks; rotation prediction and SimSiam go beyond it. The training itself is in
:mod:`wsipsm.training.pretext_training`.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional

N_TURNS = 4


class Pretext(StrEnum):
    """The pretext task that prepares the activation network."""

    SIMILARITY = "similarity"
    """The loss of Eq. 2, which draws an image and its rotation together. It is the best one of the paper; the embedding
    can collapse under it, which the training reports."""
    CONTRAST = "contrast"
    """The loss of Eq. 1: an image must be nearer to its own rotation than to another image, by a margin."""
    ROTATION = "rotation"
    """The classification of quarter turns (Gidaris et al. 2018)."""
    SIMSIAM = "simsiam"
    """The prediction of the other view's projection, through which no gradient flows (Chen and He 2021)."""
    IMAGENET = "imagenet"
    """Weights of ImageNet classification, not trained further."""
    NONE = "none"
    """Random weights, as the control; only batch-norm statistics are fitted to the images."""


UNTRAINED = frozenset({Pretext.IMAGENET, Pretext.NONE})


class PretextHead(nn.Module):
    """The layers that a task adds to the network: none, a classifier of turns, or SimSiam's projector and predictor."""

    def __init__(self, pretext: Pretext, embedding_size: int) -> None:
        super().__init__()
        self.classify = nn.Linear(embedding_size, N_TURNS) if pretext == Pretext.ROTATION else nn.Identity()
        hidden = max(8, embedding_size // 4)
        self.project: nn.Module = nn.Identity()
        self.predict: nn.Module = nn.Identity()
        if pretext == Pretext.SIMSIAM:
            self.project = nn.Sequential(
                nn.BatchNorm1d(embedding_size), nn.ReLU(), nn.Linear(embedding_size, embedding_size)
            )
            self.predict = nn.Sequential(
                nn.Linear(embedding_size, hidden), nn.ReLU(), nn.Linear(hidden, embedding_size)
            )


def manhattan(first: Tensor, second: Tensor) -> Tensor:
    """Compute the Manhattan distance of embeddings, shape (n, size) each, to shape (n,)."""
    return (first - second).abs().sum(dim=1)


def similarity_loss(anchor: Tensor, positive: Tensor) -> Tensor:
    """Compute Eq. 2: the mean distance of each embedding to that of its rotation; shapes (n, size)."""
    return manhattan(anchor, positive).mean()


def contrastive_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Compute Eq. 1: max(0, margin + d(anchor, positive) - d(anchor, negative)), mean; shapes (n, size)."""
    return functional.relu(margin + manhattan(anchor, positive) - manhattan(anchor, negative)).mean()


def rotation_loss(head: PretextHead, embedding: Tensor, turns: Tensor) -> Tensor:
    """Compute the cross-entropy of the number of quarter turns, shape (n,)."""
    return functional.cross_entropy(head.classify(embedding), turns)


def simsiam_loss(head: PretextHead, first: Tensor, second: Tensor) -> Tensor:
    """Compute the negative cosine similarity of each view's prediction with the other's projection; -1 is best."""
    z1, z2 = head.project(first), head.project(second)
    p1, p2 = head.predict(z1), head.predict(z2)
    one = functional.cosine_similarity(p1, z2.detach(), dim=1).mean()
    other = functional.cosine_similarity(p2, z1.detach(), dim=1).mean()
    return -(one + other) / 2


def embedding_spread(embedding: Tensor) -> float:
    """Compute the mean standard deviation of the components of z over images, shape (n, size); near 0 is collapse."""
    return float(embedding.detach().float().std(dim=0, unbiased=len(embedding) > 1).mean())


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate each image of a batch (n, 3, h, h) by its number of quarter turns."""
    return torch.stack([torch.rot90(image, int(n), (1, 2)) for image, n in zip(images, turns.tolist(), strict=True)])

"""The two forms of a network: one gives the scores of an image, the other all its maps. The module needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsipsm.models.card import ModelCard
from wsipsm.models.unet import HEAD_STRIDE, NucleusUnet
from wsipsm.models.weights import build_network

Form = Literal["scores", "maps"]


class _Scores(nn.Module):
    """A network that maps an image, (1, h, w, 3) uint8, to scores 0..1 of shape (1, outputs, h, w)."""

    def __init__(self, network: NucleusUnet) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        logits: Tensor = self.network(rgb.permute(0, 3, 1, 2).float())
        return (torch.sigmoid(logits),)


class _Maps(nn.Module):
    """A network that maps an image, (1, h, w, 3) uint8, to its seven maps and its scores without the fine head."""

    def __init__(self, network: NucleusUnet) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        maps = self.network.maps(rgb.permute(0, 3, 1, 2).float())
        logits = functional.interpolate(
            self.network.head(maps[-1]), scale_factor=float(HEAD_STRIDE), mode="bilinear", align_corners=False
        )
        return (*maps, torch.sigmoid(logits))


def formed_network(weights: Path, card: ModelCard, form: Form) -> nn.Module:
    """Load a network in one of its forms; it returns a tuple of maps, each of shape (1, channels, h, w).

    Raises
    ------
    ModelError
        When the weights are unusable.
    """
    network = build_network(card, weights)
    return (_Scores(network) if form == "scores" else _Maps(network)).eval()

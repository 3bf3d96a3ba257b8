"""The forms of a network: two give scores, of an image or of what lies within a margin; one gives all maps.

The module needs torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsipsm.models.card import ModelCard
from wsipsm.models.unet import HEAD_STRIDE, NucleusUnet
from wsipsm.models.weights import build_network

Form = Literal["scores", "inner scores", "maps"]


class _Scores(nn.Module):
    """A network that maps an image, (1, h, w, 3) uint8, to scores 0..1 of shape (1, outputs, h, w).

    With a margin, which both h and w then lose twice, it gives the scores within.
    """

    def __init__(self, network: NucleusUnet, margin_px: int = 0) -> None:
        super().__init__()
        self.network, self.margin_px = network, margin_px

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        logits: Tensor = self.network(rgb.permute(0, 3, 1, 2).float(), self.margin_px)
        return (torch.sigmoid(logits.float()),)  # where the network multiplies in 16 bits, too


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
    if form == "maps":
        return _Maps(network).eval()
    return _Scores(network, card.margin_px if form == "inner scores" else 0).eval()

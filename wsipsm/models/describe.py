"""Figures that describe a network's own maps over a patch: the check of the pixel size reads a picture by them.

A network that was trained to find nuclei of one size answers to others unlike: its channels know the scale of what they
are shown, in pictures of any organ and stain strength, also where it finds no nucleus at all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wsipsm.models.card import ModelCard
from wsipsm.models.predict import torch_threads
from wsipsm.models.smooth import smooth_image
from wsipsm.models.unet import ENCODER_STRIDE, NucleusUnet
from wsipsm.models.weights import build_network

STATISTICS = ("mean", "spread", "mean where nuclei are")
"""Names of the statistics of every channel."""
_EDGE_PX = ENCODER_STRIDE
"""Left out along the border, where the network's own padding is seen."""
_MIN_PX_WITH_EDGE = 6 * ENCODER_STRIDE
_SMALL_WEIGHT = 1e-3
"""The weight of a pixel without nucleus, so that a patch without nuclei has a mean, too."""


class Describer:
    """Describes patches by the maps of a network, on the processor, where a few patches cost less than a GPU's start.

    Parameters
    ----------
    network
        Network in eval mode.
    card
        Card of the network.
    """

    def __init__(self, network: NucleusUnet, card: ModelCard) -> None:
        self.card = card
        # Mypy sees only the overload without a memory format.
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def describe(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give statistics of every channel of the network's seven maps and of its scores.

        Parameters
        ----------
        rgb
            Shape (h, w, 3); h and w multiples of 16.

        Returns
        -------
        Shape (3, channels): mean, standard deviation, and mean weighted by the nucleus score, of which the last
        channels are the scores themselves.
        """
        edge = _EDGE_PX if min(rgb.shape[:2]) >= _MIN_PX_WITH_EDGE else 0
        smooth = np.ascontiguousarray(smooth_image(np.ascontiguousarray(rgb), self.card.input_sigma_px))
        image = torch.from_numpy(smooth)[None].permute(0, 3, 1, 2).float()
        with torch.inference_mode(), torch_threads(1):
            maps = self._network.maps(image.contiguous(memory_format=torch.channels_last))
            logits = self._network.head(maps[-1])
            logits = functional.interpolate(logits, size=rgb.shape[:2], mode="bilinear", align_corners=False)
            scores = torch.sigmoid(logits)
            described = [_statistics(one, scores[:, :1], edge) for one in [*maps, scores]]
            result: NDArray[np.float32] = torch.cat(described, dim=1).numpy()
        return result


def open_describer(weights: Path, card: ModelCard) -> Describer:
    """Load a network to describe patches with.

    Parameters
    ----------
    weights, card
        The same as :func:`wsipsm.models.registry.resolve_model` returns.

    Raises
    ------
    ModelError
        When the weights are unusable.
    """
    return Describer(build_network(card, weights), card)


def _statistics(maps: Tensor, nucleus: Tensor, edge_px: int) -> Tensor:
    """Compute mean, spread and weighted mean of each channel of maps (1, channels, h, w), shape (3, channels)."""
    stride = nucleus.shape[2] // maps.shape[2]
    height, width = nucleus.shape[2] // stride, nucleus.shape[3] // stride
    edge = edge_px // stride
    inside = (slice(edge, height - edge), slice(edge, width - edge))
    values = maps[0][:, *inside].flatten(1)
    weights = functional.avg_pool2d(nucleus, stride)[0, 0][inside].flatten() + _SMALL_WEIGHT
    weighted = (values * weights).sum(dim=1) / weights.sum()
    return torch.stack([values.mean(dim=1), values.std(dim=1, correction=0), weighted])

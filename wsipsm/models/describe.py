"""Figures that describe a network's own maps over a patch: the check of the pixel size reads a picture by them.

A network that was trained to find nuclei of one size answers to others unlike: its channels know the scale of what they
are shown, in pictures of any organ and stain strength, also where it finds no nucleus at all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsipsm.models.card import ModelCard
from wsipsm.models.predict import Network, open_network
from wsipsm.models.smooth import network_input

STATISTICS = ("mean", "spread", "mean where nuclei are")
"""Names of the statistics of every channel."""
_MIN_STRIDES_WITH_EDGE = 6
"""One stride is left out along the border, where the network's own padding is seen, of a patch of so many."""
_SMALL_WEIGHT = 1e-3
"""The weight of a pixel without nucleus, so that a patch without nuclei has a mean, too."""


class Describer:
    """Describes patches by the maps of a network.

    Parameters
    ----------
    network
        Network of the form that gives all maps.
    card
        Card of the network.
    """

    def __init__(self, network: Network, card: ModelCard) -> None:
        self.card = card
        self._network = network

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
        edge = self.card.stride if min(rgb.shape[:2]) >= _MIN_STRIDES_WITH_EDGE * self.card.stride else 0
        maps = [one[0] for one in self._network.run(network_input(rgb, self.card))]
        return np.concatenate([_statistics(one, maps[-1][0], edge) for one in maps], axis=1)


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
    return Describer(open_network(weights, card, "maps", "auto", threads=1), card)


def _statistics(maps: NDArray[np.float32], nucleus: NDArray[np.float32], edge_px: int) -> NDArray[np.float32]:
    """Compute mean, spread and weighted mean of each channel of maps (channels, h, w), shape (3, channels)."""
    n_channels, rows, columns = maps.shape
    stride = nucleus.shape[0] // rows
    edge = edge_px // stride
    inside = (..., slice(edge, rows - edge), slice(edge, columns - edge))
    values = maps[inside].reshape(n_channels, -1)
    pooled = nucleus.reshape(rows, stride, columns, stride).mean(axis=(1, 3))
    weights = pooled[inside].ravel() + np.float32(_SMALL_WEIGHT)
    return np.stack([values.mean(axis=1), values.std(axis=1), values @ weights / weights.sum()])

"""Statistics of a network's maps over a patch, from which the check of the pixel size estimates the scale of a picture.

A network that was trained on nuclei of one size responds differently to nuclei of other sizes. So its channels depend
on the scale of a picture, of any organ and stain strength, even where the network finds no nucleus.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsipsm.models.card import ModelCard
from wsipsm.models.inference import choose_inference
from wsipsm.models.predict import Network, open_network
from wsipsm.models.smooth import network_input

STATISTICS = ("mean", "spread", "mean where nuclei are")
"""Names of the statistics of every channel."""
_MIN_STRIDES_WITH_EDGE = 6
"""Number of strides a side from which one stride along the border is left out, where the network's padding shows."""
_SMALL_WEIGHT = 1e-3
"""Weight that is added to every pixel, so that a patch without nuclei has a weighted mean, too."""


class Describer:
    """A network that describes patches by statistics of its maps.

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
        """Compute statistics of every channel of the network's seven maps and of its scores.

        Parameters
        ----------
        rgb
            Image of shape (h, w, 3), uint8; h and w multiples of the card's stride.

        Returns
        -------
        Mean, standard deviation, and mean weighted by the nucleus score of each channel, shape (3, channels), float32;
        the last channels are the scores.

        Raises
        ------
        ValueError
            When the image has another shape or type.
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
    # A few patches, as maps are asked of, cost less than a GPU's start.
    return Describer(open_network(weights, card, "maps", choose_inference(device="cpu"), threads=1), card)


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

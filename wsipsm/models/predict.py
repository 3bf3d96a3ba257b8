"""Prediction of score maps from pixels, by OpenVINO or torch, in tiles whose borders do not show in the result.

Both backends are told the chosen number format explicitly: OpenVINO would silently take bfloat16 where the
processor has it, and cuDNN TF32. A backend is imported only when it is chosen, because torch takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from wsipsm.models.card import ModelCard
from wsipsm.models.inference import Inference, choose_inference
from wsipsm.models.smooth import network_input

if TYPE_CHECKING:
    from wsipsm.models.forms import Form

_WHITE = 255


class Predictor(Protocol):
    """A network that is ready to run."""

    card: ModelCard
    backend: str
    """Library, version, device and precision, as run.json records it."""
    margin_px: int
    """Width of what :meth:`predict` leaves out along the image's border, pixels."""

    def predict(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score an image.

        Parameters
        ----------
        rgb
            Image of shape (h, w, 3), uint8; h and w multiples of the card's stride.

        Returns
        -------
        Scores 0..1, shape (outputs, h - 2 * margin_px, w - 2 * margin_px), float32. Those farther than
        ``card.reach_px`` from the image's border do not depend on what lies outside the image.

        Raises
        ------
        ValueError
            When the image has another shape or type.
        """

    def predict_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Score images one after the other; those of one shape may go through the network together.

        Parameters
        ----------
        images
            Each as :meth:`predict` takes it. Few are held at a time.

        Returns
        -------
        Scores of each image, in their order, to be read before the next ones are asked for.
        """


class Network(Protocol):
    """A network that a backend has loaded."""

    backend: str
    """Library, version, device and precision."""
    batch_px: int
    """Pixels of all images that are given to it together; a single image may have more."""

    def run(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute the maps of n images, (n, h, w, 3), uint8; each has shape (n, channels, h, w), float32."""


class NetworkPredictor:
    """A predictor that scores images by a network of either backend.

    Parameters
    ----------
    network
        Network of a form that gives scores.
    card
        Card of the network.
    margin_px
        What the form leaves out along the border, pixels.
    """

    def __init__(self, network: Network, card: ModelCard, margin_px: int = 0) -> None:
        self.card, self.backend, self.margin_px = card, network.backend, margin_px
        self._network = network

    def predict(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score an image; see :class:`Predictor`."""
        return next(self.predict_many([rgb]))

    def predict_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Score images; see :class:`Predictor`."""
        inputs = (network_input(rgb, self.card) for rgb in images)
        for batch in _batches(inputs, self._network.batch_px):
            yield from self._network.run(batch)[0]


def _batches(inputs: Iterable[NDArray[np.uint8]], batch_px: int) -> Iterator[NDArray[np.uint8]]:
    """Join neighbours of one shape, (1, h, w, 3), into batches of at most so many pixels."""
    waiting: list[NDArray[np.uint8]] = []
    for image in inputs:
        most = max(1, batch_px // (image.shape[1] * image.shape[2]))
        if waiting and (len(waiting) >= most or waiting[0].shape != image.shape):
            yield np.concatenate(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield np.concatenate(waiting)


def open_predictor(
    weights: Path,
    card: ModelCard,
    backend: str = "auto",
    threads: int = 1,
    device: str = "auto",
    precision: str = "auto",
) -> Predictor:
    """Load a network.

    Parameters
    ----------
    weights, card
        The same as :func:`wsipsm.models.registry.resolve_model` returns.
    backend, device, precision
        The same as :func:`wsipsm.models.inference.choose_inference` takes.
    threads
        Number of processor threads.

    Raises
    ------
    ModelError
        When the weights are unusable, or what shall run them is unknown or not there.

    Examples
    --------
    >>> from wsipsm import resolve_model
    >>> predictor = open_predictor(*resolve_model("ki67-ihc"))
    >>> predictor.predict(np.full((64, 64, 3), 240, np.uint8)).shape
    (3, 64, 64)
    """
    inference = choose_inference(backend, device, precision)
    return NetworkPredictor(open_network(weights, card, "scores", inference, threads), card)


def open_inner_predictor(weights: Path, card: ModelCard, inference: Inference, threads: int) -> Predictor:
    """Load a network whose scores leave out the card's margin, for which it multiplies less.

    Parameters
    ----------
    weights, card, threads
        The same as in :func:`open_predictor`.
    inference
        Library, device and number format, as chosen before.

    Raises
    ------
    ModelError
        When the weights are unusable, or the GPU is not there.
    """
    return NetworkPredictor(open_network(weights, card, "inner scores", inference, threads), card, card.margin_px)


def open_network(weights: Path, card: ModelCard, form: Form, inference: Inference, threads: int) -> Network:
    """Load a network in one of its forms.

    Parameters
    ----------
    weights, card, inference, threads
        The same as in :func:`open_inner_predictor`.
    form
        Which maps the network gives of an image.

    Raises
    ------
    ModelError
        When the weights are unusable, or the GPU is not there.
    """
    if inference.library == "torch":
        from wsipsm.models.torch_backend import TorchNetwork

        return TorchNetwork(weights, card, form, inference, threads)
    from wsipsm.models.openvino_backend import OpenVinoNetwork

    return OpenVinoNetwork(weights, card, form, threads)


def predict_tiled(predictor: Predictor, rgb: NDArray[np.uint8], margin_px: int, tile_px: int) -> NDArray[np.float32]:
    """Score an image in tiles whose borders do not show in the result.

    Parameters
    ----------
    predictor
        The network.
    rgb
        Image of shape (h, w, 3), uint8, with the margin; its origin on the working grid is a multiple of the stride.
    margin_px
        Width of the margin, pixels, which is cut off the result; a multiple of the stride, at least the card's reach.
    tile_px
        Side of the part of a tile that is kept, pixels; a multiple of the stride.

    Returns
    -------
    Scores 0..1, shape (outputs, h - 2 * margin_px, w - 2 * margin_px), float32.

    Raises
    ------
    ValueError
        When the margin or tile does not suit the network, or nothing is left within the margin.
    """
    stride, reach = predictor.card.stride, max(predictor.card.reach_px, predictor.margin_px)
    height, width = rgb.shape[0] - 2 * margin_px, rgb.shape[1] - 2 * margin_px
    if margin_px < reach or margin_px % stride:
        raise ValueError(f"margin_px={margin_px}: a multiple of {stride} of at least {reach} is needed.")
    if tile_px < stride or tile_px % stride:
        raise ValueError(f"tile_px={tile_px}: a positive multiple of {stride} is needed.")
    if height <= 0 or width <= 0:
        raise ValueError(f"image of {rgb.shape[1]} x {rgb.shape[0]} px: nothing is left within {margin_px} px.")
    # The network takes whole strides only. The added pixels are farther than the reach from every score that is kept.
    rgb = np.pad(rgb, ((0, -height % stride), (0, -width % stride), (0, 0)), constant_values=_WHITE)
    rest = margin_px - predictor.margin_px
    maps = np.empty((len(predictor.card.outputs), height, width), dtype=np.float32)
    side = tile_px + 2 * margin_px
    places = [(y, x) for y in range(0, height, tile_px) for x in range(0, width, tile_px)]
    tiles = predictor.predict_many(rgb[y : y + side, x : x + side] for y, x in places)
    for (y, x), tile in zip(places, tiles, strict=True):
        kept = maps[:, y : y + tile_px, x : x + tile_px]
        kept[...] = tile[:, rest:, rest:][:, : kept.shape[1], : kept.shape[2]]
    return maps

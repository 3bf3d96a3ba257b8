"""A network that torch runs: scores on the first GPU where there is one, maps on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsipsm.models.card import ModelCard
from wsipsm.models.forms import Form, formed_network


class TorchNetwork:
    """A network that torch runs.

    Parameters
    ----------
    weights, card
        The same as :func:`wsipsm.models.registry.resolve_model` returns.
    form
        Which maps it gives of an image.
    threads
        Number of processor threads.

    Raises
    ------
    ModelError
        When the weights are unusable.
    """

    def __init__(self, weights: Path, card: ModelCard, form: Form, threads: int) -> None:
        # Maps are computed for a few patches only, which takes less time than a GPU needs to start.
        on_gpu = form != "maps" and torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        self.backend = f"torch {torch.__version__} {self._device.type} f32"
        network = formed_network(weights, card, form)
        # Mypy sees only the overload without a memory format.
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._threads = threads

    def run(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute the maps of an image of shape (1, h, w, 3), uint8; each has shape (1, channels, h, w), float32."""
        image = torch.from_numpy(batch).to(self._device)
        with torch.inference_mode(), torch_threads(self._threads), _strict_float32():
            return [one.contiguous().cpu().numpy() for one in self._network(image)]


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Limit torch to ``n_threads`` threads of the processor within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _strict_float32() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield

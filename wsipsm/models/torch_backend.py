"""A network that torch runs, on a GPU or on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsipsm.models.card import ModelCard
from wsipsm.models.forms import Form, formed_network
from wsipsm.models.gpu import gpu_name, is_gpu, require_gpu
from wsipsm.models.inference import Inference

_SHORT = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


class TorchNetwork:
    """A network that torch runs.

    Parameters
    ----------
    weights, card
        The same as :func:`wsipsm.models.registry.resolve_model` returns.
    form
        Which maps it gives of an image.
    inference
        Device and number format.
    threads
        Number of processor threads.

    Raises
    ------
    ModelError
        When the weights are unusable, or the GPU is not there.
    """

    def __init__(self, weights: Path, card: ModelCard, form: Form, inference: Inference, threads: int) -> None:
        named = inference.device
        if is_gpu(named):
            require_gpu(named)
            named = f"cuda ({gpu_name(named)})"
        self.backend = f"torch {torch.__version__} {named} {_SHORT[inference.precision]}"
        self._device = torch.device(inference.device)
        self._dtype: torch.dtype = getattr(torch, inference.precision)
        network = formed_network(weights, card, form)
        # Mypy sees only the overload without a memory format.
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._threads = threads

    def run(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute the maps of an image of shape (1, h, w, 3), uint8; each has shape (1, channels, h, w), float32."""
        image = torch.from_numpy(batch).to(self._device)
        with torch.inference_mode(), torch_threads(self._threads), _strict_float32(), self._casting():
            return [one.float().contiguous().cpu().numpy() for one in self._network(image)]

    def _casting(self) -> AbstractContextManager[object]:
        """Make the context in which the network multiplies in the format that was chosen."""
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)


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

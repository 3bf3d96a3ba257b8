"""A network that torch runs, on a GPU or on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsipsm.errors import BudgetError
from wsipsm.models.card import ModelCard
from wsipsm.models.forms import Form, formed_network
from wsipsm.models.gpu import gpu_name, is_gpu, require_gpu
from wsipsm.models.inference import Inference

_SHORT = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_GPU_BATCH_PX = 2**23
"""Pixels that a GPU gets at once: four tiles of 1,024 px with their margins. It is chosen, not measured: a GPU is busy
with so many, and several workers can share its memory."""


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
        self._on_gpu = is_gpu(inference.device)
        self.batch_px = _GPU_BATCH_PX if self._on_gpu else 0
        self._dtype: torch.dtype = getattr(torch, inference.precision)
        network = formed_network(weights, card, form)
        # Mypy sees only the overload without a memory format.
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._threads = threads

    def run(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute the maps of n images, (n, h, w, 3), uint8; where memory is short, of fewer at a time.

        Raises
        ------
        BudgetError
            When the device's memory does not hold even one.
        """
        with suppress(torch.OutOfMemoryError):
            return self._run(batch)
        # Outside, so that what the failed try held is free again; other workers may need what torch keeps for later.
        torch.cuda.empty_cache()
        if len(batch) == 1:
            raise self._too_large(batch)
        half = len(batch) // 2
        parts = zip(self.run(batch[:half]), self.run(batch[half:]), strict=True)
        return [np.concatenate(pair) for pair in parts]

    def _run(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        images = torch.from_numpy(batch)
        if self._on_gpu:  # from memory that cannot be swapped the GPU fetches it by itself
            images = images.pin_memory()
        images = images.to(self._device, non_blocking=True)
        with torch.inference_mode(), torch_threads(self._threads), _strict_float32(), self._casting():
            return self._fetched([one.float().contiguous() for one in self._network(images)])

    def _fetched(self, maps: list[Tensor]) -> list[NDArray[np.float32]]:
        """Bring maps to the processor, with one wait for all."""
        if not self._on_gpu:
            return [one.numpy() for one in maps]
        here = [torch.empty(one.shape, dtype=one.dtype, pin_memory=True) for one in maps]
        for place, one in zip(here, maps, strict=True):
            place.copy_(one, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return [place.numpy() for place in here]

    def _too_large(self, batch: NDArray[np.uint8]) -> BudgetError:
        _, height, width, _ = batch.shape
        free = torch.cuda.mem_get_info(self._device)[0] if self._on_gpu else None
        said = "" if free is None else f", of which {free / 2**20:,.0f} MiB are free"
        return BudgetError(
            f"device '{self._device}': its memory{said} does not hold a tile of {width} x {height} px with its margin. "
            "Use a smaller --tile-px, fewer --workers, which share it, or --device cpu.",
            value=free,
            option="--tile-px",
        )

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

"""A network that OpenVINO runs on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsipsm.models.card import ModelCard
from wsipsm.models.compiled import open_compiled
from wsipsm.models.quiet_openvino import openvino

if TYPE_CHECKING:
    from wsipsm.models.forms import Form


class OpenVinoNetwork:
    """A network that OpenVINO runs.

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

    batch_px = 0
    """A processor is busy with one image."""

    def __init__(self, weights: Path, card: ModelCard, form: Form, threads: int) -> None:
        self.backend = f"openvino {openvino.__version__.split('-')[0]} cpu f32"
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # With pinning, every process of one thread takes the first processor, and many workers are no faster than
            # one.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = open_compiled(weights, card, form, settings).create_infer_request()

    def run(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Compute the maps of an image of shape (1, h, w, 3), uint8; each has shape (1, channels, h, w), float32."""
        return list(self._request.infer([batch], share_inputs=True).values())

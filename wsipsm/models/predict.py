"""The way from pixels to score maps, through OpenVINO or torch, in tiles that leave no trace.

Both backends compute in float32, said to them explicitly: OpenVINO would silently take bfloat16 where the processor
has it, and cuDNN TF32.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsipsm.errors import ModelError
from wsipsm.keys import BACKENDS
from wsipsm.models.card import ModelCard
from wsipsm.models.smooth import smooth_image
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import build_network

if TYPE_CHECKING:
    import openvino

_WHITE = 255


class Predictor(Protocol):
    """A network that is ready to run."""

    card: ModelCard
    backend: str
    """Library, version, device and precision, as run.json records it."""

    def predict(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score an image.

        Parameters
        ----------
        rgb
            Shape (h, w, 3); h and w multiples of the card's stride.

        Returns
        -------
        Scores 0..1, shape (outputs, h, w); independent of what lies around beyond ``card.reach_px`` of the border.
        """


class _Scorer(nn.Module):
    """Image as it is read, shape (1, h, w, 3) uint8, to scores 0..1 of shape (1, outputs, h, w)."""

    def __init__(self, network: NucleusUnet) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> Tensor:
        logits: Tensor = self.network(rgb.permute(0, 3, 1, 2).float())
        return torch.sigmoid(logits)


class TorchPredictor:
    """Runs a network with torch, on the first GPU where there is one.

    Parameters
    ----------
    network
        Network in eval mode.
    card
        Card of the network.
    threads
        Number of processor threads.
    """

    def __init__(self, network: NucleusUnet, card: ModelCard, threads: int) -> None:
        self.card = card
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.backend = f"torch {torch.__version__} {self._device.type} f32"
        # Mypy sees only the overload without a memory format.
        self._scorer = _Scorer(network).eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._threads = threads

    def predict(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score an image; see :class:`Predictor`."""
        _check_multiple(rgb, self.card.stride)
        smooth = smooth_image(rgb, self.card.input_sigma_px)
        image = torch.from_numpy(np.ascontiguousarray(smooth))[None].to(self._device)
        with torch.inference_mode(), torch_threads(self._threads), _strict_float32():
            maps: NDArray[np.float32] = self._scorer(image)[0].contiguous().cpu().numpy()
        return maps


class OpenVinoPredictor:
    """Runs a network with OpenVINO on the processor.

    Parameters
    ----------
    network
        Network in eval mode.
    card
        Card of the network.
    threads
        Number of processor threads.
    """

    def __init__(self, network: NucleusUnet, card: ModelCard, threads: int) -> None:
        import openvino

        self.card = card
        self.backend = f"openvino {openvino.__version__.split('-')[0]} cpu f32"
        model = _to_openvino(network, card.stride)
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Pinned, every process of one thread takes the first processor, and many workers are as fast as one.
            "ENABLE_CPU_PINNING": False,
        }
        self._request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def predict(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score an image; see :class:`Predictor`."""
        _check_multiple(rgb, self.card.stride)
        smooth = smooth_image(rgb, self.card.input_sigma_px)
        result = self._request.infer([np.ascontiguousarray(smooth)[None]], share_inputs=True)
        maps: NDArray[np.float32] = result[0][0]
        return maps


def _to_openvino(network: NucleusUnet, stride: int) -> openvino.Model:
    """Convert a network.

    ``openvino.convert_model`` does the same three steps but reports its use to the maker over the net, which software
    beside patients' data must not, and traces twice.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros((1, 4 * stride, 4 * stride, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # OpenVINO reads TorchScript; its deprecation is for OpenVINO to act on, not for the user.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        traced = torch.jit.trace(_Scorer(network).eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion: the frontend holds no reference
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([1, -1, -1, 3])
    return model


def open_predictor(weights: Path, card: ModelCard, backend: str = "auto", threads: int = 1) -> Predictor:
    """Load a network.

    Parameters
    ----------
    weights, card
        The same as :func:`wsipsm.models.registry.resolve_model` returns.
    backend
        ``openvino``, ``torch``, or ``auto``: OpenVINO where it is installed, since it is 3 to 4 times faster on a
        processor, else torch.
    threads
        Number of processor threads.

    Raises
    ------
    ModelError
        When the weights are unusable, or the backend is unknown or not installed.
    """
    if backend not in BACKENDS:
        raise ModelError(f"backend {backend!r}: unknown; {', '.join(BACKENDS)} are known. Check --backend.")
    has_openvino = importlib.util.find_spec("openvino") is not None
    if backend == "openvino" and not has_openvino:
        raise ModelError(
            "backend 'openvino': OpenVINO is not installed; it is needed for this backend. "
            "Run pip install openvino, or choose torch."
        )
    network = build_network(card, weights)
    if backend == "torch" or not has_openvino:
        return TorchPredictor(network, card, threads)
    return OpenVinoPredictor(network, card, threads)


def predict_tiled(predictor: Predictor, rgb: NDArray[np.uint8], margin_px: int, tile_px: int) -> NDArray[np.float32]:
    """Score an image in tiles whose borders do not show in the result.

    Parameters
    ----------
    predictor
        The network.
    rgb
        Shape (h, w, 3), the margin included; its origin lies at a multiple of the stride of the working grid.
    margin_px
        Margin around what is returned, pixels; a multiple of the stride, and at least the card's reach.
    tile_px
        Side of what is kept of a tile; a multiple of the stride.

    Returns
    -------
    Scores 0..1, shape (outputs, h - 2 * margin_px, w - 2 * margin_px).

    Raises
    ------
    ValueError
        When margin or tile do not fit the network, or nothing is left within the margin.
    """
    stride, reach = predictor.card.stride, predictor.card.reach_px
    height, width = rgb.shape[0] - 2 * margin_px, rgb.shape[1] - 2 * margin_px
    if margin_px < reach or margin_px % stride:
        raise ValueError(f"margin_px={margin_px}: a multiple of {stride} of at least {reach} is needed.")
    if tile_px < stride or tile_px % stride:
        raise ValueError(f"tile_px={tile_px}: a positive multiple of {stride} is needed.")
    if height <= 0 or width <= 0:
        raise ValueError(f"image of {rgb.shape[1]} x {rgb.shape[0]} px: nothing is left within {margin_px} px.")
    # The network takes whole strides only. What is added is farther than the reach from all that is returned.
    rgb = np.pad(rgb, ((0, -height % stride), (0, -width % stride), (0, 0)), constant_values=_WHITE)
    maps = np.empty((len(predictor.card.outputs), height, width), dtype=np.float32)
    for y in range(0, height, tile_px):
        for x in range(0, width, tile_px):
            tile = predictor.predict(rgb[y : y + tile_px + 2 * margin_px, x : x + tile_px + 2 * margin_px])
            kept = maps[:, y : y + tile_px, x : x + tile_px]
            kept[...] = tile[:, margin_px:, margin_px:][:, : kept.shape[1], : kept.shape[2]]
    return maps


def _check_multiple(rgb: NDArray[np.uint8], stride: int) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[0] % stride or rgb.shape[1] % stride:
        raise ValueError(
            f"image of shape {rgb.shape} and type {rgb.dtype}: (h, w, 3) uint8 with h and w multiples of {stride} "
            "is needed."
        )


@contextmanager
def torch_threads(n_threads: int) -> Iterator[None]:
    """Keep torch to so many threads of the processor for a while."""
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

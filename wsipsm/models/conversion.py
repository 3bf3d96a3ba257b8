"""The conversion from torch to OpenVINO. It needs both, so it is imported only where no compiled network is kept."""

from __future__ import annotations

import warnings
from pathlib import Path

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from wsipsm.models.card import ModelCard
from wsipsm.models.forms import Form, formed_network


def convert_network(weights: Path, card: ModelCard, form: Form) -> openvino.Model:
    """Convert a network.

    ``openvino.convert_model`` does the same three steps but reports its use to the maker over the net, which software
    beside patients' data must not, and traces twice.

    Raises
    ------
    ModelError
        When the weights are unusable.
    """
    example = torch.zeros((1, 4 * card.stride, 4 * card.stride, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # OpenVINO reads TorchScript; its deprecation is for OpenVINO to act on, not for the user.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        network = formed_network(weights, card, form)
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion: the frontend holds no reference
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([1, -1, -1, 3])
    return model

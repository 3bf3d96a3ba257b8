"""The conversion of a network from torch to OpenVINO; it needs both, so only a miss in the cache imports it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from wsipsm.models.card import ModelCard
from wsipsm.models.forms import Form, formed_network
from wsipsm.models.quiet_openvino import openvino


def convert_network(weights: Path, card: ModelCard, form: Form) -> openvino.Model:
    """Convert a network to a model of OpenVINO that takes an image (1, h, w, 3), uint8.

    ``openvino.convert_model`` would do the same three steps. But it traces twice, and it reports its use to its makers
    over the internet, which software that handles patients' data must not do.

    Raises
    ------
    ModelError
        When the weights are unusable.
    """
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # not before OpenVINO, which is quiet

    side = 2 * card.margin_px + 4 * card.stride
    example = torch.zeros((1, side, side, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # OpenVINO reads TorchScript. That torch deprecates it concerns OpenVINO and no user.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        network = formed_network(weights, card, form)
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion: the frontend holds no reference
        frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape([1, -1, -1, 3])
    return model

"""Weights as files and in the network: they are safetensors only, and checked before a network runs."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path

import orjson
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from wsipsm.errors import ModelError
from wsipsm.geometry import round_up
from wsipsm.models.card import ModelCard
from wsipsm.models.registry import card_path, check_weights_suffix, read_weights
from wsipsm.models.unet import ENCODER_STRIDE, NucleusUnet
from wsipsm.rundir import write_aside

_N_SHOWN = 3


def save_model(path: Path, state: Mapping[str, Tensor], card: ModelCard) -> ModelCard:
    """Write weights and, beside them, their card.

    Parameters
    ----------
    path
        Path of the weights, which ends in .safetensors; its folder exists.
    state
        State of a NucleusUnet with as many outputs as the card names.
    card
        Card of the model; its checksum is replaced.

    Returns
    -------
    The card with the checksum of the file.

    Raises
    ------
    ModelError
        When the path has another suffix, or the state does not fit the card or is not finite.
    OutputError
        When the disk is full or the place is not writable.
    """
    check_weights_suffix(path)
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    _check_state(path, plain, card)
    content = safetensors.torch.save(plain, metadata={"format": "pt"})
    card = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    with write_aside(path) as temporary:
        temporary.write_bytes(content)
    with write_aside(card_path(path)) as temporary:
        temporary.write_bytes(orjson.dumps(card.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n")
    return card


def load_weights(weights: Path, card: ModelCard) -> dict[str, Tensor]:
    """Read weights that fit a card.

    Parameters
    ----------
    weights
        Path of a .safetensors file.
    card
        Card of the weights, which states their checksum, architecture and outputs.

    Returns
    -------
    State of a NucleusUnet, on the CPU.

    Raises
    ------
    ModelError
        When the file is absent, of another kind, too large, damaged, made for another architecture, or holds values
        that are not finite.
    """
    content = read_weights(weights, card)
    try:
        state = safetensors.torch.load(content)
    except SafetensorError as error:
        raise ModelError(f"{weights}: is no safetensors file ({error}); one is needed. Train anew.") from error
    _check_state(weights, state, card)
    return state


def build_network(card: ModelCard, weights: Path) -> NucleusUnet:
    """Build the network of a card, with its weights, ready for inference on the CPU.

    Raises
    ------
    ModelError
        When the weights are unusable.
    """
    state = load_weights(weights, card)
    network = _empty_network(card)  # random weights are not needed, since all are assigned below
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def measure_reach(network: nn.Module) -> int:
    """Measure how far an input pixel can be from an output pixel that it changes.

    An impulse is sent through a copy of the network in which all weights are positive and norms change nothing, so that
    nothing cancels or saturates. No other weights would let it reach farther. It is sent from every position
    modulo the stride, along both axes.

    Parameters
    ----------
    network
        A NucleusUnet.

    Returns
    -------
    The distance in pixels, rounded up to a multiple of the network's stride.
    """
    probe = _positive_copy(network)
    length = 32 * ENCODER_STRIDE
    while True:
        farthest = max(_reach_along(probe, axis, length) for axis in (0, 1))
        if farthest < length // 2 - ENCODER_STRIDE:
            return round_up(farthest, ENCODER_STRIDE)
        length *= 2  # the impulse came near the border, which may have cut it off


def _reach_along(probe: nn.Module, axis: int, length: int) -> int:
    """Measure the reach along an axis, pixels: the impulse is a line across it, at each position modulo the stride."""
    shape = (length, ENCODER_STRIDE) if axis == 0 else (ENCODER_STRIDE, length)
    positions = range(length // 2, length // 2 + ENCODER_STRIDE)
    # The network scales 127.5 to zero.
    images = torch.full((len(positions), 3, *shape), 127.5, dtype=torch.float64)
    for image, position in zip(images, positions, strict=True):
        image.select(axis + 1, position).fill_(255.0)
    with torch.inference_mode():
        responses = probe(images).amax(dim=(1, 3 - axis))
    return max(
        int((response.nonzero() - position).abs().max())
        for response, position in zip(responses, positions, strict=True)
    )


def _positive_copy(network: nn.Module) -> nn.Module:
    probe = copy.deepcopy(network).double().cpu().eval()
    for module in probe.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1.0 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return probe


def _check_state(path: Path, state: Mapping[str, Tensor], card: ModelCard) -> None:
    """Refuse a state that is not exactly the architecture's, or not finite."""
    if card.stride % ENCODER_STRIDE:
        raise ModelError(
            f"{card_path(path)}: its stride is {card.stride}; a multiple of {ENCODER_STRIDE} is needed. Train anew."
        )
    wanted = _empty_network(card).state_dict()
    problems = [f"{key} is missing" for key in wanted if key not in state]
    problems += [f"{key} is unknown" for key in state if key not in wanted]
    for key in wanted:
        if key in state and (state[key].shape != wanted[key].shape or state[key].dtype != wanted[key].dtype):
            problems.append(f"{key} is {_form(state[key])} and not {_form(wanted[key])}")
    if problems:
        shown = ", ".join(problems[:_N_SHOWN])
        more = f", and {len(problems) - _N_SHOWN} more differ" if len(problems) > _N_SHOWN else ""
        raise ModelError(
            f"{path}: made for another architecture ({shown}{more}); weights of {card.architecture} with outputs "
            f"{'+'.join(card.outputs)} are needed. Copy weights and card again, or train anew.",
            path=path,
            value=f"{shown}{more}",
            needed=f"weights of {card.architecture} with outputs {'+'.join(card.outputs)}",
            option="--model",
        )
    broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ModelError(
            f"{path}: {len(broken)} tensors hold values that are not finite (first {broken[0]}); finite ones are "
            "needed. Train anew.",
            path=path,
            value=f"{len(broken)} tensors hold values that are not finite (first {broken[0]})",
            needed="finite values",
            option="--model",
        )


def _empty_network(card: ModelCard) -> NucleusUnet:
    with torch.device("meta"):
        return NucleusUnet(len(card.outputs), fine=card.architecture == "nucleus-unet-fine")


def _form(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"

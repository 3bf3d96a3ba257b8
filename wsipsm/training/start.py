"""The first weights of a training, and the model that its result is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from wsipsm.errors import ModelError, UsageError
from wsipsm.keys import Stain
from wsipsm.models.card import ModelCard
from wsipsm.models.registry import card_path, check_weights_path, resolve_model
from wsipsm.models.shipped import DEFAULT_MODELS
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import load_weights
from wsipsm.training.recipe import WORKING_MPP, Recipe

AUTO, RANDOM = "auto", "random"
_ENCODER = "encoder."
_PLAIN = "nucleus-unet"


@dataclass(frozen=True, slots=True)
class Start:
    """Weights that a training starts from."""

    name: str
    """The name that the new model's card gives."""
    weights: dict[str, Tensor]
    """The weights by name; empty: all are random."""
    card: ModelCard | None = None
    """None: the weights are no model that finds nuclei."""


def load_start(init: str, stain: Stain | None) -> Start | None:
    """Load what a training starts from.

    Parameters
    ----------
    init
        'auto' is the shipped model of the stain, 'random' nothing; else the name of a shipped model or the path of
        weights with their card, or of the weights of an encoder alone, which have none.
    stain
        None: not known yet.

    Returns
    -------
    None when it hangs on the stain.

    Raises
    ------
    ModelError
        When the weights cannot be used.
    """
    if init == RANDOM:
        return Start(init, {})
    if init == AUTO:
        return None if stain is None else _of_model(DEFAULT_MODELS[stain])
    path = Path(init).expanduser()
    if path.is_file() and not card_path(path).exists():
        encoder = _read_encoder(path)
        if encoder is not None:
            return Start(path.name, encoder)
    return _of_model(init)


def load_compared(start: Start, stain: Stain) -> Start:
    """Give the model that a new one is compared with: its start, or, where that finds no nuclei, the shipped one."""
    return start if start.card is not None and start.card.stain == stain else _of_model(DEFAULT_MODELS[stain])


def check_start(start: Start, recipe: Recipe) -> None:
    """Refuse to leave out the first round where there is no finished network to go on with.

    Raises
    ------
    UsageError
        When the start is no such network.
    """
    if recipe.first.steps:
        return
    card = start.card
    needed = f"a model for {recipe.stain.value} at {WORKING_MPP:g} um/px is needed. Name another with --init"
    if card is None:
        raise UsageError(f"--init {start.name}: is no model with a card; without a first round {needed}.")
    if (card.stain, card.architecture, card.mpp) != (recipe.stain, _PLAIN, WORKING_MPP):
        raise UsageError(
            f"--init {start.name}: a {card.architecture} for {card.stain.value} at {card.mpp:g} um/px; without a first "
            f"round {needed}."
        )
    if recipe.only_distils and card.input_sigma_px:
        raise UsageError(
            f"--init {start.name}: smooths its input by {card.input_sigma_px:g} px; only a network that does not can "
            "be distilled. Name another."
        )


def _of_model(name: str) -> Start:
    weights, card = resolve_model(name)
    return Start(card.name, load_weights(weights, card), card)


def _read_encoder(path: Path) -> dict[str, Tensor] | None:
    """Read the weights of an encoder alone; None when there is more in the file, so that its card is missed.

    Raises
    ------
    ModelError
        When it is no encoder of this network.
    """
    check_weights_path(path)
    try:
        state = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); weights are needed.") from error
    if not all(name.startswith(_ENCODER) for name in state):
        return None
    own = NucleusUnet(2).state_dict()
    if not any(name in own and own[name].shape == value.shape for name, value in state.items()):
        raise ModelError(
            f"{path}: holds no weights of this network's encoder; pipelines/imagenet_encoder.py makes some."
        )
    return state

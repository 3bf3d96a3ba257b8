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
    """Name of the start in the new model's card."""
    weights: dict[str, Tensor]
    """Weights by name; where it is empty, all weights are random."""
    card: ModelCard | None = None
    """Card of the model that the weights belong to; None: they are random, or of an encoder alone."""


def load_start(init: str, stain: Stain | None) -> Start | None:
    """Load the weights that a training starts from.

    Parameters
    ----------
    init
        'auto' for the shipped model of the stain, 'random' for random weights, the name of a shipped model, or the path
        of weights, which have a card or are those of an encoder alone.
    stain
        Stain of the training; None: not known yet.

    Returns
    -------
    The start; None where it depends on a stain that is not known yet.

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
    """Load the model that a new one is compared with: its start, or the shipped one if that is no model of the stain.

    Raises
    ------
    ModelError
        When the shipped model cannot be used.
    """
    return start if start.card is not None and start.card.stain == stain else _of_model(DEFAULT_MODELS[stain])


def check_start(start: Start, recipe: Recipe) -> None:
    """Refuse a recipe without a first round where the start is no finished network to continue with.

    Raises
    ------
    UsageError
        When the recipe has no first round and the start is not a model for its stain and pixel size.
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
    """Read the weights of an encoder alone; return None when the file has others too, and so is a model without card.

    Raises
    ------
    ModelError
        When the file is unusable, or its encoder does not fit this network.
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

"""What the recipes share: sources to images, lessons, a trained network, a model with its card."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors.torch import load_file

from wsipsm.geometry import Box, WorkingGrid
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, DataSource, DecodeSettings, ModelCard
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import save_model
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_box
from wsipsm.stages.train import NETWORK_REACH_PX, NETWORK_STRIDE, WORKING_MPP
from wsipsm.stain import fit_stain_profile
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.lessons import StainedImage, make_lessons
from wsipsm.training.loop import TrainOptions, train_student
from wsipsm.training.rounds import next_lessons
from wsipsm.training.settle import SettleOptions, settle_student

ROUND_LEARNING_RATE = 1e-3


@dataclass(frozen=True, slots=True)
class Source:
    """An image file and the pixel size that it is taken at, um/px."""

    path: Path
    mpp: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that shapes a model."""

    stain: Stain
    sources: list[Source]
    data: tuple[DataSource, ...]
    augment: AugmentOptions
    steps: int
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    input_sigma_px: float = 0.0
    """Smoothing of the input, working pixels."""
    round_steps: tuple[int, ...] = ()
    """Of each further round, whose lessons are what the network of the one before finds at several scales."""
    round_augment: AugmentOptions = field(default_factory=AugmentOptions)
    settle_steps: int = 0
    """Of the last training, that makes the network steady under compression."""
    seed: int = 0


def make_model(recipe: Recipe, encoder: Path, out: Path, first: Path | None = None) -> ModelCard:
    """Train on the sources' pixels and write the model.

    Parameters
    ----------
    recipe
        What to do.
    encoder
        Weights that the first round starts from.
    out
        Safetensors file; the card goes beside it.
    first
        Weights of a first round that was run before; None: it is run.
    """
    outputs = OUTPUTS[recipe.stain]
    images = [_read(source, recipe) for source in recipe.sources]
    network = _first_round(recipe, images, len(outputs), encoder) if first is None else _load(first, len(outputs))
    network = _further_rounds(recipe, images, network, len(outputs))
    if recipe.settle_steps:
        network = settle_student([image.rgb for image in images], network, _settling(recipe), _told)
    training: dict[str, str | int | float | bool] = {
        "labels": "none",
        "encoder": "ImageNet, EfficientNet-Lite0",
        "steps": recipe.steps,
        "round_steps": ", ".join(map(str, recipe.round_steps)),
        "batch": _first_options(recipe).batch,
        "seed": recipe.seed,
        "settle_steps": recipe.settle_steps,
    }
    card = ModelCard(
        name=out.stem,
        stain=recipe.stain,
        mpp=WORKING_MPP,
        stride=NETWORK_STRIDE,
        reach_px=NETWORK_REACH_PX,
        input_sigma_px=recipe.input_sigma_px,
        outputs=outputs,
        decode=recipe.decode,
        sha256="",
        data=recipe.data,
        training=training,
    )
    return save_model(out, network.state_dict(), card)


def _first_options(recipe: Recipe) -> TrainOptions:
    return TrainOptions(
        steps=recipe.steps, seed=recipe.seed, augment=recipe.augment, input_sigma_px=recipe.input_sigma_px
    )


def _first_round(recipe: Recipe, images: list[StainedImage], n_outputs: int, encoder: Path) -> NucleusUnet:
    lessons = make_lessons(images, recipe.stain, recipe.seed, print)
    return train_student(lessons, n_outputs, _first_options(recipe), load_file(encoder), _told)


def _load(weights: Path, n_outputs: int) -> NucleusUnet:
    network = NucleusUnet(n_outputs)
    network.load_state_dict(load_file(weights))
    return network


def _further_rounds(recipe: Recipe, images: list[StainedImage], network: NucleusUnet, n_outputs: int) -> NucleusUnet:
    for number, steps in enumerate(recipe.round_steps, start=1):
        lessons = next_lessons([image.rgb for image in images], network, WORKING_MPP, print)
        options = replace(
            _first_options(recipe),
            steps=steps,
            seed=recipe.seed + number,
            learning_rate=ROUND_LEARNING_RATE,
            augment=recipe.round_augment,
            robustness=0.0,  # these labels are few and good; cross-entropy keeps the scores between 0 and 1
        )
        network = train_student(lessons, n_outputs, options, network.state_dict(), _told)
    return network


def _settling(recipe: Recipe) -> SettleOptions:
    options = SettleOptions(steps=recipe.settle_steps, seed=recipe.seed, input_sigma_px=recipe.input_sigma_px)
    return replace(options, augment=replace(options.augment, scale=recipe.augment.scale))


def _told(step: int, steps: int, loss: float) -> None:
    print(f"step {step + 1} of {steps}: {loss:.4f}", flush=True)


def _read(source: Source, recipe: Recipe) -> StainedImage:
    with open_slide(source.path, source.mpp) as slide:
        grid = WorkingGrid(slide.info.size, source.mpp, WORKING_MPP)
        rgb = read_box(slide, Box(0, 0, grid.size_px.width, grid.size_px.height), grid.scale)
    return StainedImage(rgb, fit_stain_profile(rgb.reshape(-1, 3)[::7], recipe.stain, recipe.seed))

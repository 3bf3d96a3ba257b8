"""What the recipes share: sources to images, lessons, a trained network, a model with its card."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors.torch import load_file

from wsipsm.geometry import Box, WorkingGrid
from wsipsm.keys import Stain
from wsipsm.models.card import DataSource, DecodeSettings, ModelCard
from wsipsm.models.weights import save_model
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_box
from wsipsm.stages.train import NETWORK_REACH_PX, NETWORK_STRIDE, WORKING_MPP
from wsipsm.stain import fit_stain_profile
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.lessons import StainedImage, make_lessons
from wsipsm.training.loop import TrainOptions, train_student
from wsipsm.training.settle import SettleOptions, settle_student


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
    settle_steps: int = 0
    """Of the second training, that makes the network steady under compression."""
    seed: int = 0


def make_model(recipe: Recipe, encoder: Path, out: Path) -> ModelCard:
    """Train on the sources' pixels, starting from an encoder's weights, and write the model."""
    options = TrainOptions(
        steps=recipe.steps, seed=recipe.seed, augment=recipe.augment, input_sigma_px=recipe.input_sigma_px
    )
    outputs = ("nucleus", "distance") if recipe.stain == Stain.HE else ("nucleus", "distance", "positive")
    images = [_read(source, recipe) for source in recipe.sources]
    lessons = make_lessons(images, recipe.stain, recipe.seed, print)
    network = train_student(lessons, len(outputs), options, load_file(encoder), _told)
    if recipe.settle_steps:
        network = settle_student([image.rgb for image in images], network, _settling(recipe), _told)
    training: dict[str, str | int | float | bool] = {
        "labels": "none",
        "encoder": "ImageNet, EfficientNet-Lite0",
        "steps": options.steps,
        "batch": options.batch,
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

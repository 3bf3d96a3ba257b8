"""What the recipes share: sources to images, lessons, a trained network, a model with its card."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsipsm.errors import ModelError
from wsipsm.geometry import Box, WorkingGrid
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, DataSource, DecodeSettings, ModelCard
from wsipsm.models.registry import check_weights_suffix
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import save_model
from wsipsm.rundir import digest, write_aside
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_box
from wsipsm.stain import fit_stain_profile
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.checkpoint import digest_arrays, digest_state
from wsipsm.training.consistency import ConsistencyOptions, train_consistency
from wsipsm.training.paste import PasteOptions
from wsipsm.training.pseudo_labels import StainedImage, make_pseudo_labels
from wsipsm.training.rounds import RoundOptions, relabel_images
from wsipsm.training.student import PseudoLabelledImage, StudentOptions, train_student
from wsipsm.training.train import NETWORK_REACH_PX, NETWORK_STRIDE, WORKING_MPP

ROUND_LEARNING_RATE = 1e-3


def parse_arguments(about: str) -> argparse.Namespace:
    """Read what every recipe is given: data, encoder, out and --seed."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the images")
    parser.add_argument("encoder", type=Path, help="weights to start from")
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    given = parser.parse_args()
    try:
        check_weights_suffix(given.out)  # here and not after an hour of training
    except ModelError as error:
        parser.error(str(error))
    return given


@dataclass(frozen=True, slots=True)
class Source:
    """An image file and the pixel size that it is taken at, um/px."""

    path: Path
    mpp: float


@dataclass(frozen=True, slots=True)
class Round:
    """A further training, on what the network of the one before finds at several scales."""

    steps: int
    lessons: RoundOptions = field(default_factory=RoundOptions)
    """Its smoothing is the recipe's."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that shapes a model."""

    stain: Stain
    sources: list[Source]
    data: tuple[DataSource, ...]
    augment: AugmentOptions
    steps: int
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    beta: float | None = None
    """Of the first labels: weight of the stain against the map; None: the paper's."""
    input_sigma_px: float = 0.0
    """Smoothing of the input in the first round and the further ones, working pixels."""
    rounds: tuple[Round, ...] = ()
    round_augment: AugmentOptions = field(default_factory=AugmentOptions)
    round_paste: PasteOptions = field(default_factory=PasteOptions)
    settle: tuple[ConsistencyOptions, ...] = ()
    """The last trainings, that make the network steady from scan to scan. The network of the last round teaches all of
    them, and each starts where the one before ended. Seeds are added to the recipe's; the card has the last one's
    smoothing."""
    settle_sources: Sequence[Source] = ()
    """Further images for them."""
    seed: int = 0


def make_model(recipe: Recipe, encoder: Path, out: Path) -> ModelCard:
    """Train on the sources' pixels and write the model.

    A killed run goes on where it was when it is started again in the same way: the folder ``out`` with the ending
    ``.work`` keeps the weights of every finished training, named by what they were made from, and the checkpoint of
    the running one. It may be removed when the model is there.

    Parameters
    ----------
    recipe
        What to do.
    encoder
        Weights that the first round starts from.
    out
        Safetensors file; the card goes beside it.
    """
    images = read_images(recipe)
    pixels = [image.rgb for image in images]
    workshop = Workshop.of(out.with_suffix(".work"), recipe, images)
    network = _first_round(recipe, images, workshop, load_file(encoder))
    for number, further in enumerate(recipe.rounds, start=1):
        network = _further_round(recipe, number, further, pixels, network, workshop)
    network = settle(recipe, pixels, network, workshop)
    training: dict[str, str | int | float | bool] = {
        "labels": "none",
        "encoder": "ImageNet, EfficientNet-Lite0",
        "steps": recipe.steps,
        "round_steps": _tell_steps(recipe.rounds),
        "batch": first_options(recipe).batch,
        "seed": recipe.seed,
        "settle_steps": _tell_steps(recipe.settle),
    }
    card = ModelCard(
        name=out.stem,
        stain=recipe.stain,
        mpp=WORKING_MPP,
        stride=NETWORK_STRIDE,
        reach_px=NETWORK_REACH_PX,
        input_sigma_px=recipe.settle[-1].input_sigma_px if recipe.settle else recipe.input_sigma_px,
        outputs=OUTPUTS[recipe.stain],
        decode=recipe.decode,
        sha256="",
        data=recipe.data,
        training=training,
    )
    return save_model(out, network.state_dict(), card)


def _tell_steps(trainings: Sequence[Round] | Sequence[ConsistencyOptions]) -> str:
    return ", ".join(str(training.steps) for training in trainings)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where the trainings of a recipe are kept, and what they share."""

    folder: Path
    n_outputs: int
    pixels: str
    """Hash of the images."""

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, images: Sequence[StainedImage]) -> Workshop:
        """Open the workshop of a recipe; the folder is made when it is needed."""
        return cls(folder, len(OUTPUTS[recipe.stain]), digest_arrays(image.rgb for image in images))

    def train(
        self,
        name: str,
        options: StudentOptions,
        start: dict[str, Tensor],
        make: Callable[[], list[PseudoLabelledImage]],
        settings: object = "",
    ) -> NucleusUnet:
        """Train a network, or load it when it was trained before.

        Parameters
        ----------
        name
            Of the training, for its files.
        options, start
            Of the training.
        make
            Makes the lessons, when they are needed.
        settings
            That the lessons are made with; other ones are another training.
        """
        identity = _identity(self.pixels, f"{options} {settings}", start)
        done = self.folder / f"{name}-{identity[:12]}.safetensors"
        if not done.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            print(f"{name}: making lessons", flush=True)
            network = train_student(make(), self.n_outputs, options, start, tell_step, done.with_suffix(""), identity)
            with write_aside(done) as temporary:
                save_file({key: value.contiguous() for key, value in network.state_dict().items()}, temporary)
        network = NucleusUnet(self.n_outputs)
        network.load_state_dict(load_file(done))
        return network.eval()


def _identity(pixels: str, options: str, start: dict[str, Tensor]) -> str:
    """Name a training by what it is made from."""
    return digest({"pixels": pixels, "options": options, "start": digest_state(start)})


def first_options(recipe: Recipe) -> StudentOptions:
    """Give the training settings of the first round."""
    return StudentOptions(
        steps=recipe.steps, seed=recipe.seed, augment=recipe.augment, input_sigma_px=recipe.input_sigma_px
    )


def round_options(recipe: Recipe, number: int, steps: int) -> StudentOptions:
    """Give the training settings of a further round."""
    return replace(
        first_options(recipe),
        steps=steps,
        seed=recipe.seed + 1000 * number,
        learning_rate=ROUND_LEARNING_RATE,
        augment=recipe.round_augment,
        paste=recipe.round_paste,
        robustness=0.0,  # these labels are few and good; cross-entropy keeps the scores between 0 and 1
    )


def _first_round(
    recipe: Recipe, images: list[StainedImage], workshop: Workshop, encoder: dict[str, Tensor]
) -> NucleusUnet:
    return workshop.train(
        "first",
        first_options(recipe),
        encoder,
        lambda: make_pseudo_labels(images, recipe.stain, recipe.seed, tell, recipe.beta),
        f"beta {recipe.beta}",
    )


def _further_round(
    recipe: Recipe,
    number: int,
    further: Round,
    pixels: list[NDArray[np.uint8]],
    network: NucleusUnet,
    workshop: Workshop,
) -> NucleusUnet:
    lessons = replace(further.lessons, input_sigma_px=recipe.input_sigma_px)
    return workshop.train(
        f"round-{number}",
        round_options(recipe, number, further.steps),
        network.state_dict(),
        lambda: relabel_images(pixels, network, WORKING_MPP, lessons, tell),
        lessons,
    )


def settle(recipe: Recipe, pixels: list[NDArray[np.uint8]], network: NucleusUnet, workshop: Workshop) -> NucleusUnet:
    """Do the last trainings; a killed one goes on."""
    shown = [*pixels, *(_read(source, recipe).rgb for source in recipe.settle_sources)]
    pixels_digest, student = digest_arrays(shown), network
    for given in recipe.settle:
        options = replace(given, seed=recipe.seed + given.seed)
        settings = f"{options} {digest_state(student.state_dict())}"
        identity = _identity(pixels_digest, settings, network.state_dict())
        keep = workshop.folder / f"settled-{identity[:12]}"
        student = train_consistency(shown, network, options, tell_step, keep, student)
    return student


def tell_step(step: int, steps: int, loss: float) -> None:
    """Print a line a step."""
    print(f"step {step + 1} of {steps}: {loss:.4f}", flush=True)


def tell(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


def read_images(recipe: Recipe) -> list[StainedImage]:
    """Read the sources at the working pixel size."""
    return [_read(source, recipe) for source in recipe.sources]


def _read(source: Source, recipe: Recipe) -> StainedImage:
    with open_slide(source.path, source.mpp) as slide:
        grid = WorkingGrid(slide.info.size, source.mpp, WORKING_MPP)
        rgb = read_box(slide, Box(0, 0, grid.size_px.width, grid.size_px.height), grid.scale)
    return StainedImage(rgb, fit_stain_profile(rgb.reshape(-1, 3)[::7], recipe.stain, recipe.seed))

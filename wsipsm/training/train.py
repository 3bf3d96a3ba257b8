"""Training of a model from unlabelled slides or images by a recipe, up to its weights, card and comparison."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, DataSource, DecodeSettings, ModelCard
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import save_model
from wsipsm.rundir import output_error
from wsipsm.training.chain import Chain
from wsipsm.training.compare import Comparison, Split, compare_models, hold_back
from wsipsm.training.recipe import OWN_TERMS, WORKING_MPP, Recipe
from wsipsm.training.recipe_file import make_recipe, read_recipe_settings
from wsipsm.training.sources import GatheredImages, card_sources, gather_below, gather_named
from wsipsm.training.start import AUTO, Start, check_start, load_compared, load_start

NETWORK_STRIDE, NETWORK_REACH_PX = 16, 160
"""Stride and reach of NucleusUnet, pixels, as ``models.weights.measure_reach`` finds them; a test compares."""
_FINE = "nucleus-unet-fine"
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Options that a user may choose for a training."""

    sources: Sequence[Path] = ()
    """Slides or images that take the place of the recipe's own sources."""
    data: Path | None = None
    """Folder with the files of the recipe's sources."""
    recipe: Path | None = None
    """Settings file; None: the default recipe of the stain."""
    stain: Stain | None = None
    """Stain of the model; None: the recipe's, or that of most of the sources by their colours."""
    steps: int | None = None
    """Number of steps of the first round; None: the recipe's."""
    seed: int | None = None
    """Seed of all random choices; None: the recipe's, or 0."""
    mpp: float | None = None
    """Pixel size of sources that state none, um/px."""
    init: str = AUTO
    """Start of the training, as in :func:`~wsipsm.training.start.load_start`."""
    work: Path | None = None
    """Folder that keeps every finished training; None: a hidden one beside the model, which is removed at the end."""
    name: str | None = None
    """Name of the model; None: the file's stem."""
    terms: str = OWN_TERMS
    """Terms of use of the pixels of ``sources``, for the card."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The card of a model that was written, and its comparison with the one that it started from."""

    card: ModelCard
    comparison: Comparison


def train_model(
    sources: Sequence[Path],
    out: Path,
    *,
    stain: Stain | None,
    steps: int | None,
    seed: int | None,
    mpp: float | None,
    init: str,
    report: Report,
    name: str | None = None,
    terms: str = OWN_TERMS,
    recipe: Path | None = None,
    data: Path | None = None,
) -> ModelCard:
    """Train a model from pixels alone and write it with its card.

    A training that was killed continues when it is called again in the same way: a hidden folder beside ``out`` keeps
    finished trainings and the checkpoint of the running one, and is removed when the model is written.

    Parameters
    ----------
    sources
        Slides, of which patches of tissue are read, and small images, which are read whole.
    out
        Safetensors file to write; the card is written beside it. The card's training record says how far the model's
        nuclei agree with those of its start, on images kept from training; its `compared_doubts` is empty where nothing
        is out of bounds.
    stain
        Stain of the model; None: the recipe's, or that of most of the sources by their colours.
    steps
        Number of steps of the first round; None takes the recipe's.
    seed
        Seed of all random choices; None takes the recipe's, or 0.
    mpp
        Pixel size of images that state none, um/px.
    init
        Start of the training: 'auto' for the shipped model of the stain, 'random' for random weights, or a name or path
        of a model or of the weights of an encoder.
    report
        Function that is called with lines of text on the progress.
    name
        Name of the model; None takes the file's stem.
    terms
        Terms of use of the pixels, for the card.
    recipe
        Settings file; None: the default recipe of the stain, which made the shipped model.
    data
        Folder with the files of the recipe's sources, in place of ``sources``.

    Returns
    -------
    The card of the model.

    Raises
    ------
    UsageError
        When there is no image to train on, no nucleus is found in any, or the settings file cannot be used.
    SlideError
        When a source cannot be used.
    ModelError
        When the weights to start from cannot be used.
    OutputError
        When the disk is full or the place is not writable.

    Examples
    --------
    >>> lines = []
    >>> card = train_model(
    ...     [Path("patch.png")], Path("own.safetensors"), stain=Stain.IHC, steps=1, seed=0, mpp=0.25,
    ...     init="random", report=lines.append, recipe=Path("recipe.toml"),
    ... )
    >>> card.outputs
    ('nucleus', 'distance', 'positive')
    """
    request = TrainRequest(
        sources=sources,
        data=data,
        recipe=recipe,
        stain=stain,
        steps=steps,
        seed=seed,
        mpp=mpp,
        init=init,
        name=name,
        terms=terms,
    )
    return follow_recipe(request, out, report).card


def follow_recipe(request: TrainRequest, out: Path, report: Report) -> TrainedModel:
    """Train a model by the options of a user, compare it with its start, and write it with its card.

    Parameters
    ----------
    request
        Options of the user.
    out
        Safetensors file to write; the card is written beside it.
    report
        Function that is called with lines of text on the progress.

    Returns
    -------
    The card of the model, and its comparison with its start.

    Raises
    ------
    UsageError, SlideError, ModelError, OutputError
        As in :func:`train_model`.
    """
    possible = _possible_recipes(request)
    known = next(iter(possible)) if len(possible) == 1 else None
    start = load_start(request.init, known)
    if start is not None and known is not None:
        check_start(start, possible[known])  # before any pixel is read
    stain, images = _gather(request, possible, known)
    recipe = possible[stain]
    report(f"{len(images.images)} images of {stain.value} from {len({one.file for one in images.images})} sources")
    start = start or load_start(request.init, stain)
    assert start is not None  # the stain is known now
    check_start(start, recipe)
    split = hold_back(images.images, recipe.hold_back_every)
    report(split.note)
    folder = request.work or _hidden_folder(out)
    chain = Chain(
        folder, recipe, [one.image for one in split.trained], [one.image.rgb for one in images.consistency], report
    )
    network = chain.run(start.weights)
    facts = _Facts(request, recipe, start, card_sources([*split.trained, *images.consistency]))
    card = facts.card(request.name or out.stem)
    comparison = _compare(network, card, load_compared(start, stain), split)
    written = save_model(
        out, network.state_dict(), card.model_copy(update={"training": card.training | comparison.record()})
    )
    if request.work is None:
        shutil.rmtree(folder, ignore_errors=True)  # a folder that cannot be removed does no harm
    return TrainedModel(written, comparison)


def _possible_recipes(request: TrainRequest) -> dict[Stain, Recipe]:
    """Make the recipe, or that of each stain where pixels decide the stain; all settings are checked here."""
    settings = {} if request.recipe is None else read_recipe_settings(request.recipe)
    stated = Stain(str(settings["stain"])) if "stain" in settings else None
    if request.stain and stated and request.stain != stated:
        raise UsageError(
            f"{request.recipe}: stain = {stated.value!r} and --stain {request.stain.value}; one stain is needed. "
            "Leave --stain out, or choose another recipe."
        )
    chosen = request.stain or stated
    recipes = {
        stain: make_recipe(stain, settings, request.recipe, steps=request.steps, seed=request.seed)
        for stain in ([chosen] if chosen else Stain)
    }
    if request.sources and request.data:
        raise UsageError("train: slides or images and --data; one of them is needed. Leave the other out.")
    if not request.sources:
        _check_own_sources(request, next(iter(recipes.values())), chosen)
    return recipes


def _check_own_sources(request: TrainRequest, recipe: Recipe, chosen: Stain | None) -> None:
    """Refuse a training without named images whose recipe's own sources cannot be used."""
    if not recipe.sources:
        raise UsageError(
            "train: no slide or image was given; at least one is needed. Name files, or a recipe that has sources and "
            "the folder of these with --data."
        )
    if request.data is None:
        raise UsageError(f"{request.recipe}: has sources; the folder they lie below is needed. Name it with --data.")
    if chosen is None:
        raise UsageError(f"{request.recipe}: has sources and no stain; one is needed. State stain, or give --stain.")
    if request.mpp is not None:
        raise UsageError("--mpp: is for images that are named; sources of a recipe state their own. Leave it out.")


def _gather(request: TrainRequest, possible: dict[Stain, Recipe], known: Stain | None) -> tuple[Stain, GatheredImages]:
    recipe = next(iter(possible.values()))
    if not request.sources and known and request.data:
        return known, gather_below(recipe, request.data)
    stain, images = gather_named(request.sources, request.mpp, known, recipe.seed, request.terms)
    return stain, GatheredImages(images, [])


def _compare(network: NucleusUnet, card: ModelCard, compared: Start, split: Split) -> Comparison:
    assert compared.card is not None
    before = NucleusUnet(len(compared.card.outputs), fine=compared.card.architecture == _FINE)
    before.load_state_dict(compared.weights)
    pair = (before.eval(), compared.card), (network, card)
    return compare_models(*pair, split.compared, bool(split.held_back))


@dataclass(frozen=True, slots=True)
class _Facts:
    """The facts that a model card is made from."""

    request: TrainRequest
    recipe: Recipe
    start: Start
    data: tuple[DataSource, ...] = field(default=())

    def card(self, name: str) -> ModelCard:
        """Make the card of the finished network; its checksum is still empty."""
        recipe, before = self.recipe, self.start.card
        earlier = before.data if before and not recipe.first.steps else ()
        shrink = recipe.distil.shrink if recipe.distil else 1
        return ModelCard(
            name=name,
            architecture=_FINE if recipe.distil else "nucleus-unet",
            stain=recipe.stain,
            mpp=WORKING_MPP * shrink,
            stride=NETWORK_STRIDE,
            reach_px=NETWORK_REACH_PX,
            input_sigma_px=recipe.card_sigma_px,
            outputs=OUTPUTS[recipe.stain],
            decode=_coarser(before.decode if before and recipe.only_distils else recipe.decode, recipe),
            sha256="",
            data=(*earlier, *(source for source in self.data if source not in earlier)),
            training=self._training(),
        )

    def _training(self) -> dict[str, str | int | float | bool]:
        recipe, before = self.recipe, self.start.card
        facts: dict[str, str | int | float | bool] = {
            "labels": "none",
            "recipe": self.request.recipe.name if self.request.recipe else f"default of {recipe.stain.value}",
            "init": self.start.name,
            "steps": recipe.first.steps,
            "round_steps": ", ".join(str(further.steps) for further in recipe.rounds),
            "consistency_steps": ", ".join(str(options.steps) for options in recipe.consistency),
            "batch": recipe.batch,
            "seed": recipe.seed,
        }
        if before is not None:
            facts["init_sha256"] = before.sha256[:12]
        if recipe.distil is not None:
            facts["distil_steps"] = recipe.distil.steps
        return facts


def _coarser(decode: DecodeSettings, recipe: Recipe) -> DecodeSettings:
    """Convert decoding to the pixel size of a faster student: lengths in its pixels are shorter."""
    if recipe.distil is None:
        return decode
    shrink, lower = recipe.distil.shrink, recipe.distilled_min_distance
    return decode.model_copy(
        update={
            "distance_sigma_px": decode.distance_sigma_px / shrink,
            "peak_radius_px": max(1, round(decode.peak_radius_px / shrink)),
            "min_distance": decode.min_distance if lower is None else lower,
        }
    )


def _hidden_folder(out: Path) -> Path:
    """Make the hidden folder beside a model that keeps its trainings.

    Raises
    ------
    OutputError
        When the place is not writable.
    """
    folder = out.with_name(f".{out.stem}.training")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    return folder

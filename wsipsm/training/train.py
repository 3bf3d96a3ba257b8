"""A model from unlabelled slides or images."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, DataSource, ModelCard
from wsipsm.models.registry import DEFAULT_MODELS, resolve_model
from wsipsm.models.weights import load_weights, save_model
from wsipsm.rundir import digest, output_error
from wsipsm.training.augment import AugmentOptions
from wsipsm.training.checkpoint import digest_arrays, digest_state
from wsipsm.training.patches import draw_patches
from wsipsm.training.pseudo_labels import make_pseudo_labels
from wsipsm.training.student import PseudoLabelledImage, StudentOptions, train_student

WORKING_MPP = 0.25
NETWORK_STRIDE, NETWORK_REACH_PX = 16, 160
"""Of NucleusUnet, as ``models.weights.measure_reach`` finds them; a test compares."""
SCALE_JITTER = {Stain.HE: (0.7, 1.5), Stain.IHC: (0.6, 1.8)}
"""Ki-67 images come at stated pixel sizes that differ from their nuclei's by more."""
DEFAULT_STEPS = 600


def train_model(
    sources: Sequence[Path],
    out: Path,
    *,
    stain: Stain | None,
    steps: int | None,
    seed: int,
    mpp: float | None,
    init: str,
    tell: Callable[[str], None],
    name: str | None = None,
    terms: str = "the user's own",
) -> ModelCard:
    """Train a model from pixels alone and write it with its card.

    A killed training goes on from its last checkpoint when it is called again in the same way; checkpoints lie in a
    hidden folder beside ``out``, which is removed when the model is written.

    Parameters
    ----------
    sources
        Slides or images. Slides give patches of their tissue, small images are taken whole.
    out
        Safetensors file to write; the card goes beside it.
    stain
        None: what most of the sources look like.
    steps
        Of the student's training; None: 600.
    seed
        Of everything random.
    mpp
        Pixel size of images that state none, um/px.
    init
        'auto' starts from the shipped model of the stain, 'random' from nothing, else weights with a card.
    tell
        Given a line now and then.
    name
        Of the model; None: the file's stem.
    terms
        Terms of the pixels, for the card.

    Raises
    ------
    UsageError
        When there is nothing to learn from.
    SlideError
        When a source cannot be used.
    OutputError
        When the disk is full or the place is not writable.
    """
    if not sources:
        raise UsageError("train: no slide or image was given; at least one is needed. Name files.")
    drawn = [draw_patches(path, mpp, stain, seed, WORKING_MPP) for path in sources]
    chosen = stain or _majority([source.decision.stain for source in drawn])
    images = [image for source in drawn if stain or source.decision.stain == chosen for image in source.images]
    tell(f"{len(images)} images of {chosen.value} from {len(drawn)} sources")
    start = None
    if init != "random":
        weights, card = resolve_model(DEFAULT_MODELS[chosen] if init == "auto" else init)
        start = load_weights(weights, card)
    labelled = make_pseudo_labels(images, chosen, seed, tell)
    if not any(len(labelled.label.points_xy) for labelled in labelled):
        raise UsageError(
            "train: no nucleus was found in the images; tissue with nuclei is needed. Check --mpp and --stain."
        )
    options = StudentOptions(
        steps=steps or DEFAULT_STEPS, seed=seed, augment=AugmentOptions(scale=SCALE_JITTER[chosen])
    )

    def report(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0 or step == options.steps - 1:
            tell(f"step {step + 1}/{options.steps}: loss {loss:.3f}")

    outputs = OUTPUTS[chosen]
    folder = checkpoint_folder(out)
    # Named by what it was made from, so that other sources or settings start anew.
    identity = _identity(labelled, options, {} if start is None else {"start": digest_state(start)})
    network = train_student(labelled, len(outputs), options, start, report, folder / identity, identity)
    card = ModelCard(
        name=name or out.stem,
        stain=chosen,
        mpp=WORKING_MPP,
        stride=NETWORK_STRIDE,
        reach_px=NETWORK_REACH_PX,
        outputs=outputs,
        sha256="",
        data=(DataSource(name=", ".join(p.name for p in sources)[:500], n_images=len(images), terms=terms),),
        training={"steps": options.steps, "batch": options.batch, "seed": seed, "init": init, "labels": "none"},
    )
    written = save_model(out, network.state_dict(), card)
    shutil.rmtree(folder, ignore_errors=True)  # what cannot be removed does no harm
    return written


def checkpoint_folder(out: Path) -> Path:
    """Make the hidden folder in which the training of a model goes on.

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


def _identity(labelled: Sequence[PseudoLabelledImage], options: StudentOptions, start: dict[str, str]) -> str:
    """Hash of pixels, pseudo labels, settings and first weights: what a checkpoint belongs to."""
    planes = [
        plane
        for labelled in labelled
        for plane in (labelled.rgb, labelled.label.nucleus, labelled.label.instances, labelled.label.positive)
    ]
    return digest({"labelled": digest_arrays(planes), "options": str(options), **start})


def _majority(stains: Sequence[Stain]) -> Stain:
    return Stain.HE if 2 * sum(stain == Stain.HE for stain in stains) >= len(stains) else Stain.IHC

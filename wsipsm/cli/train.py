"""``wsipsm train``: a model from unlabelled slides or images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsipsm.cli.options import AsJson, Mpp, Quiet, Seed, check_mpp, says_how_to_continue
from wsipsm.cli.terminal import show, show_json
from wsipsm.errors import UsageError
from wsipsm.keys import Stain

WEIGHTS_SUFFIX = ".safetensors"

Sources = Annotated[
    list[Path], typer.Argument(metavar="SLIDE_OR_IMAGE...", help="Unlabelled slides or images.", show_default=False)
]
OutFile = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="FILE", help="Weights to write, .safetensors; a card goes beside it.", show_default=False
    ),
]
StainChoice = Annotated[
    Stain | None,
    typer.Option("--stain", help="What the slides are stained with.", show_default="told from colour"),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, help="Steps of the network's training.", show_default="the recipe's"),
]
Init = Annotated[
    str,
    typer.Option(
        "--init",
        metavar="auto|random|PATH",
        help="auto starts from the shipped model of the stain; PATH is a .safetensors file with its card.",
    ),
]


def train(
    sources: Sources,
    out: OutFile,
    stain: StainChoice = None,
    steps: Steps = None,
    seed: Seed = 0,
    mpp: Mpp = None,
    init: Init = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a model from pixels alone, through prior self-activation maps.

    No label is read. Slides give patches of their tissue; plain images need --mpp.

    Example: wsipsm train slides/*.svs --out my-model.safetensors --stain ihc
    """
    check_mpp(mpp)
    check_weights_path(out)
    from wsipsm.cli.progress import open_teller
    from wsipsm.training.train import train_model

    hint = "No model was written; the same command goes on from the last checkpoint."
    with says_how_to_continue(hint), open_teller(quiet or as_json) as tell:
        card = train_model(sources, out, stain=stain, steps=steps, seed=seed, mpp=mpp, init=init, tell=tell)
    if as_json:
        show_json({"weights": str(out), "card": card.model_dump(mode="json")})
    elif not quiet:
        show(f"{out}: model for {card.stain} at {card.mpp:g} um/px")
        show(f"Use it: wsipsm run SLIDE --model {out}")


def check_weights_path(out: Path) -> None:
    """Refuse a file name that ``wsipsm run --model`` would not take, and a folder that is not there.

    Raises
    ------
    UsageError
        Before any work.
    """
    if out.suffix != WEIGHTS_SUFFIX:
        raise UsageError(
            f"--out {out}: ends in {out.suffix or 'nothing'!r}; a {WEIGHTS_SUFFIX} file is needed. Rename it."
        )
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; a {WEIGHTS_SUFFIX} file is needed. Name a file in it.")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: its folder does not exist; one is needed. Make it first.")

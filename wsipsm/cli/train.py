"""``wsipsm train``: trains a model on unlabelled slides or images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsipsm.cli.options import AsJson, ChosenSeed, Mpp, Quiet, check_mpp, says_how_to_continue
from wsipsm.cli.terminal import show, show_json, show_lines
from wsipsm.errors import UsageError
from wsipsm.keys import Stain

WEIGHTS_SUFFIX = ".safetensors"

Sources = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="SLIDE_OR_IMAGE...", help="Unlabelled slides or images.", show_default="the recipe's, in --data"
    ),
]
OutFile = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Weights to write, .safetensors; the model's card is written beside them.",
        show_default=False,
    ),
]
StainChoice = Annotated[
    Stain | None,
    typer.Option("--stain", help="Stain of the slides.", show_default="found from the colours"),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, help="Steps of the first round.", show_default="the recipe's"),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE",
        help="TOML file with what differs from the default recipe of the stain; pipelines/ has the recipes of the "
        "shipped models.",
        show_default="the shipped model's",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="Folder of the images that the recipe's sources name.", show_default="none"
    ),
]
WorkFolder = Annotated[
    Path | None,
    typer.Option(
        "--work",
        metavar="DIR",
        help="Folder to keep every finished training in, so that a recipe with the same beginning can reuse it.",
        show_default="a hidden folder beside --out, removed at the end",
    ),
]
Init = Annotated[
    str,
    typer.Option(
        "--init",
        metavar="auto|random|MODEL|PATH",
        help="Weights to start from; auto means the shipped model of the stain, PATH a model or the .safetensors of an "
        "encoder.",
    ),
]


def train(
    out: OutFile,
    sources: Sources = None,
    stain: StainChoice = None,
    steps: Steps = None,
    seed: ChosenSeed = None,
    mpp: Mpp = None,
    init: Init = "auto",
    recipe: RecipeFile = None,
    data: DataFolder = None,
    work: WorkFolder = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a model from pixels alone, by the recipe of the shipped model or one of your own.

    No label is read. Patches are cut from the tissue of slides; plain images need --mpp. Every fifth image is left out
    of the training, to compare the nuclei of the new model with those of the model that it started from.

    Example: wsipsm train slides/*.svs --out my-model.safetensors --stain ihc
    """
    check_mpp(mpp)
    check_weights_path(out)
    from wsipsm.cli.progress import open_announcer
    from wsipsm.training.train import TrainRequest, follow_recipe

    request = TrainRequest(
        sources=sources or [],
        data=data,
        recipe=recipe,
        stain=stain,
        steps=steps,
        seed=seed,
        mpp=mpp,
        init=init,
        work=work,
    )
    hint = "No model was written; the same command continues from the last checkpoint."
    with says_how_to_continue(hint), open_announcer(quiet or as_json) as announce:
        trained = follow_recipe(request, out, announce)
    card, comparison = trained.card, trained.comparison
    if as_json:
        show_json({"weights": str(out), "card": card.model_dump(mode="json"), "doubts": comparison.doubts()})
        return
    if not quiet:
        show(f"{out}: model for {card.stain} at {card.mpp:g} um/px")
        show(f"Use it: wsipsm run SLIDE --model {out}")
        show_lines(comparison.lines())
    elif comparison.doubts():
        show(comparison.lines()[-1], err=True)


def check_weights_path(out: Path) -> None:
    """Refuse, before any work, a file name that ``wsipsm run --model`` would not accept.

    Raises
    ------
    UsageError
        When the name has another suffix, is a folder, or lies in a folder that does not exist.
    """
    if out.suffix != WEIGHTS_SUFFIX:
        raise UsageError(
            f"--out {out}: ends in {out.suffix or 'nothing'!r}; a {WEIGHTS_SUFFIX} file is needed. Rename it."
        )
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; a {WEIGHTS_SUFFIX} file is needed. Name a file in it.")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: its folder does not exist; one is needed. Make it first.")

"""``wsipsm psm``: draws the figure of the paper for a slide of the user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsipsm.cli.options import AsJson, ChosenSeed, Mpp, Quiet, SlidePath, check_mpp, says_how_to_continue
from wsipsm.cli.terminal import show, show_json
from wsipsm.keys import Stain

OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write the picture into.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="TOML", help="Settings of all steps.", show_default="a short pretext training"),
]
StainChoice = Annotated[
    Stain | None,
    typer.Option("--stain", help="Stain of the slide.", show_default="found from the colours"),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NAME",
        help="Name of a CNN of timm, or torchvision:resnet18.",
        show_default="the configuration's",
    ),
]
WorkingMpp = Annotated[
    float, typer.Option("--working-mpp", metavar="UM", min=0.05, help="Pixel size to work at, in um/px.")
]
Train = Annotated[
    bool, typer.Option("--train", help="Also train a detector for the points, which takes long.", show_default="no")
]


def psm(
    slide: SlidePath,
    out: OutFolder = Path("wsipsm-psm"),
    config: Config = None,
    stain: StainChoice = None,
    network: Network = None,
    mpp: Mpp = None,
    working_mpp: WorkingMpp = 0.25,
    train: Train = False,
    seed: ChosenSeed = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw the steps of prior self-activation maps on a slide: maps of each stage, clusters, pseudo mask, points.

    The activation network is trained on the slide's own pixels, without labels, within a minute or two.

    Example: wsipsm psm slide.svs --out figures
    """
    check_mpp(mpp)
    from dataclasses import asdict

    from wsipsm.cli.progress import open_announcer
    from wsipsm.cli.steps import open_steps
    from wsipsm.paper.figure import PsmChoice, show_psm

    choice = PsmChoice(config=config, network=network, seed=seed, stain=stain, trained=train)
    silent = quiet or as_json
    with (
        says_how_to_continue("No picture was written; the same command continues from the last checkpoint."),
        open_announcer(silent) as announce,
        open_steps(silent) as progress,
    ):
        result = show_psm(
            slide,
            out,
            choice,
            mpp=mpp,
            working_mpp=working_mpp,
            announce=announce,
            progress=progress,
        )
    if as_json:
        show_json(asdict(result))
    elif not quiet:
        for note in result.notes:
            show(f"note: {note}")
        show(f"{result.picture}: {result.n_points} points; {result.nuclear_share:.0%} of the pixels are nuclear")

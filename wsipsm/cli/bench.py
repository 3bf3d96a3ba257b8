"""``wsipsm bench``: scores of methods on a published set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsipsm.benchmark.names import BuiltIn, ScoringProtocol, SetName
from wsipsm.cli.options import ChosenSeed, Model, Quiet, says_how_to_continue
from wsipsm.cli.terminal import show_lines
from wsipsm.errors import UsageError

if TYPE_CHECKING:
    from wsipsm.config import PaperOptions
    from wsipsm.keys import Stain

ChosenSet = Annotated[
    SetName, typer.Argument(metavar="monuseg|bcdata|shidc|dcis", help="Name of the set.", show_default=False)
]
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of the unpacked set, laid out as downloaded.", show_default=False)
]
Protocol = Annotated[
    ScoringProtocol,
    typer.Option(
        "--protocol",
        help="whole: scores whole images against true instances. paper: scores MoNuSeg as the published PSM code does, "
        "with its flaws.",
    ),
]
Methods = Annotated[
    str, typer.Option("--methods", metavar="NAMES", help="Methods to score, separated by commas; each is a table row.")
]
OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write the tables into.")]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Score only the first N images.", show_default="all"),
]
Train = Annotated[
    bool,
    typer.Option(
        "--train",
        help="Also train the paper's engine on the images' pixels; each of its steps is a table row.",
        show_default="no",
    ),
]
TrainOn = Annotated[
    Path | None,
    typer.Option(
        "--train-on",
        metavar="DIR",
        help="Folder of the images that --train uses, such as the set's training part.",
        show_default="the scored images",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="TOML", help="Settings of --train.", show_default="the paper's"),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        metavar="FACTOR",
        help="Factor on the epochs or steps of --train, such as 0.1.",
        show_default="the configuration's, or 1",
    ),
]
ALL_METHODS = ",".join(BuiltIn)


def bench(
    name: ChosenSet,
    folder: Folder,
    model: Model = None,
    protocol: Protocol = ScoringProtocol.WHOLE,
    methods: Methods = ALL_METHODS,
    out: OutFolder = Path("wsipsm-bench"),
    limit: Limit = None,
    train: Train = False,
    train_on: TrainOn = None,
    config: Config = None,
    budget: Budget = None,
    seed: ChosenSeed = None,
    quiet: Quiet = False,
) -> None:
    """Score methods on a published labelled set: one table row for each method, and a file with one row for each image.

    floor, cellprofiler and fiji use no network; wsipsm is the installed model, whose best, median and worst image are
    drawn too.

    With --train the published method is trained first, on pixels alone: those of the set, or of --train-on.
    Checkpoints are kept in the folder training of --out, and the same command continues after it was stopped.

    Example: wsipsm bench monuseg "MoNuSeg 2018 Training Data" --out tables
    """
    from wsipsm.benchmark.bench import Method, open_set, parse_methods, run_bench
    from wsipsm.benchmark.best_and_worst import write_gallery
    from wsipsm.benchmark.table import markdown, write_tables
    from wsipsm.cli.progress import open_announcer
    from wsipsm.cli.steps import open_steps

    if not train and any(given is not None for given in (train_on, config, budget)):
        raise UsageError("--train-on, --config, --budget: given without --train; they are for training. Add --train.")
    chosen: list[BuiltIn | Method] = [*parse_methods(methods)]
    with (
        says_how_to_continue("No table was written; a training continues from its last checkpoint."),
        open_announcer(quiet) as announce,
    ):
        opened = open_set(name, folder, protocol, limit)
        if train:
            from wsipsm.benchmark.paper_rows import train_methods

            options = _paper_options(opened.stain, config, budget, seed)
            seed = options.seed
            with open_steps(quiet) as progress:
                trained = train_methods(opened, options, out / "training" / name, announce, progress, train_on)
            if os.environ.get("RANK", "0") != "0":
                return  # torchrun started several processes, and only the one of rank 0 scores
            chosen[-1:-1] = trained
        report = run_bench(opened, chosen, model=model, seed=seed or 0, announce=announce)
        written = write_tables(report, out)
        if gallery := write_gallery(opened, report, out, model=model, seed=seed or 0):
            written.append(gallery)
    if not quiet:
        show_lines([*markdown(report).split("\n"), *(f"wrote {path}" for path in written)])


def _paper_options(stain: Stain, config: Path | None, budget: float | None, seed: int | None) -> PaperOptions:
    from wsipsm.config import read_paper_options

    options: dict[str, float | None] = {"seed": seed, "budget": budget}
    given = {key: value for key, value in options.items() if value is not None}
    return read_paper_options(config, stain, **given)

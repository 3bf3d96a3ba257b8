"""``wsipsm bench``: methods scored on a published set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsipsm.benchmark.names import BuiltIn, ScoringProtocol, SetName
from wsipsm.cli.options import Model, Quiet, Seed, says_how_to_continue

ChosenSet = Annotated[
    SetName, typer.Argument(metavar="monuseg|bcdata|shidc|dcis", help="Which set.", show_default=False)
]
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Where it was unpacked, layout as downloaded.", show_default=False)
]
Protocol = Annotated[
    ScoringProtocol,
    typer.Option(
        "--protocol",
        help="whole: whole images, true instances. paper: as the published PSM code scores MoNuSeg, flaws included.",
    ),
]
Methods = Annotated[str, typer.Option("--methods", metavar="NAMES", help="With commas; a row of the table each.")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the tables are written.")]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Only the first N images.", show_default="all"),
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
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Score methods on a published labelled set: a table with a row a method, a file with a row an image.

    floor, cellprofiler and fiji use no network; wsipsm is the installed model.

    Example: wsipsm bench monuseg "MoNuSeg 2018 Training Data" --out tables
    """
    from wsipsm.benchmark.table import markdown, write_tables
    from wsipsm.cli.progress import open_teller
    from wsipsm.stages.bench import open_set, parse_methods, run_bench

    chosen = parse_methods(methods)
    with says_how_to_continue("No table was written."), open_teller(quiet) as tell:
        opened = open_set(name, folder, protocol, limit)
        report = run_bench(opened, chosen, model=model, seed=seed, tell=tell)
        written = write_tables(report, out)
    if not quiet:
        typer.echo(markdown(report))
        for path in written:
            typer.echo(f"wrote {path}")

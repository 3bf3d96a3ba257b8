"""``wsipsm run``: finds and scores the nuclei of one slide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsipsm.cli.options import AsJson, Quiet, SlidePath, says_how_to_continue
from wsipsm.cli.run_options import read_run_options, takes_run_options
from wsipsm.cli.terminal import show_json, show_lines

StainFrom = Annotated[
    Path | None,
    typer.Option(
        "--stain-from",
        metavar="SLIDE",
        help="Use the stains and DAB cut of this slide.",
        show_default="fitted on the slide itself",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="Name of the slide's folder in DIR.",
        show_default="the file's name without its suffix",
    ),
]
OutDir = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="Folder of results, in which each slide gets its own folder."),
]


@takes_run_options
def run(
    context: typer.Context,
    slide: SlidePath,
    out: OutDir = Path("wsipsm-out"),
    name: Name = None,
    stain_from: StainFrom = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Find the nuclei of a slide and score Ki-67.

    The results are the nuclei as a table and as a file for QuPath, the labelling index with its interval, and an
    overview picture. A run that was stopped continues from its finished blocks. The exit code is 7 when part of the
    slide could not be read.

    Example: wsipsm run slide.svs --out results --roi tumour.geojson
    """
    options = read_run_options(context)
    from wsipsm.cli.progress import open_listener
    from wsipsm.cli.summary_text import lines_about_run, lines_about_time
    from wsipsm.cohort.fixed_stain import fixed_stain_of
    from wsipsm.results.folder_names import check_folder_name
    from wsipsm.stages.run import run_slide

    if name is not None:
        check_folder_name(name, "--name")
    if stain_from is not None:
        options = options.model_copy(update={"stain": fixed_stain_of(stain_from, options.mpp, options.seed)})
    with says_how_to_continue(), open_listener(silent=quiet or as_json) as listener:
        summary = run_slide(slide, out, options, listener, name=name)
    if as_json:
        show_json(summary.to_dict())
    elif not quiet:
        show_lines([*lines_about_run(summary), *(lines_about_time(summary) if options.profile else [])])
    raise typer.Exit(summary.exit_code)

"""``wsipsm demo``: draws a slide with known truth, runs it and compares the result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsipsm.cli.options import AsJson, Quiet, Workers, says_how_to_continue
from wsipsm.cli.run_options import build_run_options
from wsipsm.cli.terminal import show, show_json, show_lines
from wsipsm.errors import EXIT_UNEXPECTED
from wsipsm.keys import Artefact, Stain
from wsipsm.models.shipped import DEFAULT_MODELS

if TYPE_CHECKING:
    from wsipsm.demo.compare import Comparison

DEMO_MODEL = DEFAULT_MODELS[Stain.IHC]
SLIDE_NAME = "demo-ki67.tiff"
MIN_RECALL = 0.97
MAX_INDEX_ERROR = 0.02
"""Largest error of the labelling index, as a fraction: two percentage points."""

OutDir = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the drawn slide and its results.")]
Opens = Annotated[
    bool, typer.Option("--open/--no-open", help="Show the overview picture at the end, where there is a display.")
]


def demo(
    out: OutDir = Path("wsipsm-demo"),
    opens: Opens = True,
    workers: Workers = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Draw a Ki-67 slide with known truth, run it, and compare: proof that the installation works.

    Downloads nothing. Exits with 1 when fewer than 97 % of the drawn nuclei are found or the labelling index is more
    than 2 points off.

    Example: wsipsm demo --out wsipsm-demo --no-open
    """
    # The demo always computes anew, since old results would not show that the installation works.
    options = build_run_options(model=DEMO_MODEL, workers=workers, overwrite=True)
    from wsipsm.cli.progress import open_listener
    from wsipsm.cli.summary_text import lines_about_run
    from wsipsm.demo.compare import compare
    from wsipsm.demo.draw import draw_slide
    from wsipsm.rundir import RunDir
    from wsipsm.stages.run import run_slide

    silent = quiet or as_json
    slide = make_folder(out) / SLIDE_NAME
    with says_how_to_continue(), open_listener(silent) as listener:
        if not silent:
            show(f"drawing {slide}", err=True)
        truth = draw_slide(slide)
        summary = run_slide(slide, out, options, listener)
        comparison = compare(truth, RunDir(summary.folder).path(Artefact.CELLS))
    agrees = agrees_with_truth(comparison)
    if as_json:
        show_json({"agrees": agrees, "comparison": comparison.to_dict(), "summary": summary.to_dict()})
    elif not quiet:
        show_lines([*lines_about_run(summary), "", *lines_about_comparison(comparison, agrees)])
        show_picture(RunDir(summary.folder).path(Artefact.OVERVIEW), opens)
    raise typer.Exit(summary.exit_code if agrees else EXIT_UNEXPECTED)


def agrees_with_truth(comparison: Comparison) -> bool:
    """Tell whether enough nuclei were found and the labelling index is right."""
    error = comparison.index_error
    return comparison.recall >= MIN_RECALL and error is not None and abs(error) <= MAX_INDEX_ERROR


def lines_about_comparison(comparison: Comparison, agrees: bool) -> list[str]:
    """Write truth and result side by side."""
    rows = [("", "drawn", "found"), *comparison.rows()]
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{name:{width}}  {drawn:>8}  {found:>8}" for name, drawn, found in rows]
    if agrees:
        return [*lines, "The result agrees with the truth."]
    needed = f"at least {MIN_RECALL:.0%} found and an index within {100 * MAX_INDEX_ERROR:.0f} points are needed"
    return [*lines, f"The result does NOT agree with the truth: {needed}."]


def make_folder(path: Path) -> Path:
    """Make a folder for results.

    Raises
    ------
    OutputError
        When it cannot be made.
    """
    from wsipsm.rundir import output_error

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return path


def show_picture(path: Path, wanted: bool) -> None:
    """Open a picture in the desktop's viewer where there is a display; print its path otherwise."""
    command = _viewer() if wanted and sys.stdout.isatty() else None
    if command is None:
        show(f"Look at {path}")
        return
    show(f"opening {path}")
    # The viewer gets its own session, so that the command can end while the viewer stays open.
    subprocess.Popen([command, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def _viewer() -> str | None:
    if sys.platform == "darwin":
        return shutil.which("open")
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return shutil.which("xdg-open")
    return None

"""``wsipsm status``: shows how far a cohort is, while another terminal runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsipsm.cli.options import AsJson
from wsipsm.cli.terminal import show_json, show_lines

if TYPE_CHECKING:
    from wsipsm.cohort.status import CohortStatus

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder given to 'wsipsm cohort --out'.", show_default=False)
]
N_SHOWN = 20


def status(folder: Folder, as_json: AsJson = False) -> None:
    """Show how far a cohort is: slides done, running, waiting and failed.

    It only reads the folder, so it can be run at any time, from any machine that sees the folder.

    Example: wsipsm status results
    """
    from wsipsm.cohort.status import read_status

    found = read_status(folder)
    if as_json:
        show_json(found)
        return
    show_lines(_lines_about(found))


def _lines_about(found: CohortStatus) -> list[str]:
    counts = ", ".join(f"{n} {name}" for name, n in sorted(found.n_by_status.items()))
    lines = [f"{found.folder}: {found.n_slides} slides: {counts}"]
    lines.append(f"  {found.holder or 'no command works on it; the same command continues it'}")
    for slide in found.running[:N_SHOWN]:
        of = "" if slide.n_blocks is None else f" of {slide.n_blocks}"
        lines.append(f"  running: {slide.id}: {slide.n_blocks_done}{of} blocks")
    lines += [f"  failed: {slide}: {reason}" for slide, reason in found.failures[:N_SHOWN]]
    if len(found.failures) > N_SHOWN:
        lines.append(f"  and {len(found.failures) - N_SHOWN} more failed; cohort.csv has them all")
    return [*lines, f"  started {found.n_starts} times, last event {found.last or 'none'}"]

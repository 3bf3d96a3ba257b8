"""Options that several commands share, and the ``RunOptions`` made from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from wsipsm.errors import UsageError
from wsipsm.keys import QuPathFrame
from wsipsm.markers.known import known_markers
from wsipsm.models.shipped import shipped_names

SlidePath = Annotated[Path, typer.Argument(metavar="SLIDE", help="Slide or image file.", show_default=False)]
Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        metavar="UM",
        help="Pixel size of level 0 in um/px, instead of the file's.",
        show_default="the file's",
    ),
]
ImageNumber = Annotated[
    int | None,
    typer.Option(
        "--image",
        metavar="N",
        min=1,
        help="Image of the file to use as the slide, numbered as 'wsipsm info' shows.",
        show_default="the largest pyramid",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help=f"Model to use: {', '.join(shipped_names())} or a .safetensors file.",
        show_default="chosen by the slide's stain",
    ),
]
_WITH_BANDS = [marker.key for marker in known_markers() if marker.bands]
ABOUT_BANDS = f"bands are given for {' and '.join(_WITH_BANDS)} only"
"""Clause for help texts on the markers whose index is placed in bands."""
Marker = Annotated[
    str,
    typer.Option(
        "--marker",
        metavar="NAME",
        help=f"Nuclear marker that DAB shows, e.g. ki67, er, pr; {ABOUT_BANDS}.",
    ),
]
Roi = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        metavar="GEOJSON",
        help="Score inside these polygons, as QuPath exports them.",
        show_default="all tissue",
    ),
]
FRAME_HELP = (
    "Part that QuPath shows of a slide with an empty canvas around it (MRXS, SCN): full when QuPath does not crop it."
)
QuPathFrameOption = Annotated[QuPathFrame, typer.Option("--qupath-frame", metavar="cropped|full", help=FRAME_HELP)]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Number of processes of a local Dask cluster; 0 works in this process.",
        show_default="by CPUs and memory",
    ),
]
ChosenSeed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Seed of all random choices.", show_default="the configuration's, or 0"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", show_default="no")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.", show_default="no")]

CONTINUE_HINT = "Finished blocks are kept; the same command continues from them."


def check_mpp(mpp: float | None) -> None:
    """Refuse a pixel size at which no nucleus can be outlined.

    Raises
    ------
    UsageError
        When the value is outside the accepted range, which the message names.
    """
    from wsipsm.slide.base import PLAUSIBLE_MPP

    low, high = PLAUSIBLE_MPP
    # The negated comparison also refuses NaN.
    if mpp is not None and not low <= mpp <= high:
        raise UsageError(
            f"--mpp {mpp:g}: not a pixel size that can show nuclei; {low:g} to {high:g} um/px is accepted. "
            "Pass the scanner's value, e.g. 0.25 for 40x or 0.5 for 20x."
        )


@contextmanager
def says_how_to_continue(hint: str = CONTINUE_HINT) -> Iterator[None]:
    """Add ``hint`` to the interrupt of Ctrl-C or a signal; the command prints it as its last line."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(hint)
        raise

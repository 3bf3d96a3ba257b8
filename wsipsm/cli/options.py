"""Options that several commands share, and the ``RunOptions`` made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wsipsm.errors import UsageError
from wsipsm.keys import BACKENDS, QuPathFrame
from wsipsm.markers.known import known_markers
from wsipsm.models.shipped import shipped_names

if TYPE_CHECKING:
    from wsipsm.config import RunOptions

SlidePath = Annotated[Path, typer.Argument(metavar="SLIDE", help="Slide or image file.", show_default=False)]
Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        metavar="UM",
        help="Pixel size of level 0 in um/px, instead of what the file says.",
        show_default="the file's",
    ),
]
OnPixelSize = Annotated[
    Literal["flag", "refuse"],
    typer.Option("--on-pixel-size", help="What becomes of a slide whose picture does not fit its pixel size."),
]
ImageNumber = Annotated[
    int | None,
    typer.Option(
        "--image",
        metavar="N",
        min=1,
        help="Which image of the file is the slide, as 'wsipsm info' numbers them.",
        show_default="the largest pyramid",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|PATH",
        help=f"{', '.join(shipped_names())} or a .safetensors file.",
        show_default="chosen by the slide's stain",
    ),
]
_WITH_BANDS = [marker.key for marker in known_markers() if marker.bands]
ABOUT_BANDS = f"bands are given for {' and '.join(_WITH_BANDS)} alone"
"""A sentence on the markers whose index is placed in bands."""
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
RoiClass = Annotated[
    list[str] | None,
    typer.Option(
        "--roi-class",
        metavar="CLASS",
        help="Annotations of this class count. Several: repeat it, or use commas; '*' is every class, 'none' no class.",
        show_default="Tumor, Tumour; all where there is none",
    ),
]
ExcludeClass = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-class",
        metavar="CLASS",
        help="Annotations of this class are cut out. Several: repeat it, or use commas.",
        show_default="Ignore, Necrosis, Artefact, Artifact, Exclude",
    ),
]
TmaCores = Annotated[
    bool, typer.Option("--tma-cores", help="TMA cores are areas like annotations.", show_default="left out")
]
FRAME_HELP = "What QuPath shows of a slide with an empty canvas around it (MRXS, SCN): full when it does not crop."
QuPathFrameOption = Annotated[QuPathFrame, typer.Option("--qupath-frame", metavar="cropped|full", help=FRAME_HELP)]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Processes of a local Dask cluster; 0 works in this process.",
        show_default="by CPUs and memory",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use a running Dask scheduler, e.g. tcp://host:8786.",
        show_default="none",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Compute again what is already done.", show_default="no")]
BlockPx = Annotated[
    int | None,
    typer.Option(
        "--block-px",
        metavar="PX",
        help="Side of a block, the unit of work and of continuing.",
        show_default="by slide and memory",
    ),
]
TilePx = Annotated[
    int | None,
    typer.Option(
        "--tile-px", metavar="PX", help="Side of a tile given to the network.", show_default="by slide and memory"
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything that is sampled.")]
ChosenSeed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Seed of everything random.", show_default="the configuration's, or 0"),
]
Backend = Annotated[
    str,
    typer.Option("--backend", metavar="|".join(BACKENDS), help="What runs the network; auto takes OpenVINO on CPU."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", show_default="no")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.", show_default="no")]

CONTINUE_HINT = "Finished blocks are kept; the same command continues from them."


def read_run_options(context: typer.Context, needs_roi: bool = True) -> RunOptions:
    """Take what a command line says of a run: its options that are called as a field of ``RunOptions`` is.

    Parameters
    ----------
    context
        Context of the command.
    needs_roi
        Choices about annotations are refused without ``--roi``; the slides of a cohort may name files of their own.

    Raises
    ------
    UsageError
        As :func:`build_run_options`.
    """
    from wsipsm.config import RunOptions

    given = {name: value for name, value in context.params.items() if name in RunOptions.model_fields}
    if needs_roi:
        check_roi_options(given["roi"], given["roi_class"] or None, given["exclude_class"] or None, given["tma_cores"])
    classes = {name: split_classes(given[name]) for name in ("roi_class", "exclude_class")}
    return build_run_options(**{**given, **classes})


def build_run_options(**values: Any) -> RunOptions:
    """Validate command-line values as ``RunOptions``.

    Raises
    ------
    UsageError
        Naming the flag and the value that was refused.
    """
    if values.get("scheduler") is not None and values.get("workers") is None:
        from wsipsm.executors.scheduler_address import check_address

        check_address(values["scheduler"])
    from pydantic import ValidationError

    from wsipsm.config import RunOptions

    check_mpp(values.get("mpp"))
    if values.get("workers") is not None and values.get("scheduler") is not None:
        raise UsageError(
            f"--scheduler {values['scheduler']}: given together with --workers {values['workers']}; "
            "a running scheduler brings its own workers. Leave one of the two out."
        )
    if values.get("backend", "auto") not in BACKENDS:
        # Here and not in a worker, so that it ends before any work.
        raise UsageError(f"--backend {values['backend']}: unknown; one of {', '.join(BACKENDS)} is needed. See --help.")
    try:
        return RunOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise UsageError(f"{flag} {first['input']}: refused; {first['msg'].lower()}. See --help.") from error


def split_classes(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Split an option that may be repeated into classes, at commas; quotes keep a comma."""
    if not given:  # an option that was not given is None in a command and an empty list in its context
        return None
    import csv

    return tuple(name.strip() for row in csv.reader(given, skipinitialspace=True) for name in row if name.strip())


def check_roi_options(
    roi: Path | None, roi_class: Sequence[str] | None, exclude_class: Sequence[str] | None, tma_cores: bool
) -> None:
    """Refuse choices about annotations where no file with annotations is given.

    Raises
    ------
    UsageError
        Naming the flag.
    """
    given = {"--roi-class": roi_class, "--exclude-class": exclude_class, "--tma-cores": tma_cores or None}
    for flag, value in given.items():
        if value is not None and roi is None:
            raise UsageError(f"{flag}: given without --roi; a GeoJSON with annotations is needed. Add --roi.")


def check_mpp(mpp: float | None) -> None:
    """Refuse a pixel size at which no nucleus can be outlined.

    Raises
    ------
    UsageError
        Naming ``--mpp``, the value and the accepted range.
    """
    from wsipsm.slide.base import PLAUSIBLE_MPP

    low, high = PLAUSIBLE_MPP
    # Written so that not-a-number is refused too.
    if mpp is not None and not low <= mpp <= high:
        raise UsageError(
            f"--mpp {mpp:g}: not a pixel size that can show nuclei; {low:g} to {high:g} um/px is accepted. "
            "Pass the scanner's value, e.g. 0.25 for 40x or 0.5 for 20x."
        )


@contextmanager
def says_how_to_continue(hint: str = CONTINUE_HINT) -> Iterator[None]:
    """Attach ``hint`` to Ctrl-C, for the line that the command ends with."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(hint)
        raise

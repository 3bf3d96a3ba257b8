"""The options of a run, which ``wsipsm run`` and ``wsipsm cohort`` share, and the ``RunOptions`` made from them.

A new option needs a field of ``RunOptions`` and a line in `_RUN_OPTIONS`; no command names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wsipsm.cli.options import ImageNumber, Marker, Model, Mpp, QuPathFrameOption, Roi, Workers, check_mpp
from wsipsm.errors import UsageError
from wsipsm.keys import BACKENDS, PRECISIONS, QuPathFrame
from wsipsm.markers.registry import DEFAULT_MARKER

if TYPE_CHECKING:
    from wsipsm.config import RunOptions

OnPixelSize = Annotated[
    Literal["flag", "refuse"],
    typer.Option("--on-pixel-size", help="What to do with a slide whose nuclei do not fit its pixel size."),
]
RoiClass = Annotated[
    list[str] | None,
    typer.Option(
        "--roi-class",
        metavar="CLASS",
        help="Score annotations of this class. For several, repeat the option or use commas; '*' means every class, "
        "'none' annotations without a class.",
        show_default="Tumor, Tumour; all where there is none",
    ),
]
ExcludeClass = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-class",
        metavar="CLASS",
        help="Cut out annotations of this class. For several, repeat the option or use commas.",
        show_default="Ignore, Necrosis, Artefact, Artifact, Exclude",
    ),
]
TmaCores = Annotated[bool, typer.Option("--tma-cores", help="Treat TMA cores as annotations.", show_default="left out")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use a running Dask scheduler, e.g. tcp://host:8786.",
        show_default="none",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Compute finished results again.", show_default="no")]
BlockPx = Annotated[
    int | None,
    typer.Option(
        "--block-px",
        metavar="PX",
        help="Side of a block, the part of a slide that is computed and stored as one.",
        show_default="by slide and memory",
    ),
]
TilePx = Annotated[
    int | None,
    typer.Option(
        "--tile-px", metavar="PX", help="Side of a tile, the input of the network.", show_default="by slide and memory"
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of all random samples.")]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="|".join(BACKENDS),
        help="Library that runs the network; auto uses torch on a GPU and OpenVINO on a CPU.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N]",
        help="Device that runs the network; auto uses a GPU where torch can, else the CPU.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(PRECISIONS),
        help="Number format of the network; auto uses float16 on a GPU, else float32.",
    ),
]
Profile = Annotated[
    bool,
    typer.Option("--profile", help="Write trace.json: when each step ran, on which worker.", show_default="no"),
]

_RUN_OPTIONS: Mapping[str, tuple[Any, object]] = MappingProxyType(
    {
        "model": (Model, None),
        "marker": (Marker, DEFAULT_MARKER.key),
        "mpp": (Mpp, None),
        "on_pixel_size": (OnPixelSize, "flag"),
        "image": (ImageNumber, None),
        "roi": (Roi, None),
        "roi_class": (RoiClass, None),
        "exclude_class": (ExcludeClass, None),
        "tma_cores": (TmaCores, False),
        "qupath_frame": (QuPathFrameOption, QuPathFrame.CROPPED),
        "workers": (Workers, None),
        "scheduler": (Scheduler, None),
        "overwrite": (Overwrite, False),
        "block_px": (BlockPx, None),
        "tile_px": (TilePx, None),
        "seed": (Seed, 0),
        "backend": (Backend, "auto"),
        "device": (Device, "auto"),
        "precision": (Precision, "auto"),
        "profile": (Profile, False),
    }
)
"""Flag and default of each field of ``RunOptions`` that a command line can give, in the order of ``--help``."""


def takes_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a run to a command, before its ``--quiet``.

    The command itself does not get them: `read_run_options` takes them from its context.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    at = [parameter.name for parameter in own].index("quiet")
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=flag)
        for name, (flag, default) in _RUN_OPTIONS.items()
    ]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own[:at], *shared, *own[at:])]

    @wraps(command)
    def with_run_options(**given: Any) -> None:
        command(**{name: value for name, value in given.items() if name not in _RUN_OPTIONS})

    # typer asks for the signature first and then for the type hints.
    with_run_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_run_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_run_options


def read_run_options(context: typer.Context, needs_roi: bool = True) -> RunOptions:
    """Make ``RunOptions`` of what a command line gives.

    Parameters
    ----------
    context
        Context of a command that `takes_run_options`.
    needs_roi
        Whether options about annotations are refused without ``--roi``. A cohort does not need it, since the manifest
        may name a GeoJSON file for each slide.

    Raises
    ------
    UsageError
        When an option has a value that cannot be used; the message names both.
    """
    given = {name: context.params[name] for name in _RUN_OPTIONS}
    if needs_roi:
        check_roi_options(given["roi"], given["roi_class"] or None, given["exclude_class"] or None, given["tma_cores"])
    classes = {name: split_classes(given[name]) for name in ("roi_class", "exclude_class")}
    return build_run_options(**{**given, **classes})


def build_run_options(**values: Any) -> RunOptions:
    """Validate command-line values as ``RunOptions``.

    Raises
    ------
    UsageError
        When a value cannot be used; the message names the flag and the value.
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
            "a running scheduler has its own workers. Leave one of the two out."
        )
    if values.get("backend", "auto") not in BACKENDS:
        # Checked before any work, and not first in a worker.
        raise UsageError(f"--backend {values['backend']}: unknown; one of {', '.join(BACKENDS)} is needed. See --help.")
    try:
        return RunOptions(**values)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise UsageError(f"{flag} {first['input']}: refused; {first['msg'].lower()}. See --help.") from error


def split_classes(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Split the values of an option that may be repeated into class names at commas, except at commas in quotes."""
    if not given:  # an option that was not given is None in a command and an empty list in its context
        return None
    import csv

    return tuple(name.strip() for row in csv.reader(given, skipinitialspace=True) for name in row if name.strip())


def check_roi_options(
    roi: Path | None, roi_class: Sequence[str] | None, exclude_class: Sequence[str] | None, tma_cores: bool
) -> None:
    """Refuse options about annotations where no file with annotations is given.

    Raises
    ------
    UsageError
        When such an option is given without ``--roi``; the message names it.
    """
    given = {"--roi-class": roi_class, "--exclude-class": exclude_class, "--tma-cores": tma_cores or None}
    for flag, value in given.items():
        if value is not None and roi is None:
            raise UsageError(f"{flag}: given without --roi; a GeoJSON with annotations is needed. Add --roi.")

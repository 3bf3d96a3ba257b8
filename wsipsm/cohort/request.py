"""The request of a cohort, stored in its folder, so that it can be resumed by naming the folder alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from wsipsm.cohort.fixed_stain import BATCH
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.remote.address import is_url, shown_url
from wsipsm.remote.cache import DEFAULT_CACHE_BYTES
from wsipsm.rundir import write_aside

REQUEST_NAME = "cohort.request.json"
_LEFT_OUT = "?..."
PAUSES_S = (5.0, 60.0)
"""Seconds before the second try of failed slides and before each further try; a network share may be absent for a
minute."""


@dataclass(frozen=True, slots=True)
class CohortOptions:
    """Options on how a cohort deals with failures, and on what its slides share."""

    retry: int = 1
    """Further tries of a slide that failed or is incomplete, after all others."""
    max_failures: int | None = None
    """The cohort stops when more slides than this have failed; None means that it never stops for failures."""
    pauses_s: tuple[float, ...] = PAUSES_S
    """Seconds before each further try; the last value holds for all that follow."""
    skip_bad: bool = False
    """Whether the cohort goes on without slides that cannot be used; the table then has the reasons."""
    cache: Path | None = None
    """Folder for slides by address; None stands for one in the cohort's folder."""
    cache_bytes: int = DEFAULT_CACHE_BYTES
    """Largest size of the cache, bytes."""
    stain_from: str | None = None
    """Slide whose stains and DAB cut hold for all, or 'batch'; None means that each slide has its own."""
    slurm: Path | None = None
    """TOML file that describes the SLURM jobs; None means that there are none."""
    allow_private_addresses: bool = False
    """Whether slides are also fetched from this machine and from private networks."""


class CohortRequest(BaseModel):
    """A command on a cohort, with absolute paths, so that it can be repeated from any folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...]
    options: RunOptions
    how: CohortOptions


def keep_request(folder: Path, sources: Sequence[str], options: RunOptions, how: CohortOptions) -> None:
    """Write ``cohort.request.json``.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    own: dict[str, object] = {"roi": _absolute(options.roi), "overwrite": False}
    if options.model is not None and os.path.exists(options.model):
        own["model"] = os.path.abspath(options.model)
    stain_from = how.stain_from if how.stain_from in (None, BATCH) else os.path.abspath(str(how.stain_from))
    kept = CohortRequest(
        sources=tuple(_kept_url(source) if is_url(source) else os.path.abspath(source) for source in sources),
        options=RunOptions.model_validate({**options.model_dump(), **own}),
        how=replace(how, cache=_absolute(how.cache), slurm=_absolute(how.slurm), stain_from=stain_from),
    )
    with write_aside(folder / REQUEST_NAME) as temporary:
        temporary.write_text(kept.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_request(folder: Path) -> CohortRequest:
    """Read the request of an earlier command on a folder.

    Raises
    ------
    UsageError
        When the folder holds no request, or one that cannot be used.
    """
    path = folder / REQUEST_NAME
    needed = "a folder that an earlier 'wsipsm cohort ... --out' wrote to is needed. Check the path"
    try:
        request = CohortRequest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--resume {folder}: {path} cannot be read ({error.strerror}); {needed}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(
            f"--resume {folder}: {path}: {key}: {first['msg'].lower()}; {needed}, or give the whole command again."
        ) from error
    for source in request.sources:
        if source.endswith(_LEFT_OUT):
            raise UsageError(
                f"--resume {folder}: {source} was given with a query, which may be secret and was not kept; the whole "
                "command with it is needed. Give that, with --out."
            )
    return request


def _kept_url(url: str) -> str:
    """Return an address as it may be written: a query, which may hold a token or signature, becomes ``?...``."""
    shown = shown_url(url)
    return url if shown == url else shown + _LEFT_OUT


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(path))

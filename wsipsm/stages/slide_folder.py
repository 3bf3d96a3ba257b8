"""The folder of one slide's results: held by one command at a time, and of one slide for good."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.folderlock import LOCK_NAME, FolderLock, hold_folder, hold_in_study
from wsipsm.keys import Artefact
from wsipsm.rundir import RunDir, output_error
from wsipsm.slide.base import SlideInfo

_TRACES = frozenset({LOCK_NAME, Artefact.SLIDE.value, Artefact.SHARDS.value})
"""What a command that made no result may leave in a folder."""


@contextmanager
def held_slide_folder(folder: Path, in_study: bool = False) -> Iterator[FolderLock]:
    """Hold the folder of a slide for one command; where nothing was made of it, no trace is left.

    Parameters
    ----------
    folder
        Made where it is absent.
    in_study
        The command holds the folder above, as a study does.

    Raises
    ------
    UsageError
        When another command works on it.
    OutputError
        When it cannot be written.
    """
    with (hold_in_study if in_study else hold_folder)(folder) as lock:
        try:
            yield lock
        finally:
            run_dir = RunDir(folder)
            if _is_unused(run_dir):
                with suppress(OSError):
                    run_dir.remove(Artefact.SLIDE)
                    run_dir.path(Artefact.SHARDS).rmdir()


def claim_slide_folder(run_dir: RunDir, info: SlideInfo, source: str = "") -> None:
    """Make sure that a folder is of this slide, and note that it is; the caller holds it.

    A slide is the same when its content is, wherever it lies, and when its place is, whatever it holds by now.

    Parameters
    ----------
    run_dir
        Of the slide.
    info
        Of the slide.
    source
        Address that the slide was fetched from, in place of its path.

    Raises
    ------
    UsageError
        When the folder is of another slide.
    OutputError
        When it cannot be written.
    """
    own = {"source": source or _place_of(info.path), "fingerprint": info.fingerprint}
    known = run_dir.read_json(Artefact.SLIDE) or _owner_by_run(run_dir)
    if known is not None and not _is_unused(run_dir) and not any(known.get(key) == own[key] for key in own):
        raise UsageError(
            f"{source or info.path}: {run_dir.root} holds results of another slide, {known.get('source')}; every slide "
            "needs a folder of its own. Name one with --name (in a manifest: id), or choose another --out."
        )
    if known != own:
        try:
            run_dir.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(run_dir.root, error) from error
        run_dir.write_json(Artefact.SLIDE, own)


def _owner_by_run(run_dir: RunDir) -> dict[str, str] | None:
    """Slide of a folder that an earlier version made."""
    slide = (run_dir.read_json(Artefact.RUN) or {}).get("slide")
    if not isinstance(slide, dict):
        return None
    return {"source": _place_of(str(slide.get("path"))), "fingerprint": str(slide.get("fingerprint"))}


def _place_of(path: str) -> str:
    """Absolute path without links, as text that JSON can hold."""
    return os.fsencode(os.path.realpath(path)).decode(errors="backslashreplace")


def _is_unused(run_dir: RunDir) -> bool:
    """Whether neither a result nor a finished block lies in a folder."""
    shards = run_dir.path(Artefact.SHARDS)
    try:
        if any(name not in _TRACES for name in os.listdir(run_dir.root)):
            return False
        return not shards.is_dir() or not os.listdir(shards)
    except OSError:
        return False

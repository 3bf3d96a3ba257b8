"""The folder of one slide's results: only one command at a time works on it, and it never changes to another slide."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Self

from wsipsm.errors import SlideOpenError, UsageError
from wsipsm.folderlock import LOCK_NAME, FolderLock, hold_folder, hold_in_cohort
from wsipsm.keys import Artefact
from wsipsm.results.folder_names import folder_stem
from wsipsm.results.record import Record
from wsipsm.results.run_record import slide_of_run
from wsipsm.rundir import RunDir, output_error
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.fingerprint import fingerprint_slide

_TRACES = frozenset({LOCK_NAME, Artefact.SLIDE.value, Artefact.SHARDS.value})
"""Files that a command that made no result may leave in a folder."""
_MARK_CHARS = 6
"""Number of characters of a fingerprint in a folder's name, where two slides have one name."""


class SlideOwner(Record):
    """The slide that a folder belongs to; ``slide.json`` holds it."""

    artefact: ClassVar[Artefact] = Artefact.SLIDE
    remedy: ClassVar[str] = "Remove the file where the folder is this slide's, or choose another --out."
    only_if_any: ClassVar[frozenset[str]] = frozenset({"image"})

    source: str
    """The absolute path without links, or the address."""
    fingerprint: str
    image: int | None = None
    """Number of the image that the command named, from 1; None where it named none."""

    @classmethod
    def find(cls, run_dir: RunDir) -> Self | None:
        """Read ``slide.json`` of a folder, or else the slide in its ``run.json``: early versions wrote only that."""
        slide = slide_of_run(run_dir) if (found := super().find(run_dir)) is None else None
        return found if slide is None else cls(source=_place_of(slide[0]), fingerprint=slide[1])

    def has(self, source: str, fingerprint: str) -> bool:
        """Find out whether a slide is this one, by its path or address, or by its content."""
        return self.source == source or self.fingerprint == fingerprint


@contextmanager
def locked_slide_folder(folder: Path, in_cohort: bool = False) -> Iterator[FolderLock]:
    """Lock the folder of a slide for one command; a new folder that stayed empty is removed.

    Parameters
    ----------
    folder
        Folder that is locked; it is made where it is absent.
    in_cohort
        Whether the command has already locked the folder above, as a cohort does.

    Raises
    ------
    UsageError
        When another command works on it.
    OutputError
        When it cannot be written.
    """
    with (hold_in_cohort if in_cohort else hold_folder)(folder) as lock:
        try:
            yield lock
        finally:
            run_dir = RunDir(folder)
            if _is_unused(run_dir):
                with suppress(OSError):
                    run_dir.remove(Artefact.SLIDE)
                    run_dir.path(Artefact.SHARDS).rmdir()


@contextmanager
def locked_own_folder(
    slide_path: Path, out_dir: Path, name: str | None, image: int | None
) -> Iterator[tuple[str, FolderLock]]:
    """Find the folder of a slide among the results, and lock it for one command.

    Parameters
    ----------
    slide_path, out_dir, image
        The same as in :func:`choose_folder_name`.
    name
        Name of the folder; with None :func:`choose_folder_name` chooses one.

    Yields
    ------
    The folder's name and its lock.
    """
    if name is None:
        name = choose_folder_name(slide_path, folder_stem(slide_path, image), out_dir, image)
    with locked_slide_folder(out_dir / name) as lock:
        yield name, lock


def choose_folder_name(slide_path: Path, stem: str, out_dir: Path, image: int | None = None) -> str:
    """Choose the name of a slide's folder where the user has given none.

    Parameters
    ----------
    slide_path
        Slide or image file.
    stem
        Stem of the slide's file name, which becomes the folder's name unless that folder is another slide's.
    out_dir
        Folder of results.
    image
        Number of the image that the command names; another image of the file is another slide.

    Returns
    -------
    The name of the folder that has the slide's results already, which is found by the slide's path, or by its bytes
    where it was moved or renamed. Without such a folder it is the stem, followed by a part of the fingerprint where a
    folder of that name belongs to another slide.
    """
    own_name = re.compile(rf"{re.escape(stem)}(-[0-9a-f]{{{_MARK_CHARS}}})?")
    place = _place_of(str(slide_path))
    names = _names_in(out_dir)
    for name in filter(own_name.fullmatch, names):  # likely names first, since a cohort's folder may hold thousands
        owner = _owner_of(RunDir(out_dir / name))
        if owner is not None and (owner.source, owner.image) == (place, image):
            return name
    owners = {name: known for name in names if (known := _owner_of(RunDir(out_dir / name))) is not None}
    if not owners:
        return stem
    try:
        fingerprint = fingerprint_slide(slide_path)
    except SlideOpenError:
        return stem  # the slide cannot be opened, which the next step reports
    for name, owner in owners.items():
        is_alike = (owner.fingerprint, owner.image) == (fingerprint, image)
        if is_alike and (own_name.fullmatch(name) or not os.path.lexists(owner.source)):
            return name
    return f"{stem}-{fingerprint[:_MARK_CHARS]}" if stem in owners else stem


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _owner_of(run_dir: RunDir) -> SlideOwner | None:
    """Find the slide that a folder belongs to; None where it belongs to none yet, or its file cannot be read."""
    try:
        known = SlideOwner.find(run_dir)
    except UsageError:
        return None  # claim_slide_folder reports the unreadable file
    return None if known is None or _is_unused(run_dir) else known


def claim_slide_folder(run_dir: RunDir, info: SlideInfo, source: str = "", image: int | None = None) -> None:
    """Make sure that a folder belongs to this slide, and record that; the caller must hold the folder's lock.

    A slide is the same when its content is the same, wherever it lies, or when its path is the same, whatever the
    file holds now. Another image of the file is another slide.

    Parameters
    ----------
    run_dir
        Folder of the slide's run.
    info
        Facts about the slide.
    source
        Address that the slide was fetched from, in place of its path.
    image
        Number of the image that the command names.

    Raises
    ------
    UsageError
        When the folder belongs to another slide, or its ``slide.json`` does not say to which.
    OutputError
        When it cannot be written.
    """
    own = SlideOwner(source=source or _place_of(info.path), fingerprint=info.fingerprint, image=image)
    known = SlideOwner.find(run_dir)
    owner = None if known is None or _is_unused(run_dir) else known
    is_other = owner is not None and not owner.has(own.source, own.fingerprint)
    if owner is not None and (is_other or owner.image != image):
        which = "another slide" if is_other else f"another image of the file ({_called(owner.image)})"
        raise UsageError(
            f"{source or info.path}: {run_dir.root} holds results of {which}, {owner.source}; every slide "
            "needs a folder of its own. Name one with --name (in a manifest: id), or choose another --out."
        )
    if known != own:
        try:
            run_dir.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(run_dir.root, error) from error
        own.write(run_dir)


def _called(image: int | None) -> str:
    return "that without --image" if image is None else f"--image {image}"


def _place_of(path: str) -> str:
    """Return the absolute path without links, as text that JSON can hold."""
    return os.fsencode(os.path.realpath(path)).decode(errors="backslashreplace")


def _is_unused(run_dir: RunDir) -> bool:
    """Find out whether a folder holds neither a result nor a finished block."""
    shards = run_dir.path(Artefact.SHARDS)
    try:
        if any(name not in _TRACES for name in os.listdir(run_dir.root)):
            return False
        return not shards.is_dir() or not os.listdir(shards)
    except OSError:
        return False

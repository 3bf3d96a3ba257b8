"""The search for files and folders that are slides; a slide of many files counts once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.keys import Artefact
from wsipsm.slide.dicom import largest_of, read_dicom_head, slides_in
from wsipsm.slide.formats import READ, SLIDE_SUFFIXES

_OTHER_FILES = ".txt .md .csv .tsv .xml .json .geojson .html .pdf .xlsx .docx .zip .gz .log .ini .dat .py"
_NO_DICOM = frozenset(_OTHER_FILES.split())
"""Suffixes of files that are not opened to see whether they are DICOM, since opening all files of a share is slow."""


def is_slide_folder(folder: Path) -> bool:
    """Find out whether a folder is itself a slide: an NGFF image, or one DICOM series and nothing else."""
    if folder.suffix.lower() == ".zarr":
        return True
    files = [Path(entry.path) for entry in _entries(folder) if not entry.is_dir() and not entry.name.startswith(".")]
    if len(files) < 2 or any(_is_named_otherwise(file.name) for file in files):
        return False
    series = list(slides_in(files).values())
    return len(series) == 1 and len(series[0]) == len(files)


def find_slides(folder: Path, out_dir: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Find the slides of a folder and its subfolders, by name.

    Parameters
    ----------
    folder
        Folder that is searched.
    out_dir
        Folder of the results, without links; no file in it counts as a slide.
    above
        Folders above, without links, that are being searched now: a link back to one of them is not followed.

    Raises
    ------
    UsageError
        When a folder cannot be listed.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    entries = _entries(folder)
    files = set(_slide_files(entries))
    for entry in entries:
        path = folder / entry.name
        if entry.name in files:
            yield path
        elif not entry.name.startswith(".") and entry.is_dir() and not _holds_no_slides(path, out_dir):
            if is_slide_folder(path):
                yield path
            else:
                yield from find_slides(path, out_dir, above | {real})


def is_pattern(source: str) -> bool:
    """Find out whether a source is a pattern of paths, and not the path of something that exists."""
    return any(char in source for char in "*?[") and not os.path.lexists(source)


def match_pattern(pattern: str, out_dir: Path) -> Iterator[Path]:
    """Find the slides that match a pattern such as ``slides/**/*.svs``, by the rules of :func:`find_slides`.

    Parameters
    ----------
    pattern
        Pattern of paths. ``**`` matches any folders, also none; it does not follow links.
    out_dir
        Folder of the results, without links; no file in it counts as a slide.

    Raises
    ------
    UsageError
        When the text is not a valid pattern, or a folder that it names cannot be listed.
    """
    parts = Path(pattern).parts
    n_plain = next(n for n, part in enumerate(parts) if any(char in part for char in "*?["))
    base = Path(*parts[:n_plain])
    try:
        matches = sorted(base.glob(str(Path(*parts[n_plain:]))))
    except (ValueError, NotImplementedError, OSError) as error:
        raise UsageError(
            f"{pattern}: cannot be used as a pattern ({error}); one with * in names and ** for any folders is needed. "
            "Put it in quotes."
        ) from error
    inside: dict[Path, tuple[bool, frozenset[str]]] = {}
    for match in matches:
        folder = match.parent
        if folder not in inside:
            searched = _is_searched(folder, base, out_dir)
            inside[folder] = (searched, frozenset(_slide_files(_entries(folder))) if searched else frozenset())
        searched, files = inside[folder]
        if match.is_dir():
            if searched and not match.name.startswith(".") and not _holds_no_slides(match, out_dir):
                yield from [match] if is_slide_folder(match) else find_slides(match, out_dir)
        elif searched and match.name in files:
            yield match
        elif (
            not _is_named_otherwise(match.name)
            and _is_searched(folder.parent, base, out_dir)
            and is_slide_folder(folder)
        ):
            yield folder


def _is_searched(folder: Path, base: Path, out_dir: Path) -> bool:
    """Find out whether files in a folder below ``base`` may be slides themselves."""
    below = [folder, *folder.parents]
    below = below[: below.index(base)] if base in below else []
    return not any(
        step.name.startswith(".") or _holds_no_slides(step, out_dir) or is_slide_folder(step) for step in below
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder by name; an entry knows without a further call whether it is a folder: calls are slow on shares."""
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror}); a readable folder is needed.") from error


def _slide_files(entries: Sequence[os.DirEntry[str]]) -> Iterator[str]:
    """List the files of a folder that are slides; of a DICOM series only the largest, which holds level 0."""
    suffixes = {entry.name: os.path.splitext(entry.name)[1].lower() for entry in entries}
    # The parts of a Hamamatsu VMS slide are JPEG files beside it.
    has_parts = not {*READ["VMS"], *READ["VMU"]}.isdisjoint(suffixes.values())
    maybe_dicom: list[Path] = []
    for entry in entries:
        suffix = suffixes[entry.name]
        if entry.name.startswith(".") or entry.is_dir():
            continue
        if not _is_named_otherwise(entry.name):
            maybe_dicom.append(Path(entry.path))
        elif suffix in SLIDE_SUFFIXES and not (has_parts and suffix in READ["JPEG"]):
            yield entry.name
    yield from (largest_of(files).name for files in slides_in(maybe_dicom).values())
    yield from (file.name for file in maybe_dicom if file.suffix.lower() == ".dcm" and not _is_read_as_dicom(file))


def _is_named_otherwise(name: str) -> bool:
    """Find out whether a name rules out DICOM, which archives write under any name."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in _NO_DICOM or (suffix in SLIDE_SUFFIXES and suffix != ".dcm")


def _is_read_as_dicom(file: Path) -> bool:
    """Find out whether a file's content is DICOM; a file that is DICOM by name alone is listed, as a damaged slide."""
    try:
        return read_dicom_head(file) is not None
    except OSError:
        return False


def _holds_no_slides(folder: Path, out_dir: Path) -> bool:
    """Find out whether a folder holds no slides of its own, but the data of an MRXS or VSI slide, or results."""
    is_mrxs_data = (folder / "Slidedat.ini").is_file()
    is_vsi_data = folder.name.startswith("_") and folder.name.endswith("_")
    is_results = (folder / Artefact.CELLS.value).exists() or (folder / Artefact.SHARDS.value).is_dir()
    return is_mrxs_data or is_vsi_data or is_results or folder.resolve() == out_dir

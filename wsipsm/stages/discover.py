"""The slides of a study: from files, folders and manifests to a list without doubles."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.keys import Artefact

_READABLE = (".svs .ndpi .mrxs .scn .bif .svslide .vms .vmu .dcm .czi", ".tif .tiff .jp2 .png .jpg .jpeg .zarr")
_KNOWN_BUT_NOT_READABLE = ".vsi .isyntax .kfb .sdpc .lif"
SLIDE_SUFFIXES = frozenset(" ".join((*_READABLE, _KNOWN_BUT_NOT_READABLE)).split())
"""What counts as a slide in a folder; one that is not readable gets a row that says so."""
_MANIFEST_COLUMNS = ("slide", "id", "mpp", "model", "roi")
_LONG_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.zarr")


@dataclass(frozen=True, slots=True)
class CohortSlide:
    """One slide of a study, and what its manifest says about it."""

    path: Path
    id: str = ""
    """Names its folder and its row; given in the manifest or made from the file name."""
    mpp: float | None = None
    model: str | None = None
    roi: Path | None = None


def slide_stem(path: str | Path) -> str:
    """Name of a slide's folder: its file name without the suffix."""
    name = Path(path).name
    for suffix in _LONG_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return Path(name).stem or "slide"


def list_slides(sources: Sequence[str | Path], out_dir: Path) -> list[CohortSlide]:
    """List the slides that sources mean.

    Parameters
    ----------
    sources
        Slides, folders (searched with their subfolders) and manifests: CSV files with a column ``slide`` and, where
        wanted, ``id``, ``mpp``, ``model`` and ``roi``; paths in a manifest count from its folder.
    out_dir
        Results lie here; nothing in it is a slide.

    Returns
    -------
    In the order of the sources, folders in the order of their names; each slide once, with an id of its own.

    Raises
    ------
    UsageError
        When a manifest cannot be used, ids repeat, or no slide is found.
    """
    found: dict[tuple[Path, str], CohortSlide] = {}
    for source in sources:
        path = Path(source)
        if path.suffix.lower() == ".csv":
            members = _read_manifest(path)
        elif path.is_dir() and not _is_slide_folder(path):
            members = [CohortSlide(slide) for slide in _find_slides(path, out_dir.resolve())]
        else:
            members = [CohortSlide(path)]  # one that does not exist becomes a row that says so
        for slide in members:
            found.setdefault((slide.path.resolve(), slide.id), slide)
    if not found:
        told = ", ".join(str(source) for source in sources) or "nothing"
        raise UsageError(
            f"{told}: no slide found; slides, a folder of them, or a CSV file with a column 'slide' are needed. "
            "Check the path."
        )
    return _with_ids(list(found.values()))


def _is_slide_folder(folder: Path) -> bool:
    """Whether a folder is itself a slide: an NGFF image, or a DICOM series and nothing else."""
    if folder.suffix.lower() == ".zarr":
        return True
    files = [entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    return len(files) > 1 and all(entry.suffix.lower() == ".dcm" for entry in files)


def _find_slides(folder: Path, out_dir: Path) -> Iterator[Path]:
    """Slides of a folder and its subfolders, by name."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror}); a readable folder is needed.") from error
    # The parts of a Hamamatsu VMS slide are JPEG files beside it.
    has_parts = any(entry.suffix.lower() in (".vms", ".vmu") for entry in entries)
    for entry in entries:
        suffix = entry.suffix.lower()
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if _is_slide_folder(entry):
                yield entry
            elif not _holds_no_slides(entry, out_dir):
                yield from _find_slides(entry, out_dir)
        elif suffix in SLIDE_SUFFIXES and not (has_parts and suffix in (".jpg", ".jpeg")):
            yield entry


def _holds_no_slides(folder: Path, out_dir: Path) -> bool:
    """Whether a folder is known to hold something else: the data of an MRXS or VSI slide, or results."""
    is_mrxs_data = (folder / "Slidedat.ini").is_file()
    is_vsi_data = folder.name.startswith("_") and folder.name.endswith("_")
    is_results = (folder / Artefact.CELLS.value).exists() or (folder / Artefact.SHARDS.value).is_dir()
    return is_mrxs_data or is_vsi_data or is_results or folder.resolve() == out_dir


def _read_manifest(path: Path) -> list[CohortSlide]:
    """Slides of a manifest."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); a CSV file in UTF-8 is needed. Check the path.") from error
    lines = text.splitlines()
    # Spreadsheets of many countries separate by semicolons.
    separator = ";" if lines and ";" in lines[0] and "," not in lines[0] else ","
    reader = csv.DictReader(lines, delimiter=separator)
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
    if "slide" not in reader.fieldnames:
        raise UsageError(
            f"{path}: columns {', '.join(reader.fieldnames) or 'none'}; a column 'slide' is needed, "
            f"and may be followed by {', '.join(_MANIFEST_COLUMNS[1:])}. Name it in the first line."
        )
    slides = []
    for row in reader:
        values = {name: (row.get(name) or "").strip() for name in _MANIFEST_COLUMNS}
        if values["slide"]:
            slides.append(_manifest_slide(path, reader.line_num, values))
    return slides


def _manifest_slide(manifest: Path, line: int, values: dict[str, str]) -> CohortSlide:
    mpp = None
    if values["mpp"]:
        try:
            mpp = float(values["mpp"].replace(",", "."))
        except ValueError as error:
            raise UsageError(
                f"{manifest}, line {line}: mpp {values['mpp']!r}; a number of um/px is needed. Correct the line."
            ) from error
    return CohortSlide(
        path=manifest.parent / values["slide"],
        id=_folder_name(values["id"]),
        mpp=mpp,
        model=values["model"] or None,
        roi=manifest.parent / values["roi"] if values["roi"] else None,
    )


def _folder_name(text: str) -> str:
    """Text as a folder's name on any system."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", text).strip(". ")[:120]


def _with_ids(slides: list[CohortSlide]) -> list[CohortSlide]:
    """Give every slide an id of its own; slides of one name get a part of their path's hash."""
    given = Counter(slide.id.lower() for slide in slides if slide.id)
    twice = [name for name, n in given.items() if n > 1]
    if twice:
        raise UsageError(f"manifest: id {twice[0]!r} occurs {given[twice[0]]} times; every slide needs its own.")
    stems = [_folder_name(slide_stem(slide.path)) or "slide" for slide in slides]
    used = Counter(stem.lower() for stem, slide in zip(stems, slides, strict=True) if not slide.id)
    named = []
    for slide, stem in zip(slides, stems, strict=True):
        name = slide.id or stem
        if not slide.id and (used[stem.lower()] > 1 or stem.lower() in given):
            name = f"{stem}-{hashlib.sha256(str(slide.path.resolve()).encode()).hexdigest()[:6]}"
        named.append(CohortSlide(slide.path, name, slide.mpp, slide.model, slide.roi))
    return named

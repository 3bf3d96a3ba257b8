"""The list of a cohort's slides, each once, from files, folders, patterns, addresses and manifests."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsipsm.cohort.folders import find_slides, is_pattern, is_slide_folder, match_pattern
from wsipsm.cohort.ids import KnownSlide, SlideToName, name_slides, read_known
from wsipsm.cohort.manifest import ManifestRow, read_manifest
from wsipsm.errors import UsageError
from wsipsm.markers.registry import is_marker_name
from wsipsm.remote.address import check_url, file_of, is_url, shown_url, url_name
from wsipsm.results.folder_names import folder_name, folder_stem
from wsipsm.slide.reader import parse_number
from wsipsm.text import clean_text

_N_SHOWN = 200


@dataclass(frozen=True, slots=True)
class CohortSlide:
    """One slide of a cohort, and what its manifest says about it."""

    path: Path
    """Path of the file. For a slide with a ``url`` it is the address as it may be shown, and no file lies there."""
    id: str = ""
    """Name of its folder and of its row, from the manifest or made from the file name."""
    mpp: float | None = None
    """Level-0 pixel size in um/px; None stands for the command's, or else the file's."""
    image: int | None = None
    """Number of the image in the file, from 1; None stands for the command's."""
    model: str | None = None
    marker: str | None = None
    roi: Path | None = None
    group: str = ""
    patient: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    """Name and text of the manifest's other columns, unchanged, in its order."""
    url: str | None = None
    """Address to fetch it from; None for a slide on a disk."""
    origin: str = ""
    """Manifest and line that named the slide; empty for a slide that no manifest names."""

    @property
    def source(self) -> str:
        """Path or address as results show it: valid text without tokens or signatures."""
        return clean_text(self.path if self.url is None else shown_url(self.url))


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason why a slide of a cohort cannot be used."""

    slide_id: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cohort:
    """Slides of a cohort, each with an id of its own, and the problems found in the manifests' rows."""

    slides: tuple[CohortSlide, ...]
    problems: tuple[Problem, ...] = ()
    known_before: tuple[KnownSlide, ...] = ()
    """Slides that had an id in the cohort when it was listed."""
    known: tuple[KnownSlide, ...] = ()
    """The slides known before, and the slides of this list."""

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the manifests' further columns, which are copied to the results, in their order."""
        return tuple(dict.fromkeys(name for slide in self.slides for name, _ in slide.extra))


def list_slides(sources: Sequence[str | Path], out_dir: Path) -> list[CohortSlide]:
    """List the slides that sources name, when nothing is wrong with them.

    Parameters
    ----------
    sources, out_dir
        The same as for :func:`read_cohort`.

    Raises
    ------
    UsageError
        When :func:`read_cohort` raises it, and when anything is wrong with a row of a manifest.
    """
    cohort = read_cohort(sources, out_dir)
    if cohort.problems:
        raise refusal(cohort.problems, len(cohort.slides))
    return list(cohort.slides)


def read_cohort(
    sources: Sequence[str | Path], out_dir: Path, table_columns: Collection[str] = (), image: int | None = None
) -> Cohort:
    """List the slides that sources name, and what is wrong with the manifests' rows; no slide is opened.

    Parameters
    ----------
    sources
        Slides, folders (searched with their subfolders), patterns such as ``slides/**/*.svs``, addresses, and
        manifests: CSV files with a column ``slide`` and, where wanted, ``id``, ``mpp``, ``image``, ``model``,
        ``marker``, ``roi``, ``group``, ``patient`` and others, which are copied to the results. Relative paths in a
        manifest start at its folder.
    out_dir
        Folder of the results; no file in it counts as a slide.
    table_columns
        Names of the results' columns, which a manifest's other columns may not have.
    image
        Number of the image in the file, used where a manifest gives none. Two images of one file are two slides.

    Returns
    -------
    Slides in the order of the sources, those of a folder in the order of their names; each slide once, unless a
    manifest gives it several ids. Where a slide is named in a manifest and also found by another source, the
    manifest's row is used.

    Raises
    ------
    UsageError
        When a source cannot be read, or no slide is found.
    """
    named: list[CohortSlide] = []
    problems: dict[int, str] = {}
    for source in sources:
        named += _slides_of(str(source), out_dir.resolve(), table_columns, problems, len(named))
    if not named:
        given = ", ".join(str(source) for source in sources) or "nothing"
        raise UsageError(
            f"{given}: no slide found; slides, a folder of them, or a CSV file with a column 'slide' are needed. "
            "Check the path."
        )
    identities = _identities(named)
    kept = _without_doubles(named, identities, problems)
    faults = [problems.get(n, "") for n in kept]
    return _with_ids([named[n] for n in kept], [identities[n] for n in kept], faults, out_dir, image)


def refusal(problems: Sequence[Problem], n_slides: int) -> UsageError:
    """Make the error that names every problem of a cohort."""
    n_bad = len({problem.slide_id for problem in problems})
    lines = [f"  {problem.reason}" for problem in problems[:_N_SHOWN]]
    if len(problems) > _N_SHOWN:
        lines.append(f"  and {len(problems) - _N_SHOWN} more")
    return UsageError(
        f"{n_bad} of {n_slides} slides cannot be used; every slide must be usable before work starts. Correct what is "
        "listed below, or pass --skip-bad to go on without them.\n" + "\n".join(lines)
    )


def _slides_of(
    source: str, out_dir: Path, table_columns: Collection[str], problems: dict[int, str], n_before: int
) -> list[CohortSlide]:
    """Find the slides that one source names, and add their problems to ``problems`` by their position in the list."""
    if is_url(source):
        if url_name(source).lower().endswith(".csv"):
            raise UsageError(f"{shown_url(source)}: a manifest by address; a file is needed. Copy it to a disk.")
        check_url(source)
        return [_addressed(source)]
    path = Path(source)
    if path.suffix.lower() == ".csv" and not is_pattern(source):
        slides: list[CohortSlide] = []
        folder = path.parent
        for row in read_manifest(path, table_columns):
            slide, problem = _from_row(path, folder, row)
            if problem:
                problems[n_before + len(slides)] = problem
            slides.append(slide)
        return slides
    if is_pattern(source):
        return [CohortSlide(slide) for slide in match_pattern(source, out_dir)]
    if path.is_dir() and not is_slide_folder(path):
        return [CohortSlide(slide) for slide in find_slides(path, out_dir)]
    return [CohortSlide(path)]  # also where no such file exists: the check before work names it


def _addressed(url: str) -> CohortSlide:
    local = file_of(url)
    return CohortSlide(Path(shown_url(url)), url=url) if local is None else CohortSlide(local)


def _from_row(manifest: Path, folder: Path, row: ManifestRow) -> tuple[CohortSlide, str]:
    """Make the slide of a manifest's row, and say what is wrong with it; relative paths start at ``folder``."""
    origin = f"{manifest}, line {row.line}"
    problems = []
    path, url = None, None
    if is_url(row.slide):
        try:
            check_url(row.slide)
        except UsageError as error:
            problems.append(str(error))
        found = _addressed(row.slide)
        path, url = found.path, found.url
    mpp = parse_number(row.mpp) if row.mpp and re.fullmatch(r"[-+0-9.,eE]+", row.mpp) else None
    if row.mpp and mpp is None:
        problems.append(f"mpp {row.mpp[:40]!r}; a number of um/px is needed. Correct the line.")
    image = int(row.image) if re.fullmatch(r"0*[1-9][0-9]{0,5}", row.image, re.ASCII) else None
    if row.image and image is None:
        problems.append(f"image {row.image[:40]!r}; the number of an image in the file, from 1, is needed.")
    marker = row.marker or None
    if marker is not None and not is_marker_name(marker):
        problems.append(f"marker {marker[:40]!r}; up to 24 letters, digits, blanks and signs such as - are needed.")
        marker = None
    is_weights = row.model.lower().endswith(".safetensors")
    slide = CohortSlide(
        path=folder / row.slide if path is None else path,
        id=folder_name(row.id),
        mpp=mpp,
        image=image,
        model=str(folder / row.model) if is_weights else row.model or None,
        marker=marker,
        roi=folder / row.roi if row.roi else None,
        group=row.group,
        patient=row.patient,
        extra=row.extra,
        url=url,
        origin=origin,
    )
    return slide, f"{origin}: {' Also, '.join(problems)}" if problems else ""


def _identities(slides: Sequence[CohortSlide]) -> list[str]:
    """Return the address, or the path without links, of every slide; the links of a folder are resolved once."""
    folders: dict[str, str] = {}
    found = []
    for slide in slides:
        if slide.url is not None:
            found.append(slide.url)
            continue
        folder, name = os.path.split(slide.path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        path = os.path.join(folders[folder], name)
        found.append(os.path.realpath(path) if name in ("", "..") or os.path.islink(path) else path)
    return found


def _without_doubles(slides: Sequence[CohortSlide], identities: Sequence[str], problems: dict[int, str]) -> list[int]:
    """Return the positions of the slides that stay when repeated files and repeated rows are left out."""
    in_manifest = {identity for slide, identity in zip(slides, identities, strict=True) if slide.origin}
    seen: set[tuple[object, ...]] = set()
    first: dict[tuple[str, int | None], int] = {}
    kept = []
    for n, (slide, identity) in enumerate(zip(slides, identities, strict=True)):
        if not slide.origin and identity in in_manifest:
            continue
        roi = None if slide.roi is None else str(slide.roi)
        own = (slide.id, slide.mpp, slide.image, slide.model, slide.marker, roi)
        row = (identity, *own, slide.group, slide.patient, slide.extra)
        if row in seen:
            continue
        seen.add(row)
        kept.append(n)
        other = n if slide.id else first.setdefault((identity, slide.image), n)
        if other != n:
            contradiction = f"{slides[other].origin} and {slide.origin} contradict each other about {slide.source}"
            for place in (other, n):
                problems.setdefault(place, f"{contradiction}; an id of its own for each is needed. Correct the lines.")
    return kept


def _with_ids(
    slides: Sequence[CohortSlide],
    identities: Sequence[str],
    faults: Sequence[str],
    out_dir: Path,
    default_image: int | None,
) -> Cohort:
    """Give every slide an id of its own; those that had one in the cohort keep it."""
    images = [default_image if slide.image is None else slide.image for slide in slides]
    wanted = [
        SlideToName(
            given=slide.id,
            stem=folder_name(folder_stem(slide.path, image)) or "slide",
            image=image,
            path=slide.path,
            url=slide.url,
            identity=identity,
            origin=slide.origin,
            fault=fault,
        )
        for slide, image, identity, fault in zip(slides, images, identities, faults, strict=True)
    ]
    before = read_known(out_dir)
    found = name_slides(wanted, before, out_dir)
    named = tuple(replace(slide, id=name) for slide, name in zip(slides, found.ids, strict=True))
    problems = (
        Problem(slide.id, slide.source, fault) for slide, fault in zip(named, found.faults, strict=True) if fault
    )
    return Cohort(named, tuple(problems), before, found.known)

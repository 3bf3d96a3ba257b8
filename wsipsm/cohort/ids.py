"""The ids of a cohort's slides: an id stays with its slide, whatever is added, removed, renamed or reordered.

Ids are stored in the cohort's folder. A slide is recognised by its path or address, called its place, or, when it was
moved or renamed, by its bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from wsipsm.errors import SlideOpenError, UsageError
from wsipsm.remote.address import is_url, shown_url
from wsipsm.results.slide_folder import SlideOwner
from wsipsm.rundir import RunDir, write_aside
from wsipsm.slide.dicom import read_dicom_head
from wsipsm.slide.fingerprint import fingerprint_slide

IDS_NAME = "cohort.ids.json"
_DIGEST_CHARS = (6, 16, 64)
_COMPARED_BYTES = 256 << 20
"""Size up to which the bytes of a moved slide are read and compared.

Larger slides of one name and size count as the same, so that a moved cohort begins at once. Where they are not the
same, the folder of results refuses the other one.
"""


@dataclass(frozen=True, slots=True)
class KnownSlide:
    """A slide that has an id in a cohort."""

    id: str
    place: str
    """Path without links; folder and series of a DICOM slide; address without its secrets, and a hash of all of it."""
    n_bytes: int | None
    """Size of its file in bytes; None for a folder and an address."""
    image: int | None = None
    """Number of the image that a command or manifest named; another image of the file is another slide."""

    @property
    def where(self) -> tuple[str, int | None]:
        """Place of the slide, and the number of the image there."""
        return self.place, self.image


@dataclass(frozen=True, slots=True)
class SlideToName:
    """A slide of the command's list, which needs an id."""

    given: str
    """Id that a manifest gives it, or empty."""
    stem: str
    """Id made from the name of its file and the number of its image."""
    image: int | None
    """Number of the image that the command or manifest names."""
    path: Path
    url: str | None
    identity: str
    """Address, or path without links."""
    origin: str
    """Manifest and line that named it, or empty."""
    fault: str
    """Description of what is wrong with its row, or empty."""


@dataclass(frozen=True, slots=True)
class NamedSlides:
    """Ids of the slides of a list, in its order."""

    ids: tuple[str, ...]
    faults: tuple[str, ...]
    """Description of what is wrong with each slide, or empty."""
    known: tuple[KnownSlide, ...]
    """Every slide that ever had an id in the cohort, to be stored."""


def name_slides(slides: Sequence[SlideToName], known: Sequence[KnownSlide], out_dir: Path) -> NamedSlides:
    """Give every slide an id of its own: the one it has, the one a manifest gives it, or one made from its name.

    Parameters
    ----------
    slides
        Slides of the command's list.
    known
        Slides that have an id already; their ids are never given to another slide.
    out_dir
        Folder of the cohort, which holds the results of known slides.
    """
    here = [_here(slide) for slide in slides]
    kept = _ids_they_have(slides, here, known, out_dir)
    names = _Names(slides, here, kept, known)
    ids = [names.give(n) for n in range(len(slides))]
    own = {
        name.casefold(): replace(found, id=name)
        for name, found, fault in zip(ids, here, names.faults, strict=True)
        if not fault
    }
    merged = {folded: one for one in known if (folded := one.id.casefold()) not in own} | own
    return NamedSlides(tuple(ids), tuple(names.faults), tuple(merged.values()))


class _Names:
    """The giving of ids to slides in the order of the list; ids in use are recorded."""

    def __init__(
        self,
        slides: Sequence[SlideToName],
        here: Sequence[KnownSlide],
        kept: Sequence[str],
        known: Sequence[KnownSlide],
    ) -> None:
        self._slides, self._here, self._kept = slides, here, kept
        self.faults = [slide.fault for slide in slides]
        self._given = Counter(slide.given.casefold() for slide in slides if slide.given)
        new = (slide.stem for slide, name in zip(slides, kept, strict=True) if not slide.given and not name)
        self._stems = Counter(stem.casefold() for stem in new)
        self._kept_by = {name.casefold(): n for n, name in enumerate(kept) if name}
        self._reserved = {one.id.casefold() for one in known}
        self._taken = set(self._kept_by)

    def give(self, number: int) -> str:
        """Give a slide its id, and say in ``faults`` what is wrong with it."""
        slide = self._slides[number]
        if self._kept[number]:
            return self._kept[number]
        if slide.given:
            self._check_given(number)
        name = slide.given or slide.stem
        folded = name.casefold()
        is_shared = self._given[folded] > (1 if slide.given else 0)
        if not slide.given:
            is_shared = is_shared or self._stems[folded] > 1 or folded in self._reserved
        if is_shared or folded in self._taken:
            name = self._hashed(name, number)
        self._taken.add(name.casefold())
        return name

    def _check_given(self, number: int) -> None:
        slide, folded = self._slides[number], self._slides[number].given.casefold()
        fault = ""
        if self._given[folded] > 1:
            fault = f"id {slide.given!r} occurs {self._given[folded]} times; every slide needs its own."
        elif (other := self._kept_by.get(folded)) is not None:
            place = self._here[other].place
            fault = f"id {slide.given!r} is that of {place} in this cohort; an id stays with its slide. Choose another."
        if fault:
            before = self.faults[number]
            self.faults[number] = f"{before} Also, {slide.origin}: {fault}" if before else f"{slide.origin}: {fault}"

    def _hashed(self, name: str, number: int) -> str:
        slide = self._slides[number]
        # A faulty row may name the same slide as another row, so the slide alone would give both the same hash.
        identity = f"{slide.identity} {slide.origin}" if self.faults[number] else slide.identity
        digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()
        blocked = self._taken | self._reserved
        return next(new for k in _DIGEST_CHARS if (new := f"{name}-{digest[:k]}").casefold() not in blocked)


def _ids_they_have(
    slides: Sequence[SlideToName], here: Sequence[KnownSlide], known: Sequence[KnownSlide], out_dir: Path
) -> list[str]:
    """Look up the earlier ids of slides to which no manifest gives one; a new slide gets an empty text."""
    by_place: dict[tuple[str, int | None], list[KnownSlide]] = {}
    for one in known:
        by_place.setdefault(one.where, []).append(one)
    given = {(found.where, slide.given.casefold()) for slide, found in zip(slides, here, strict=True) if slide.given}
    used: set[str] = set()
    kept = [""] * len(slides)
    for n, (slide, found) in enumerate(zip(slides, here, strict=True)):
        if slide.given or slide.fault:
            continue
        own = [one for one in by_place.get(found.where, ()) if not _is_used(one, given, used)]
        if own:  # of several ids, the slide keeps the one that it was given last
            kept[n] = own[-1].id
            used.add(own[-1].id.casefold())
    used.update(name for _, name in given)
    places = {found.where for found in here}
    missing: dict[object, list[KnownSlide]] = {}
    for one in known:
        if one.where not in places and one.id.casefold() not in used:
            missing.setdefault(_likeness(one), []).append(one)
    for n, (slide, found) in enumerate(zip(slides, here, strict=True)):
        alike = missing.get(_likeness(found), [])
        if alike and not kept[n] and not slide.given and not slide.fault:
            closest = sorted(alike, key=lambda one: -_n_common_parts(one.place, found.place))
            moved = next((one for one in closest if _is_moved(slide, found, one, out_dir)), None)
            if moved is not None:
                alike.remove(moved)
                kept[n] = moved.id
    return kept


def _is_used(one: KnownSlide, given: set[tuple[tuple[str, int | None], str]], used: set[str]) -> bool:
    return one.id.casefold() in used or (one.where, one.id.casefold()) in given


def _likeness(one: KnownSlide) -> object:
    """Return what a move leaves unchanged: a file's size, a folder's name, an address without its secrets."""
    if is_url(one.place):
        return one.place.rpartition("#")[0], one.image
    return one.n_bytes or _name_at(one.place), one.image


def _name_at(place: str) -> str:
    return os.path.basename(place).casefold()


def _n_common_parts(one: str, other: str) -> int:
    """Count how many last parts two paths have in common."""
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _is_moved(slide: SlideToName, found: KnownSlide, known: KnownSlide, out_dir: Path) -> bool:
    """Find out whether a slide at a new place is a known one that has vanished from its old place."""
    if slide.url is not None:
        return True  # only the signature differs
    if not _is_gone(known.place, slide.path):
        return False
    is_named_alike = _name_at(found.place) == _name_at(known.place)
    if is_named_alike and found.n_bytes is not None and found.n_bytes > _COMPARED_BYTES:
        return True
    try:
        before = SlideOwner.find(RunDir(out_dir / known.id))
        return is_named_alike if before is None else fingerprint_slide(slide.path) == before.fingerprint
    except UsageError:
        return is_named_alike  # claim_slide_folder reports later what is wrong with the folder's slide.json
    except SlideOpenError:
        return False


def _is_gone(place: str, now: Path) -> bool:
    """Find out whether a place is empty now, or holds the same file under another spelling of its path."""
    try:
        file_place = place if os.path.lexists(place) else place.rpartition("#")[0] or place
        return not os.path.lexists(file_place) or os.path.samefile(file_place, now)
    except (OSError, ValueError):
        return False


def _here(slide: SlideToName) -> KnownSlide:
    if slide.url is not None:
        place = f"{shown_url(slide.url)}#{hashlib.sha256(slide.url.encode()).hexdigest()[:16]}"
        return KnownSlide("", place, None, slide.image)
    try:
        n_bytes = slide.path.stat().st_size if slide.path.is_file() else None
    except (OSError, ValueError):
        n_bytes = None
    return KnownSlide("", place_of(slide.path, slide.identity), n_bytes, slide.image)


def place_of(path: Path, identity: str) -> str:
    """Return the place of a slide; for DICOM it is folder and series, so that any file of the series gives the same.

    Parameters
    ----------
    path
        A file, or a folder that is one slide.
    identity
        Path of the slide without links.
    """
    try:
        file = path
        if path.is_dir() and path.suffix.lower() != ".zarr":
            file = next((one for one in sorted(path.iterdir()) if read_dicom_head(one)), path)
        head = read_dicom_head(file)
    except (OSError, ValueError):
        return identity
    if head is None or not head.series:
        return identity
    folder = identity if file != path else os.path.dirname(identity)
    return f"{folder}#{head.series.decode('ascii', errors='backslashreplace')}"


def read_known(folder: Path) -> tuple[KnownSlide, ...]:
    """Read the ids that a cohort has given; a new cohort has none.

    Raises
    ------
    UsageError
        When the folder holds ids that cannot be read.
    """
    path = folder / IDS_NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            KnownSlide(str(one["id"]), str(one["place"]), one["n_bytes"], one.get("image")) for one in values["slides"]
        )
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: cannot be read ({error}); it keeps the ids of the cohort's slides. Restore it, or remove it: "
            "then slides of one file name may get other ids."
        ) from error


def keep_known(folder: Path, known: Iterable[KnownSlide]) -> None:
    """Write the ids of a cohort.

    Raises
    ------
    OutputError
        When they cannot be written.
    """
    # JSON in ASCII, since a path may hold bytes that are no valid text.
    text = json.dumps({"slides": [asdict(one) for one in known]}, indent=1)
    with write_aside(folder / IDS_NAME) as temporary:
        temporary.write_text(text + "\n", encoding="ascii")

"""Reading of regions that a person drew: from a GeoJSON file to the area whose nuclei count."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsipsm.errors import RoiError
from wsipsm.keys import QuPathFrame
from wsipsm.region.annotations import Drawn, Kind, read_drawn
from wsipsm.region.base import DrawnPart, PolygonRegion, Region, Use
from wsipsm.region.document import read_documents
from wsipsm.region.outline import read_outlines
from wsipsm.region.pieces import clip, share_outside
from wsipsm.region.place import frame_of_document, note_on_place, place_shapes
from wsipsm.region.roles import RoiRules, choose_uses
from wsipsm.region.union import cut_out, merge
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.text import clean_text

_MAX_PARTS = 50
"""Most annotations that are listed one by one; where there are more, they are listed by class."""
_MAX_NAMES = 3
"""Most annotations whose names make the name of a region."""
_ORDER = (Use.COUNTED, Use.CUT_OUT, Use.UNUSED)


def read_roi(
    path: str | Path,
    slide_info: SlideInfo,
    rules: RoiRules | None = None,
    within: Region | None = None,
    qupath_frame: QuPathFrame = QuPathFrame.CROPPED,
) -> PolygonRegion:
    """Read a region of interest from GeoJSON as QuPath writes it.

    Parameters
    ----------
    path
        ``.geojson`` or ``.json``, plain or ``.gz``, or a ``.zip`` of such: a FeatureCollection, a Feature, an
        array of either, or a bare geometry. Detections, points and lines are left out, with a note.
    slide_info
        Facts about the slide that the region was drawn on.
    rules
        Rules that say which annotations count; None: those of `RoiRules()`.
    within
        Region from which the annotations are cut out where none of them counts; None: the whole slide.
    qupath_frame
        Frame that QuPath showed when the region was drawn. A file written by wsipsm states its frame, which is used
        instead.

    Returns
    -------
    The union of the annotations that count, without those that are cut out, clipped to the slide; ``parts`` and
    ``notes`` give the use of each annotation. Where none counts, the ground is that of ``within`` without them.

    Raises
    ------
    RoiError
        When the file cannot be read, is no GeoJSON, has an invalid polygon, does not make clear what counts, leaves no
        area on the slide, or lies mostly in the empty part of the slide's canvas.

    Examples
    --------
    >>> from wsipsm import open_slide
    >>> with open_slide("case.tif") as slide:
    ...     region = read_roi("tumour.geojson", slide.info)
    >>> region.name, region.shape.area
    ('Tumor', 90000.0)
    """
    path, rules = Path(path), rules or RoiRules()
    label = clean_text(path)
    left_out: Counter[str] = Counter()
    frame = SlideFrame.of(slide_info, qupath_frame)
    with _paused_collection():
        drawn, shapes, stated = _read_areas(path, rules, left_out)
    shapes = place_shapes(shapes, stated, frame)
    notes = [f"{label}: left out: {_list_counts(left_out)}; annotations with an area count."] if left_out else []
    uses = choose_uses(drawn, rules, label)
    if not drawn:
        said = f" {notes[0]}" if notes else ""
        raise RoiError(
            f"{label}: no annotation with an area in it; at least one polygon annotation is needed. Draw one in "
            f"QuPath, export it as GeoJSON, and pass that with --roi.{said}"
        )
    rows = _rows(drawn, shapes, uses)
    as_drawn = {use: np.array([row.shape for row in rows if row.use == use], dtype=np.object_) for use in _ORDER}
    is_any_counted = Use.COUNTED in uses
    used = Use.COUNTED if is_any_counted else Use.CUT_OUT
    named_frames = [named for named, use in zip(stated, uses, strict=True) if use == used]
    place_note = note_on_place(as_drawn[used], named_frames, frame, within, label)
    notes += [place_note] if place_note else []
    if is_any_counted:
        whole, ground = merge(as_drawn[Use.COUNTED]), None
        name = _name([one for one, use in zip(drawn, uses, strict=True) if use == Use.COUNTED])
    else:
        whole, ground, name = _uncut_region(drawn, frame, within)
    cutters = as_drawn[Use.CUT_OUT]
    shape = _clip(cut_out(whole, cutters), whole, frame, slide_info.path, label, notes)
    parts = _on_slide(rows, cutters, frame, shape)
    ground = None if ground is None else clip(cut_out(ground, cutters), frame.outline)
    if not is_any_counted:
        parts = (DrawnPart(within.name if within is not None else "slide", "", Use.COUNTED, shape, ground), *parts)
    notes += _notes_on_uses(parts, shape, label)
    return PolygonRegion(shape, name, tuple(notes), parts, ground)


def _read_areas(
    path: Path, rules: RoiRules, left_out: Counter[str]
) -> tuple[list[Drawn], NDArray[np.object_], list[QuPathFrame | None]]:
    """Read the annotations with an area, their shapes as drawn, and the frame that the file of each states."""
    drawn: list[Drawn] = []
    stated: list[QuPathFrame | None] = []
    n_cores = 0
    for label, document in read_documents(path):
        found = list(read_drawn(document, label, left_out))
        kept = [one for one in found if rules.tma_cores or one.kind != Kind.TMA_CORE]
        n_cores += len(found) - len(kept)
        drawn += kept
        stated += [frame_of_document(document)] * len(kept)
    if n_cores:
        left_out["TMA core{s} (--tma-cores takes them)"] += n_cores
    shapes = read_outlines([one.geometry for one in drawn], [one.label for one in drawn])
    is_empty = shapely.is_empty(shapes)
    if is_empty.any():
        left_out["polygon{s} without area"] += int(is_empty.sum())
    rows = np.flatnonzero(~is_empty)
    return [replace(drawn[row], geometry={}) for row in rows], shapes[rows], [stated[row] for row in rows]


@contextmanager
def _paused_collection() -> Iterator[None]:
    """Pause the garbage collector: it would walk over millions of coordinates many times and find nothing to free."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _uncut_region(
    drawn: Sequence[Drawn], frame: SlideFrame, within: Region | None
) -> tuple[shapely.Polygon | shapely.MultiPolygon, shapely.Polygon | shapely.MultiPolygon | None, str]:
    """Return the region from which annotations are cut where none counts, its ground, and the name of the rest."""
    less = ", ".join(dict.fromkeys(one.classification or one.name for one in drawn))
    name = clean_text(f"{within.name if within is not None else 'slide'} without {less}", 200)
    if within is None:
        return frame.outline, None, name
    return within.to_polygons(), within.to_ground(), name


def _clip(
    shape: BaseGeometry,
    whole: BaseGeometry,
    frame: SlideFrame,
    slide: str,
    label: str,
    notes: list[str],
) -> shapely.Polygon | shapely.MultiPolygon:
    """Clip a region to the slide, with a note where a part of it lies outside."""
    if shape.area == 0:
        raise RoiError(
            f"{label}: the excluded areas cover all others; some area must remain. Correct the annotations, or choose "
            "what is cut out with --exclude-class."
        )
    on_slide = clip(shape, frame.outline)
    if on_slide.is_empty:
        left, top, right, bottom = whole.bounds
        raise RoiError(
            f"{label}: the region spans x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}; the slide spans "
            f"0 to {frame.canvas.width}, 0 to {frame.canvas.height}. Pass the --roi that was drawn on {slide}, in "
            "pixels of its full resolution."
        )
    if on_slide.area < 0.999 * shape.area:
        notes.append(f"{label}: {1 - on_slide.area / shape.area:.0%} of the region lies outside the slide: cut off.")
    return on_slide


def _rows(drawn: Sequence[Drawn], shapes: NDArray[np.object_], uses: Sequence[Use]) -> list[DrawnPart]:
    """Make the rows of the table of annotations as drawn: one for each, or one for each class where there are many."""
    rows = []
    for members in _groups(drawn, uses):
        first = members[0]
        name = drawn[first].name if len(members) == 1 else f"{len(members):,} annotations"
        classes = {drawn[number].classification for number in members}
        classification = classes.pop() if len(classes) == 1 else f"{len(classes):,} classes"
        shape = shapes[first] if len(members) == 1 else merge(shapes[members])
        rows.append(DrawnPart(name, classification, uses[first], shape))
    return rows


def _on_slide(
    rows: Sequence[DrawnPart],
    cutters: NDArray[np.object_],
    frame: SlideFrame,
    region: shapely.Polygon | shapely.MultiPolygon,
) -> tuple[DrawnPart, ...]:
    """Clip the shapes of the rows to the slide and, where a row counts, cut the exclusions out of it."""
    is_one = sum(row.use == Use.COUNTED for row in rows) == 1
    found = []
    for row in rows:
        shape = region
        if row.use != Use.COUNTED or not is_one:
            shape = clip(cut_out(row.shape, cutters) if row.use == Use.COUNTED else row.shape, frame.outline)
        found.append(replace(row, shape=shape))
    return tuple(found)


def _groups(drawn: Sequence[Drawn], uses: Sequence[Use]) -> list[list[int]]:
    """Group the indices of the annotations by row of the table, those that count first; none is left out."""
    by_class: dict[object, list[int]] = {}
    for number in sorted(range(len(drawn)), key=lambda number: _ORDER.index(uses[number])):
        key = (drawn[number].classification, uses[number]) if len(drawn) > _MAX_PARTS else number
        by_class.setdefault(key, []).append(number)
    groups = list(by_class.values())
    if len(groups) <= _MAX_PARTS:
        return groups
    # A generated file may have a class for each annotation; those beyond the first groups are grouped by use.
    rest = [number for group in groups[_MAX_PARTS:] for number in group]
    by_use = [[number for number in rest if uses[number] == use] for use in _ORDER]
    return [*groups[:_MAX_PARTS], *filter(None, by_use)]


def _notes_on_uses(parts: Sequence[DrawnPart], region: BaseGeometry, label: str) -> list[str]:
    """Describe the unused annotations whose nuclei count all the same, because they overlap the region."""
    notes = []
    for part in parts:
        if part.use != Use.UNUSED or part.shape.is_empty:
            continue
        overlap = 1 - share_outside(part.shape, region)
        if overlap > 0.001:
            called = part.classification or part.annotation
            option = f'; --exclude-class "{called}" cuts it out' if called else ""
            notes.append(
                f"{label}: '{called or 'an annotation without a class'}' is unused; {overlap:.0%} of "
                f"it lies in the region and is counted{option}."
            )
    return notes


def _name(counted: Sequence[Drawn]) -> str:
    """Make the name of a region from the names or classes of its annotations."""
    names = list(dict.fromkeys(one.name or one.classification for one in counted if one.name or one.classification))
    if not names:
        return "ROI"
    shown, more = names[:_MAX_NAMES], len(names) - _MAX_NAMES
    listed = ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
    unnamed = sum(not (one.name or one.classification) for one in counted)
    return f"{listed} and {unnamed:,} without a name" if unnamed else listed


def _list_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {what.replace('{s}', '' if n == 1 else 's')}" for what, n in counts.most_common(12))

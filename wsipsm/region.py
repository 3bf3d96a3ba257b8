"""Where nuclei count: the region protocol, and regions that a person drew in QuPath.

Rules for QuPath's GeoJSON: objects of type annotation (or none) with an area are regions; where some are named or
classed tumour, only those are; those of a class ``Ignore*`` or ``Exclude`` are cut out; coordinates count from the
corner of the non-empty part of the slide where the file states one (``SlideInfo.bounds``).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.validation import explain_validity

from wsipsm.errors import RoiError
from wsipsm.geometry import Box
from wsipsm.slide.base import SlideInfo

MAX_ROI_BYTES = 200 * 1024 * 1024
"""Of JSON, after decompression. QuPath writes some 200 bytes a vertex at most: a million vertices fit."""

_AREA_OBJECTS = ("annotation", "unknown", "root")
_MAX_NESTING = 8
_MAX_NOTES = 8


class Region(Protocol):
    """Part of a slide whose nuclei are kept; tissue and drawn regions are both one."""

    @property
    def name(self) -> str:
        """How results call it."""
        ...

    def touches(self, box_px0: Box) -> bool:
        """Whether a level-0 box has a point in common with it."""
        ...

    def contains(self, xy_px0: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether level-0 points, shape (n, 2), lie in it; shape (n,)."""
        ...

    def area_px0(self) -> float:
        """Area in level-0 pixels."""
        ...

    def areas_in(self, boxes_px0: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area of it in each level-0 box, shape (m, 4) of left, top, right, bottom; shape (m,), level-0 pixels."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``: kind, area, number of parts, hash."""
        ...


class PolygonRegion:
    """A region bounded by polygons, in level-0 pixels. A :class:`Region`.

    Parameters
    ----------
    shape
        Polygon or MultiPolygon, valid, not empty.
    name
        How results call it.
    notes
        What was left out of the file it came from.
    """

    def __init__(self, shape: Polygon | MultiPolygon, name: str, notes: tuple[str, ...] = ()) -> None:
        self.shape = shape
        self.name = name
        self.notes = notes
        shapely.prepare(self.shape)

    def touches(self, box_px0: Box) -> bool:
        """Whether a level-0 box has a point in common with the region; an empty box has none."""
        if box_px0.area == 0:
            return False
        return bool(self.shape.intersects(shapely.box(box_px0.x, box_px0.y, box_px0.right, box_px0.bottom)))

    def contains(self, xy_px0: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points lie inside; points on an edge do not.

        Parameters
        ----------
        xy_px0
            Level-0 pixels, shape (n, 2), float64.
        """
        return np.asarray(shapely.contains_xy(self.shape, xy_px0[:, 0], xy_px0[:, 1]), dtype=np.bool_)

    def area_px0(self) -> float:
        """Area in level-0 pixels, holes taken off."""
        return float(self.shape.area)

    def areas_in(self, boxes_px0: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area of the region in each box.

        Parameters
        ----------
        boxes_px0
            Left, top, right, bottom, level-0 pixels, shape (m, 4).

        Returns
        -------
        Level-0 pixels, shape (m,).
        """
        left, top, right, bottom = np.asarray(boxes_px0, dtype=np.float64).reshape(-1, 4).T
        boxes = np.atleast_1d(shapely.box(left, top, right, bottom))
        areas = np.where(shapely.intersects(self.shape, boxes), shapely.area(boxes), 0.0)
        cut = np.flatnonzero((areas > 0) & ~shapely.contains(self.shape, boxes))
        areas[cut] = shapely.area(shapely.intersection(self.shape, boxes[cut]))
        return np.asarray(areas, dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``; ``hash`` names the outline whatever its vertex order."""
        outline = shapely.to_wkb(shapely.normalize(self.shape), byte_order=1)
        return {
            "kind": "polygon",
            "name": self.name,
            "area_px0": self.area_px0(),
            "n_parts": int(shapely.get_num_geometries(self.shape)),
            "bounds_px0": [float(value) for value in self.shape.bounds],
            "notes": list(self.notes),
            "hash": hashlib.sha256(outline).hexdigest()[:16],
        }


@dataclass(frozen=True, slots=True)
class _Annotation:
    shape: Polygon | MultiPolygon
    name: str | None
    excluded: bool
    is_tumour: bool


def read_roi(path: str | Path, slide_info: SlideInfo) -> PolygonRegion:
    """Read a region of interest from GeoJSON as QuPath writes it.

    Parameters
    ----------
    path
        ``.geojson`` or ``.json``, plain or ``.gz``, or a ``.zip`` of such: a FeatureCollection, a Feature, an
        array of either, or a bare geometry. Detections, points and lines are left out, with a note.
    slide_info
        Of the slide that it was drawn on: its ``bounds`` are added to the coordinates, as QuPath took them off.

    Returns
    -------
    The union of all regions, or of those named or classed tumour where there are some, less the excluded ones,
    clipped to the slide.

    Raises
    ------
    RoiError
        When the file cannot be read, is no GeoJSON, has an invalid polygon, or leaves no area on the slide.
    """
    path = Path(path)
    notes: list[str] = []
    annotations: list[_Annotation] = []
    for label, content in _read_documents(path):
        number = 0
        for number, feature in enumerate(_features(_parse(content, label), label), start=1):
            annotation = _read_feature(feature, f"{label}, feature {number}", notes)
            if annotation is not None:
                annotations.append(annotation)
        if number == 0:
            notes.append(f"{label}: no feature in it.")
    if len(notes) > _MAX_NOTES:
        notes[_MAX_NOTES:] = [f"{path}: {len(notes) - _MAX_NOTES} more were left out."]
    return _to_region(path, annotations, slide_info, notes)


def _to_region(path: Path, annotations: list[_Annotation], slide_info: SlideInfo, notes: list[str]) -> PolygonRegion:
    included = [annotation for annotation in annotations if not annotation.excluded]
    tumour = [annotation for annotation in included if annotation.is_tumour]
    if tumour and len(tumour) < len(included):
        n_other = len(included) - len(tumour)
        notes.append(f"{path}: {len(tumour)} annotations are tumour by name or class; {n_other} others do not count.")
    included = tumour or included
    if not included:
        left_out = f" Left out: {' '.join(notes)}" if notes else ""
        raise RoiError(
            f"{path}: {len(annotations)} excluding and no including areas; at least one polygon annotation is needed. "
            f"Draw one in QuPath, export it as GeoJSON, and pass that with --roi.{left_out}"
        )
    shape = shapely.union_all([annotation.shape for annotation in included])
    excluded = [annotation.shape for annotation in annotations if annotation.excluded]
    if excluded:
        shape = shape.difference(shapely.union_all(excluded))
    if slide_info.bounds is not None:
        offset = np.array([slide_info.bounds.x, slide_info.bounds.y], dtype=np.float64)
        shape = shapely.transform(shape, lambda xy: xy + offset)
    if shape.is_empty:
        raise RoiError(f"{path}: the excluded areas cover all others; some area must remain. Correct the annotations.")
    drawn = shape
    shape = _areas(drawn.intersection(shapely.box(0, 0, slide_info.size.width, slide_info.size.height)))
    if shape.is_empty:
        left, top, right, bottom = drawn.bounds
        raise RoiError(
            f"{path}: the region spans x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}; the slide spans "
            f"0 to {slide_info.size.width}, 0 to {slide_info.size.height}. Pass the --roi that was drawn on "
            f"{slide_info.path}, in pixels of its full resolution."
        )
    if shape.area < 0.999 * drawn.area:
        notes.append(f"{path}: {1 - shape.area / drawn.area:.0%} of the region lies outside the slide and was cut off.")
    names = list(dict.fromkeys(annotation.name for annotation in included if annotation.name))
    return PolygonRegion(shape, ", ".join(names) or "ROI", tuple(notes))


def _read_documents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every GeoJSON document in a file; nothing larger than ``MAX_ROI_BYTES`` is held."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    inner = suffixes[-2] if len(suffixes) > 1 else ""
    try:
        if last == ".zip":
            yield from _read_zip(path)
        elif last == ".gz" and inner in {".geojson", ".json"}:
            with gzip.open(path) as stream:
                yield str(path), _read_bounded(stream, str(path), MAX_ROI_BYTES)
        elif last in {".geojson", ".json"}:
            with path.open("rb") as stream:
                yield str(path), _read_bounded(stream, str(path), MAX_ROI_BYTES)
        else:
            raise RoiError(
                f"{path}: a file of type {last or 'none'!s}; .geojson, .json, either with .gz, or .zip is needed. "
                "Export the annotations from QuPath as GeoJSON and pass that with --roi."
            )
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise RoiError(f"{path}: cannot be read ({error}); a readable file is needed. Check --roi.") from error


def _read_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    left = MAX_ROI_BYTES
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith((".geojson", ".json"))]
        if not entries:
            raise RoiError(f"{path}: no .geojson or .json entry in it; one at least is needed. Check --roi.")
        for entry in entries:
            label = f"{path}, entry {entry.filename}"
            with archive.open(entry) as stream:
                content = _read_bounded(stream, label, left)
            left -= len(content)
            yield label, content


def _read_bounded(stream: IO[bytes] | io.BufferedIOBase, label: str, limit: int) -> bytes:
    """Read to the end, but never more than the limit: a small archive can hold gigabytes."""
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise RoiError(
            f"{label}: more than {MAX_ROI_BYTES // 2**20} MiB of GeoJSON; a region of interest is far smaller. "
            "Export the annotations only, without detections."
        )
    return content


def _parse(content: bytes, label: str) -> Any:
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        strict = error
    try:
        # QuPath up to 0.4 writes measurements that are no number as a bare NaN, which JSON does not know.
        return json.loads(content.decode())
    except (ValueError, RecursionError):
        raise RoiError(
            f"{label}: no valid JSON ({strict}); GeoJSON as QuPath exports it is needed. Check --roi."
        ) from strict


def _features(document: Any, label: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Features of a document, however they are wrapped; a bare geometry becomes a feature."""
    if depth > _MAX_NESTING:
        raise RoiError(f"{label}: collections nested {depth} deep; a FeatureCollection is needed. Check --roi.")
    if isinstance(document, list):
        for member in document:
            yield from _features(member, label, depth + 1)
        return
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        members = document.get("features")
        if not isinstance(members, list):
            raise RoiError(f"{label}: a FeatureCollection without a list of features. Export the annotations again.")
        yield from _features(members, label, depth + 1)
    elif kind == "Feature":
        yield document
    elif isinstance(kind, str) and ("coordinates" in document or "geometries" in document):
        yield {"type": "Feature", "geometry": document, "properties": {}}
    else:
        found = f"an object of type {kind!r}" if isinstance(document, dict) else f"a {type(document).__name__}"
        raise RoiError(f"{label}: {found} where a GeoJSON Feature is needed. Export the annotations again.")


def _read_feature(feature: dict[str, Any], label: str, notes: list[str]) -> _Annotation | None:
    """Annotation of a feature; None, and a note, when it is none with an area."""
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    # Before QuPath 0.4 the type of an object stood in other places.
    object_type = properties.get("objectType", properties.get("object_type"))
    name, class_names = _names(properties)
    where = f"{label} ({name!r})" if name else label
    if object_type is not None and object_type not in _AREA_OBJECTS:
        notes.append(f"{where}: a {object_type}, no annotation; left out.")
        return None
    geometry = feature.get("geometry")
    if not isinstance(geometry, dict) or geometry.get("type") not in {"Polygon", "MultiPolygon"}:
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        notes.append(f"{where}: a {kind or 'feature without geometry'}, no polygon; left out.")
        return None
    plane = geometry.get("plane")
    if isinstance(plane, dict) and any(plane.get(axis) not in (None, 0) for axis in ("z", "t")):
        notes.append(f"{where}: drawn on plane {plane}, not on the first; left out.")
        return None
    shape = _read_polygons(geometry, where)
    if shape.is_empty:
        notes.append(f"{where}: a polygon without area; left out.")
        return None
    texts = [text.lower() for text in (name, *class_names) if text]
    excluded = any(text.startswith(("ignore", "exclude")) for text in texts)
    is_tumour = any(text.startswith(("tumor", "tumour")) for text in texts)
    return _Annotation(shape, name, excluded, is_tumour)


def _names(properties: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Name and class names of an object, in any of the forms that QuPath has written."""
    name = properties.get("name")
    classification = properties.get("classification")
    classes: list[Any] = []
    if isinstance(classification, str):
        classes = [classification]
    elif isinstance(classification, dict):
        listed = classification.get("names")
        classes = [classification.get("name"), *(listed if isinstance(listed, list) else [])]
    # A derived class may be written as "Tumor: Ignore*".
    parts = [part.strip() for text in classes if isinstance(text, str) for part in text.split(":")]
    own = name.strip() if isinstance(name, str) and name.strip() else None
    return own, [part for part in parts if part]


def _read_polygons(geometry: dict[str, Any], where: str) -> Polygon | MultiPolygon:
    """Shape of a Polygon or MultiPolygon, checked ring by ring."""
    coordinates = geometry.get("coordinates")
    members = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(members, list):
        raise RoiError(f"{where}: coordinates are no list; rings of [x, y] are needed. Export the annotations again.")
    polygons: list[Polygon] = []
    for member in members:
        if not isinstance(member, list):
            raise RoiError(f"{where}: a polygon that is no list of rings. Export the annotations again.")
        rings = [_read_ring(ring, where) for ring in member]
        if rings and len(rings[0]) >= 4:
            polygons.append(Polygon(rings[0], [ring for ring in rings[1:] if len(ring) >= 4]))
    shape: Polygon | MultiPolygon = polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)
    # The area of a bow tie may be 0, that of its hull is not.
    if shape.convex_hull.area == 0:
        return MultiPolygon()
    if not shape.is_valid:
        raise RoiError(
            f"{where}: the polygon is not valid ({explain_validity(shape)}, in pixels as drawn); an outline that does "
            "not cross itself is needed. Redraw it, or simplify it in QuPath, and export again."
        )
    return shape


def _read_ring(ring: Any, where: str) -> NDArray[np.float64]:
    """Read a ring as an array of shape (n, 2), closed."""
    try:
        points = np.asarray([position[:2] for position in ring], dtype=np.float64)
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise RoiError(f"{where}: a ring that is no list of [x, y] numbers. Export the annotations again.") from error
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all() or np.abs(points).max() > 2**31:
        raise RoiError(f"{where}: a ring with positions that are no finite [x, y]. Export the annotations again.")
    closed = points if (points[0] == points[-1]).all() else np.concatenate([points, points[:1]])
    return closed


def _areas(shape: BaseGeometry) -> Polygon | MultiPolygon:
    """Polygons of a shape; what touched an edge only, as points or lines, is dropped."""
    parts = [part for part in shapely.get_parts(shape) if isinstance(part, Polygon) and part.area > 0]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)

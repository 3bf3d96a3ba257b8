"""The rules of QuPath for one Feature, and for all Features of a file together.

QuPath refuses a whole file for one bad object, so each rule is as strict as the strictest of versions 0.4 to 0.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from wsipsm.export.geojson_shapes import Parts, ShapeRules
from wsipsm.geometry import Box
from wsipsm.text import JsonObject

MAX_PROBLEMS = 1000
"""Number of problems that are kept of a file; further ones are only counted."""
OBJECT_TYPES = ("annotation", "detection", "cell", "tile", "tmaCore", "unknown")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_PLANE_KEYS = {"c", "z", "t"}

Found = tuple[str, str]
"""Name of the broken rule, and what was found."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One rule broken at one place."""

    rule: str
    """Short name, such as 'id' or 'ring-closed'."""
    message: str
    entry: str | None = None
    """Entry of a zip file."""
    index: int | None = None
    """Number of the Feature in its file, from 0."""
    feature_id: str | None = None

    def __str__(self) -> str:
        place = f"{self.entry}: " if self.entry else ""
        if self.index is not None:
            place += f"feature {self.index}"
            place += f" (id {self.feature_id}): " if self.feature_id else ": "
        return f"{place}{self.message} [{self.rule}]"


@dataclass
class FeatureRules:
    """Checks Features one after the other; shapes are checked in batches, so ``finish`` must be called."""

    image: Box | None = None
    """Where positions may lie, in QuPath's coordinates; without it only negative ones are found to be outside."""
    problems: list[Problem] = field(default_factory=list)
    n_more: int = 0
    """Number of problems beyond those kept."""
    n_features: int = 0
    n_annotations: int = 0
    _ids: set[bytes] = field(init=False)
    _colours: dict[str, list[int]] = field(init=False)
    _shapes: ShapeRules = field(init=False)

    def __post_init__(self) -> None:
        self._ids, self._colours = set(), {}
        self._shapes = ShapeRules(self.image)

    def set_image(self, image: Box) -> None:
        """Set where positions may lie, once it is known."""
        self.image = self._shapes.image = image

    def report(
        self,
        rule: str,
        message: str,
        entry: str | None = None,
        index: int | None = None,
        feature_id: str | None = None,
    ) -> None:
        """Keep a problem, or count it when there are many."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(rule, message, entry, index, feature_id))
        else:
            self.n_more += 1

    def check(self, feature: Any, index: int, entry: str | None = None) -> None:
        """Check one member of ``features``."""
        self.n_features += 1
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            self.report("feature", "not a Feature; the whole file would fail.", entry, index)
            return
        name = feature.get("id")
        where = (entry, index, name if isinstance(name, str) else None)
        for rule, message in chain(self._id(feature), self._properties(feature)):
            self.report(rule, message, *where)
        for path in _nulls(feature):
            self.report("null", f"{path} is null; leave the key out.", *where)
        self._geometry(feature, where)
        for rule, message, place in self._shapes.check_full_batch():
            self.report(rule, message, *place)

    def finish(self) -> None:
        """Check the shapes that were not checked yet."""
        for rule, message, place in self._shapes.check_batch():
            self.report(rule, message, *place)

    def copy(self) -> FeatureRules:
        """Copy the state, so that a file can be checked again in another way from here."""
        self.finish()
        twin = replace(self, problems=list(self.problems))
        twin._ids, twin._colours = set(self._ids), dict(self._colours)
        twin._shapes.detection_area_px2 = self.detection_area_px2
        return twin

    @property
    def detection_area_px2(self) -> float:
        """Summed area of detections and cells, square pixels."""
        return self._shapes.detection_area_px2

    def _id(self, feature: JsonObject) -> Iterator[Found]:
        name = feature.get("id")
        if not isinstance(name, str) or not _UUID.fullmatch(name):
            yield "id", f"id is {name!r}; a UUID is needed, or QuPath makes a new one."
            return
        key = bytes.fromhex(name.replace("-", ""))
        if key in self._ids:
            yield "id-unique", "id occurs twice in the file."
        self._ids.add(key)

    def _properties(self, feature: JsonObject) -> Iterator[Found]:
        properties = feature.get("properties")
        if not isinstance(properties, dict):
            yield "properties", f"properties is {type(properties).__name__}; an object is needed."
            return
        kind = properties.get("objectType")
        self.n_annotations += kind in ("annotation", "unknown", None)
        if kind not in OBJECT_TYPES:
            yield "object-type", f"objectType is {kind!r}; one of {', '.join(OBJECT_TYPES)} is needed."
        if "nucleusGeometry" in properties:
            yield "cell", "nucleusGeometry is inside properties, where QuPath ignores it."
        if kind == "detection" and "metadata" in properties:
            yield "metadata", "metadata on a detection; QuPath 0.5 logs an error for each."
        if not isinstance(properties.get("name", ""), str):
            yield "name", f"name is {properties['name']!r}; text is needed."
        if not isinstance(properties.get("isLocked", False), bool):
            yield "is-locked", f"isLocked is {properties['isLocked']!r}; true or false is needed."
        if "color" in properties and not _is_colour(properties["color"]):
            yield "colour", f"color is {properties['color']!r}; three whole numbers of 0 to 255 are needed."
        if "classification" in properties:
            yield from self._classification(properties["classification"])
        if "measurements" in properties:
            yield from _measurements(properties["measurements"])

    def _classification(self, value: Any) -> Iterator[Found]:
        if not isinstance(value, dict):
            yield "classification", f"classification is {value!r}; an object with name and color is needed."
            return
        names = value.get("names", [value.get("name")])
        if (
            ("name" in value) == ("names" in value)
            or not isinstance(names, list)
            or ("names" in value and len(names) < 2)
        ):
            yield "classification", "classification needs either a name or a list of at least two names."
            return
        for name in names:
            if not isinstance(name, str) or not name.strip() or name != name.strip() or re.search(r"[:\r\n]", name):
                yield "class-name", f"class name {name!r}; text without colon, line break and outer blanks is needed."
                return
        if "colorRGB" in value:
            yield "colour", "colorRGB is the form of QuPath 0.3; color with three numbers is needed."
        colour: Any = value.get("color")
        if not _is_colour(colour):
            yield "colour", f"color of class {names} is {colour!r}; three whole numbers of 0 to 255 are needed."
            return
        first = self._colours.setdefault(": ".join(names), colour)
        if first != colour:
            yield "one-colour", f"class {': '.join(names)} has color {colour} here and {first} before."

    def _geometry(self, feature: JsonObject, where: tuple[str | None, int, str | None]) -> None:
        properties = feature.get("properties")
        kind = properties.get("objectType") if isinstance(properties, dict) else None
        if not isinstance(feature.get("geometry"), dict):
            self.report("geometry", "geometry is missing; an object is needed.", *where)
            return
        shapes: list[Parts] = []
        keys = ["geometry"]
        if "nucleusGeometry" in feature:
            if kind == "cell":
                keys.append("nucleusGeometry")
            else:
                self.report("cell", f"nucleusGeometry on objectType {kind!r}; QuPath reads it on cells only.", *where)
        for key in keys:
            parts, found = read_parts(feature[key])
            for rule, message in found:
                self.report(rule, f"{key}: {message}", *where)
            if parts is not None:
                shapes.append(parts)
        if len(shapes) == len(keys):
            self._shapes.add(shapes, where, is_detection=kind in ("detection", "cell"))


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)


def _measurements(value: Any) -> Iterator[Found]:
    if not isinstance(value, dict):
        yield "measurements", "measurements is not an object of names and numbers."
        return
    for name, number in value.items():
        if not name.strip():
            yield "measurement-name", "a measurement has no name."
        if type(number) not in (int, float) or not abs(number) <= _FLOAT32_MAX:
            yield "measurement-value", f"measurement {name!r} is {number!r}; a finite 32-bit number is needed."


def _nulls(value: Any, path: str = "") -> Iterator[str]:
    """Find the paths of null values; coordinates are left out, since the rules of positions check them."""
    for key, item in value.items():
        here = f"{path}.{key}" if path else key
        if item is None:
            yield here
        elif isinstance(item, dict):
            yield from _nulls(item, here)
        elif key != "coordinates" and isinstance(item, list) and None in item:
            yield here


def read_parts(geometry: Any) -> tuple[Parts | None, list[Found]]:
    """Read a geometry's coordinates, and find faults in their form.

    Parameters
    ----------
    geometry
        Value of a geometry key.

    Returns
    -------
    Parts, each a list of rings of shape (n, 2), or of points as one open ring, None when they cannot be read; and the
    faults that were found.
    """
    if not isinstance(geometry, dict):
        return None, [("geometry", "not an object.")]
    found: list[Found] = []
    plane = geometry.get("plane")
    if "plane" in geometry and not (
        isinstance(plane, dict) and set(plane) <= _PLANE_KEYS and all(type(v) is int for v in plane.values())
    ):
        found.append(("plane", f"plane is {plane!r}; whole numbers c, z and t are needed."))
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon", "Point", "MultiPoint"):
        wanted = "Polygon, MultiPolygon, Point or MultiPoint"
        return None, [*found, ("geometry-type", f"type is {kind!r}; {wanted} is needed.")]
    if not isinstance(coordinates, list) or not coordinates:
        return None, [*found, ("empty", f"{kind} without coordinates.")]
    if kind == "MultiPolygon" and len(coordinates) < 2:
        return None, [*found, ("multipolygon", "MultiPolygon of one part; write it as Polygon.")]
    is_area = kind.endswith("Polygon")
    nested = {
        "Polygon": [coordinates],
        "MultiPolygon": coordinates,
        "Point": [[[coordinates]]],
        "MultiPoint": [[coordinates]],
    }[kind]
    parts: list[list[np.ndarray]] = []
    for part in nested:
        if not isinstance(part, list) or not part:
            return None, [*found, ("empty", "a part without rings.")]
        rings = []
        for ring in part:
            array = _positions(ring)
            if array is None:
                return None, [*found, ("position", "a position is not two finite numbers.")]
            if is_area and len(array) < 4:
                return None, [*found, ("ring-length", f"ring of {len(array)} positions; at least 4 are needed.")]
            if is_area and ring[0] != ring[-1]:
                return None, [*found, ("ring-closed", "first and last position of a ring differ.")]
            rings.append(array)
        parts.append(rings)
    return Parts(parts, is_area), found


def _positions(ring: Any) -> np.ndarray | None:
    """Read positions as float64 of shape (n, 2), or None when one is not two finite numbers."""
    if not isinstance(ring, list) or set(map(type, ring)) != {list} or set(map(len, ring)) != {2}:
        return None
    flat = list(chain.from_iterable(ring))
    # A bool counts as a number in Python and NumPy, but not in QuPath.
    if not set(map(type, flat)) <= {int, float}:
        return None
    try:
        array = np.array(flat, dtype=np.float64)
    except OverflowError:
        return None
    return array.reshape(-1, 2) if np.isfinite(array).all() else None

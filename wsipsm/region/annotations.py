"""The annotations of a GeoJSON file in one form, whichever program wrote the file.

QuPath has written the type of an object as ``id`` (up to 0.2), ``object_type`` and ``objectType``, and reads it from
``properties.type``; an object may hold others in ``childObjects``. TIAToolbox writes the type beside ``properties``.
geopandas and Python turn a classification into text, or into columns of its own.
"""

from __future__ import annotations

import ast
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from wsipsm.errors import RoiError
from wsipsm.text import JsonObject, clean_text

_MAX_NESTING = 64
"""The deepest nesting of collections and of objects in objects."""
_MAX_TEXT_CHARS = 4096
"""The longest text of a classification."""
_MAX_NAME_CHARS = 120
_MAX_TEXT_NESTING = 4
"""The deepest nesting of text in text and lists in lists; a table that was written and read again has two levels."""
_MISSING = frozenset({"", "nan", "none", "null", "<na>", "nat"})
"""Texts, in lower case, by which Python, pandas and JSON state that there is no value."""


class Kind(StrEnum):
    """The kinds of objects in QuPath."""

    ANNOTATION = "annotation"
    TMA_CORE = "TMA core"
    DETECTION = "detection"
    CELL = "cell"
    TILE = "tile"
    ROOT = "root object"


_KINDS = {
    "annotation": Kind.ANNOTATION,
    "unknown": Kind.ANNOTATION,
    "tmacore": Kind.TMA_CORE,
    "detection": Kind.DETECTION,
    "cell": Kind.CELL,
    "tile": Kind.TILE,
    "root": Kind.ROOT,
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """An annotation or TMA core with polygons, before its coordinates are read."""

    label: str
    """Name of the annotation in messages."""
    name: str
    """Name that the file gives it; empty when there is none."""
    components: tuple[str, ...]
    """Components of the object's class: ``Tumor: Positive`` has two; none when it has no class."""
    kind: Kind
    geometry: JsonObject
    """Geometry of type Polygon or MultiPolygon."""

    @property
    def classification(self) -> str:
        """Class of the object as QuPath shows it; empty when there is none."""
        return ": ".join(self.components)


def read_drawn(document: Any, label: str, left_out: Counter[str]) -> Iterator[Drawn]:
    """Yield the annotations and TMA cores of a document that have polygons.

    Parameters
    ----------
    document
        A FeatureCollection, a Feature, an array of either, or a bare geometry.
    label
        Name of the document in messages.
    left_out
        Counter to which the other objects are added, by what they are; ``{s}`` in a key marks the plural.

    Raises
    ------
    RoiError
        When the document is no GeoJSON, or a classification cannot be parsed.
    """
    for number, feature in enumerate(_features(document, label), start=1):
        drawn = _read_feature(feature, f"{label}, feature {number}", left_out)
        if drawn is not None:
            yield drawn


def _features(document: Any, label: str) -> Iterator[JsonObject]:
    """Yield the features of a document, however they are wrapped or nested; a bare geometry becomes a feature."""
    waiting: list[tuple[Any, int]] = [(document, 0)]
    while waiting:
        found, depth = waiting.pop()
        if depth > _MAX_NESTING:
            raise RoiError(f"{label}: objects nested over {_MAX_NESTING} deep; a flat list is needed. Check --roi.")
        kind = found.get("type") if isinstance(found, dict) else None
        if isinstance(found, list):
            waiting += [(member, depth + 1) for member in reversed(found)]
        elif kind == "FeatureCollection":
            members = found.get("features")
            if not isinstance(members, list):
                raise RoiError(
                    f"{label}: a FeatureCollection without a list of features. Export the annotations again."
                )
            waiting.append((members, depth + 1))
        elif kind == "Feature":
            yield found
            waiting += [(children, depth + 1) for children in reversed(_children(found, label))]
        elif isinstance(kind, str) and ("coordinates" in found or "geometries" in found):
            yield {"type": "Feature", "geometry": found, "properties": {}}
        else:
            what = f"a {type(found).__name__}"
            if isinstance(found, dict):
                what = "an object without a type" if kind is None else f"an object of type {_quoted(kind)}"
            raise RoiError(f"{label}: {what} where a GeoJSON Feature is needed. Export the annotations again.")


def _children(feature: JsonObject, label: str) -> list[Any]:
    """List the objects that lie below another in QuPath's hierarchy."""
    found = []
    for holder in (_properties(feature, label), feature):
        children = holder.get("childObjects")
        if not _is_missing(children):
            found.append(_parse_text(children, "childObjects", label) if isinstance(children, str) else children)
    return found


def _read_feature(feature: JsonObject, label: str, left_out: Counter[str]) -> Drawn | None:
    """Read a feature; None, and counted in ``left_out``, if it is no annotation with polygons on the first plane."""
    properties = _properties(feature, label)
    kind = _kind(feature, properties)
    if kind not in (Kind.ANNOTATION, Kind.TMA_CORE):
        left_out[kind if "{s}" in kind else f"{kind}{{s}}"] += 1
        return None
    geometry = feature.get("geometry")
    shape = geometry.get("type") if isinstance(geometry, dict) else None
    if not isinstance(geometry, dict) or shape not in ("Polygon", "MultiPolygon"):
        left_out[f"{clean_text(shape, 40)}{{s}}" if shape else "object{s} without geometry"] += 1
        return None
    plane = geometry.get("plane")
    if isinstance(plane, dict) and any(plane.get(axis) not in (None, 0) for axis in ("z", "t")):
        left_out["object{s} of another plane than the first"] += 1
        return None
    if kind == Kind.TMA_CORE and properties.get("isMissing") is True:
        left_out["missing TMA core{s}"] += 1
        return None
    name = _name(properties, feature)
    if name:
        label = f"{label} ({_quoted(name)})"
    return Drawn(label, name, _class_components(feature, properties, label), Kind(kind), geometry)


def _properties(feature: JsonObject, label: str) -> JsonObject:
    properties = feature.get("properties")
    if isinstance(properties, str) and not _is_missing(properties):
        properties = _parse_text(properties, "properties", label)
    return properties if isinstance(properties, dict) else {}


def _kind(feature: JsonObject, properties: JsonObject) -> str:
    """Find the kind of an object from the first field that states it; without one it is an annotation, as in QuPath.

    ``type`` and ``id`` may hold other values, so that only QuPath's own words count there.
    """
    for stated in (
        properties.get("objectType"),
        properties.get("object_type"),
        feature.get("objectType"),
        feature.get("object_type"),
    ):
        if isinstance(stated, str) and not _is_missing(stated):
            return _known_kind(stated) or f"object{{s}} of type {_quoted(stated)}"
    for hint in (properties.get("type"), feature.get("id"), properties.get("id")):
        if isinstance(hint, str) and (kind := _known_kind(hint)) is not None:
            return kind
    return Kind.ANNOTATION


def _known_kind(text: str) -> Kind | None:
    """Find the kind for any spelling of it: ``tmaCore``, ``tma_core``, ``TMACoreObject``, ``PathCellObject``."""
    word = text[:40].casefold().translate({ord(char): None for char in " _-"})
    return _KINDS.get(word.removeprefix("path").removesuffix("object"))


def _name(properties: JsonObject, feature: JsonObject) -> str:
    for value in (properties.get("name"), feature.get("name")):
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and not _is_missing(value):
            return clean_text(str(value).strip(), _MAX_NAME_CHARS)
    return ""


def _class_components(feature: JsonObject, properties: JsonObject, label: str) -> tuple[str, ...]:
    """Find the components of an object's class, wherever the file holds it."""
    for holder in (properties, feature):
        for key in (
            "classification",
            # GDAL and pandas make such columns of an object.
            "classification.names",
            "classification_names",
            "classification.name",
            "classification_name",
        ):
            value = holder.get(key)
            if not _is_missing(value):
                return _components(value, label)
    return ()


def _components(value: Any, label: str, depth: int = 0) -> tuple[str, ...]:
    """Split a class into components; it may be an object, a list, a name, or the text of one of these."""
    if _is_missing(value):
        return ()
    if depth <= _MAX_TEXT_NESTING:
        if isinstance(value, str):
            parsed = _parse_text(value, "classification", label) if _looks_like_code(value) else None
            if parsed is not None:
                return _components(parsed, label, depth + 1)
            parts = (clean_text(part.strip(), _MAX_NAME_CHARS) for part in value[:_MAX_TEXT_CHARS].split(":"))
            return tuple(part for part in parts if part)
        if isinstance(value, list):
            return tuple(part for member in value for part in _components(member, label, depth + 1))
        if isinstance(value, dict):
            named = [value[key] for key in ("names", "name") if not _is_missing(value.get(key))]
            if named:
                return _components(named[0], label, depth + 1)
            if not set(value) - {"name", "names", "color", "colorRGB", "colour"}:
                return ()
    raise RoiError(
        f"{label}: the classification {_quoted(value)}; the name of a class, or an object with its name, is needed. "
        "Export the annotations from QuPath again."
    )


def _looks_like_code(text: str) -> bool:
    """Check whether text is JSON or a Python expression, rather than the name of a class."""
    text = text.strip()
    if text[:1] in ("{", "[") or (text[:1] in ("'", '"') and text[:1] == text[-1:] and len(text) > 1):
        return True
    # Such are array(['Tumor']), OrderedDict([('name', 'Tumor')]) and PathClass(name='Tumor'); Tumor (1) is none.
    word, bracket, rest = text.partition("(")
    return bool(bracket) and text.endswith(")") and word.isidentifier() and any(char in rest for char in "'\"{[=")


def _parse_text(text: str, what: str, label: str) -> Any:
    """Parse text that is JSON or a Python literal; nothing is guessed from text that is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return _python_literal(text)
    except (ValueError, SyntaxError, Warning, MemoryError, RecursionError, TypeError) as error:
        cause = error
    raise RoiError(
        f"{label}: {what} is the text {_quoted(text)}, which is neither JSON nor a Python value; an object, or the "
        "name of a class, is needed. Export the annotations from QuPath again."
    ) from cause


@lru_cache(maxsize=256)
def _python_literal(text: str) -> Any:
    """Parse a Python literal; results are cached, because files repeat a few classes many times."""
    if len(text) > _MAX_TEXT_CHARS:
        raise ValueError(f"over {_MAX_TEXT_CHARS} characters")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # otherwise a wrong escape would print a warning
        parsed = ast.literal_eval(text.strip())
    return list(parsed) if isinstance(parsed, tuple) else parsed


def _is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip().casefold() in _MISSING)


def _quoted(value: Any) -> str:
    return f"'{clean_text(value, 60)}'"

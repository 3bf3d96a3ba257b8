"""Annotations that tests draw, in the forms of several programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from wsipsm.geometry import Size
from wsipsm.slide.base import SlideInfo

INFO = SlideInfo("slide.svs", "openslide", (Size(10_000, 8_000),), 0.25, "0")

LEFT = (100, 100, 600, 500)
RIGHT = (750, 100, 200, 500)
INSIDE = (250, 200, 200, 200)
LEFT_AREA, RIGHT_AREA, INSIDE_AREA = 300_000, 100_000, 40_000

Json = Any


def rectangle(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]


def drawn(box: tuple[float, float, float, float], **properties: Json) -> dict[str, Json]:
    """A rectangle as QuPath 0.4 and later write it."""
    return {
        "type": "Feature",
        "id": "d3b7a0f2-51c5-4f0e-9d0b-6f8f2f3f6a10",
        "geometry": {"type": "Polygon", "coordinates": [rectangle(*box)]},
        "properties": {"objectType": "annotation", **properties},
    }


def classed(box: tuple[float, float, float, float], kind: str, **properties: Json) -> dict[str, Json]:
    return drawn(box, classification={"name": kind, "color": [200, 0, 0]}, **properties)


def write(path: Path, *features: Json) -> Path:
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


# How one and the same class is written; each takes the components of a class and gives properties.
CLASS_FORMS: dict[str, Callable[[list[str]], dict[str, Json]]] = {
    "QuPath 0.4": lambda parts: {"classification": {"name": ": ".join(parts), "color": [200, 0, 0]}},
    "QuPath 0.3": lambda parts: {"classification": {"name": ": ".join(parts), "colorRGB": -3670016}},
    "QuPath 0.5 derived": lambda parts: {"classification": {"names": parts, "color": [200, 0, 0]}},
    "name": lambda parts: {"classification": ": ".join(parts)},
    "name without blanks": lambda parts: {"classification": ":".join(parts)},
    "list": lambda parts: {"classification": parts},
    "JSON text": lambda parts: {"classification": orjson.dumps({"name": ": ".join(parts)}).decode()},
    "JSON text of names": lambda parts: {"classification": orjson.dumps({"names": parts, "color": [1, 2, 3]}).decode()},
    "JSON text twice": lambda parts: {"classification": orjson.dumps(orjson.dumps(parts).decode()).decode()},
    "Python text": lambda parts: {"classification": str({"name": ": ".join(parts), "color": [200, 0, 0]})},
    "Python text of names": lambda parts: {"classification": str({"names": parts, "name": None})},
    "Python list": lambda parts: {"classification": str(parts)},
    "Python tuple of colours": lambda parts: {"classification": str({"name": ": ".join(parts), "color": (1, 2, 3)})},
    "quoted name": lambda parts: {"classification": repr(": ".join(parts))},
    "column of pandas": lambda parts: {"classification.name": ": ".join(parts), "classification": None},
    "column of names": lambda parts: {"classification.names": parts, "classification.name": float("nan")},
    "column of GDAL": lambda parts: {"classification_name": ": ".join(parts), "classification": "nan"},
    "column of text": lambda parts: {"classification_names": str(parts)},
}

"""Areas as annotations that QuPath reads: the hot spot, the fields, the region that was scored."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsipsm.export.geojson import shown_box
from wsipsm.slide.base import SlideInfo
from wsipsm.text import clean_text


@dataclass(frozen=True)
class Annotation:
    """An area on a slide."""

    shape: BaseGeometry
    """Polygon or MultiPolygon, level-0 pixels, corner convention."""
    name: str
    kind: str = ""
    """QuPath's class; none when empty."""
    colour: tuple[int, int, int] = (255, 200, 0)
    measurements: dict[str, float] = field(default_factory=dict)
    locked: bool = True
    """QuPath then does not move it by accident."""


_NAMESPACE = uuid.UUID("6f1c9c3e-8a4b-5d0e-9a57-2f0b6f7d1c11")


def annotation_bytes(info: SlideInfo, annotations: Sequence[Annotation], decimals: int | None = 2) -> bytes:
    """Give annotations as GeoJSON, a FeatureCollection in QuPath's frame.

    Parameters
    ----------
    info
        Of the slide.
    annotations
        In the order of the file.
    decimals
        That coordinates keep; QuPath snaps to a hundredth. None keeps all: read again, the areas are the same.
    """
    box = shown_box(info)
    shapes = _in_frame([annotation.shape for annotation in annotations], (box.x, box.y), decimals)
    hashed = shapely.to_wkb(shapes, hex=True)
    lines = [
        orjson.dumps(_feature(annotation, shape, f"{info.fingerprint} {clean_text(annotation.name)} {wkb}"))
        for annotation, shape, wkb in zip(annotations, shapes, hashed, strict=True)
    ]
    return b'{"type":"FeatureCollection","features":[\n' + b",\n".join(lines) + b"\n]}\n"


def _in_frame(shapes: Sequence[BaseGeometry], origin: tuple[int, int], decimals: int | None) -> NDArray[np.object_]:
    moved = shapely.transform(np.array(shapes, dtype=object), lambda xy: xy - origin)
    if decimals is not None:
        # set_precision rounds and keeps the outcome valid; its grid leaves the last bits of a double behind.
        moved = shapely.set_precision(moved, 10.0**-decimals)
        moved = shapely.transform(moved, lambda xy: np.round(xy, decimals))
    return moved


def _feature(annotation: Annotation, shape: BaseGeometry, name: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "name": clean_text(annotation.name),
        "isLocked": annotation.locked,
        "measurements": annotation.measurements,
    }
    if annotation.kind:
        properties["classification"] = {"name": clean_text(annotation.kind), "color": annotation.colour}
    else:
        properties["color"] = annotation.colour
    own = str(uuid.uuid5(_NAMESPACE, name))
    return {"type": "Feature", "id": own, "geometry": shapely.geometry.mapping(shape), "properties": properties}

"""Writes areas, such as the hot spot, the fields or the scored region, as annotations that QuPath reads."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from wsipsm.facts import FileFacts
from wsipsm.slide.frame import SlideFrame
from wsipsm.text import JsonObject, clean_json, clean_text


@dataclass(frozen=True)
class Annotation:
    """An area on a slide."""

    shape: BaseGeometry
    """Polygon or MultiPolygon, level-0 pixels, corner convention."""
    name: str
    kind: str = ""
    """Name of the class in QuPath; empty for no class."""
    colour: tuple[int, int, int] = (255, 200, 0)
    measurements: dict[str, float] = field(default_factory=dict)
    locked: bool = True
    """Whether QuPath locks it, so that a user does not move it by accident."""


_NAMESPACE = uuid.UUID("6f1c9c3e-8a4b-5d0e-9a57-2f0b6f7d1c11")


_DECIMALS = 2
"""Decimals of coordinates; QuPath 0.6 snaps to a hundredth of a pixel."""
_MIN_AREA_PX2 = 0.01


_OUTLINE = "outline_px0_wkb"
_GROUND = "ground_px0_wkb"


def annotation_bytes(
    frame: SlideFrame,
    annotations: Sequence[Annotation],
    about: FileFacts,
    outline: BaseGeometry | None = None,
    ground: BaseGeometry | None = None,
) -> bytes:
    """Write annotations as the UTF-8 text of a GeoJSON FeatureCollection in QuPath's frame.

    Parameters
    ----------
    frame
        Frame of the slide, with what QuPath shows of it.
    annotations
        Annotations in the order of the file. One that has no part where the slide holds pixels is left out.
    about
        Facts about the slide and the run, written under the key ``wsipsm``, which QuPath ignores.
    outline
        Level-0 shape that is stored there exactly, for :func:`read_outline`, since QuPath's coordinates are rounded.
    ground
        Part of the outline whose area counts, for :func:`read_ground`; None: all of it.
    """
    lines = []
    shapes = _in_frame([annotation.shape for annotation in annotations], frame)
    for annotation, shape in zip(annotations, shapes, strict=True):
        if shape is not None:
            name = f"{about.slide_fingerprint} {clean_text(annotation.name)} {shapely.to_wkb(shape, hex=True)}"
            lines.append(orjson.dumps(_feature(annotation, shape, name)))
    exact_shapes = {_OUTLINE: outline, _GROUND: ground}
    exact = {name: shapely.to_wkb(shape, hex=True) for name, shape in exact_shapes.items() if shape is not None}
    header = json.dumps({**clean_json(about), **exact}, sort_keys=True, allow_nan=False)
    opening = f'{{"type":"FeatureCollection","wsipsm":{header},"features":['.encode("ascii")
    return opening + (b"\n" if lines else b"") + b",\n".join(lines) + b"\n]}\n"


def read_outline(content: bytes) -> Polygon | MultiPolygon:
    """Read the exact outline in a file of :func:`annotation_bytes`, level-0 pixels.

    Raises
    ------
    ValueError
        When there is none, or none that can be read.
    """
    shape = _read_exact(content, _OUTLINE)
    if shape is None or shape.is_empty:
        raise ValueError("no exact outline in it")
    return shape


def read_ground(content: bytes) -> Polygon | MultiPolygon | None:
    """Read the part of the outline whose area counts, level-0 pixels; it may be empty. None where all of it counts.

    Raises
    ------
    ValueError
        When it cannot be read.
    """
    return _read_exact(content, _GROUND)


def _read_exact(content: bytes, name: str) -> Polygon | MultiPolygon | None:
    try:
        coded = orjson.loads(content)["wsipsm"].get(name)
        shape = None if coded is None else shapely.from_wkb(coded)
    except (KeyError, TypeError, AttributeError, shapely.errors.GEOSException) as error:
        raise ValueError(f"no exact outline in it ({error!r})") from error
    if shape is not None and not isinstance(shape, (Polygon, MultiPolygon)):
        raise ValueError(f"a {shape.geom_type} where an area is needed")
    return shape


def _in_frame(shapes: Sequence[BaseGeometry], frame: SlideFrame) -> list[BaseGeometry | None]:
    """Cut level-0 shapes to the slide and give them in QuPath's frame, to a hundredth; None where nothing is left."""
    inside = shapely.intersection(np.array(shapes, dtype=object), frame.outline)
    # set_precision rounds and keeps the shape valid; np.round below removes its errors in the last bits.
    snapped = shapely.set_precision(shapely.transform(inside, frame.to_qupath), 10.0**-_DECIMALS)
    parts, owner = shapely.get_parts(snapped, return_index=True)
    kept = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > _MIN_AREA_PX2)
    plain = shapely.remove_repeated_points(parts[kept])
    rounded = shapely.transform(plain, lambda xy: np.round(xy, _DECIMALS))
    grouped: list[list[Polygon]] = [[] for _ in shapes]
    for number, part in zip(owner[kept].tolist(), rounded, strict=True):
        grouped[number].append(part)
    return [MultiPolygon(one) if len(one) > 1 else one[0] if one else None for one in grouped]


def _feature(annotation: Annotation, shape: BaseGeometry, name: str) -> JsonObject:
    properties: JsonObject = {
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

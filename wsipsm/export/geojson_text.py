"""Writes many GeoJSON features as one text, column by column, since one call for each nucleus would be slow."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from wsipsm.instances.rings import Rings

_COMMA, _CLOSE = b",]"


def join_features(
    ids: pa.Array, coordinates: pa.Array, classifications: pa.Array, measurements: Iterable[tuple[str, pa.Array]]
) -> memoryview:
    """Write detections as GeoJSON text, each after a comma and on its own line.

    Parameters
    ----------
    ids
        Strings without characters that JSON escapes, shape (n,).
    coordinates, classifications
        Coordinates of the polygons, and their classes, as JSON, shape (n,).
    measurements
        Name of each measurement, and its values as JSON, shape (n,); a null value is left out.
    """
    if not len(ids):
        return memoryview(b"")
    # QuPath 0.4.0 reads files in the platform's character set, so names are written in ASCII.
    named = [_joined(f"{json.dumps(name)}:", values) for name, values in measurements]
    features = _joined(
        ',\n{"type":"Feature","id":"',
        ids,
        '","geometry":{"type":"Polygon","coordinates":',
        coordinates,
        '},"properties":{"objectType":"detection","classification":',
        classifications,
        ',"measurements":{',
        pc.binary_join_element_wise(*named, ",", null_handling="skip") if named else "",
        "}}}",
    )
    _, offsets, content = features.buffers()
    return memoryview(content)[: int(np.frombuffer(offsets, np.int32)[len(ids)])]


def _joined(*parts: str | pa.Array) -> pa.Array:
    """Join texts entry by entry; null where one of them is."""
    return pc.binary_join_element_wise(*parts, "")


def number_texts(values: NDArray[np.float64]) -> pa.Array:
    """Write numbers as JSON, shape (n,); null where one is not finite."""
    text = np.frombuffer(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY), np.uint8)[1:-1]
    is_comma = text == _COMMA
    ends = np.append(np.flatnonzero(is_comma), len(text))[: len(values)]
    texts = _strings(text[~is_comma], ends - np.arange(len(values)))
    known = np.isfinite(values)
    return texts if known.all() else pc.if_else(pa.array(known), texts, pa.scalar(None, pa.string()))


def ring_texts(rings: Rings) -> pa.Array:
    """Write the coordinates of polygons of one ring each as JSON, shape (n,)."""
    if len(rings.starts) < 2:
        return pa.array([], pa.string())
    # Outlines run along rows and columns, so that a few thousand numbers make up hundreds of thousands of points.
    columns, x_texts = _distinct(rings.xy[:, 0], "[{},")
    rows, y_texts = _distinct(rings.xy[:, 1], "{}],")
    chosen = np.column_stack([columns, rows + len(x_texts)]).ravel()
    _, offsets, content = pa.concat_arrays([x_texts, y_texts]).take(pa.array(chosen)).buffers()
    ends = np.frombuffer(offsets, np.int32, len(chosen) + 1)[2 * rings.starts[1:]]
    text = np.frombuffer(content, np.uint8).copy()
    # The comma between two rings is not needed; the closing bracket is written in its place.
    text[ends - 1] = _CLOSE
    return _joined("[[", _strings(text, ends), "]")


def _distinct(values: NDArray[np.float64], form: str) -> tuple[NDArray[np.int32], pa.Array]:
    """Write each different number once, as JSON in a form; gives which of them every number is, and their texts."""
    before, after = form.split("{}")
    coded = pa.array(values).dictionary_encode()
    texts = number_texts(np.asarray(np.from_dlpack(coded.dictionary), np.float64)).fill_null("null")
    return np.asarray(np.from_dlpack(coded.indices), np.int32), _joined(before, texts, after)


def polygon_texts(polygons: NDArray[np.object_]) -> pa.Array:
    """Write the coordinates of any polygons as JSON, shape (n,); null where there is none."""
    texts = [None if polygon is None else orjson.dumps(_coordinates(polygon)).decode() for polygon in polygons]
    return pa.array(texts, pa.string())


def _coordinates(polygon: shapely.Polygon) -> list[list[list[float]]]:
    # Adding 0.0 turns -0.0 into 0.0.
    return [(shapely.get_coordinates(ring) + 0.0).tolist() for ring in shapely.get_rings(polygon)]


def _strings(text: NDArray[np.uint8], ends: NDArray[np.integer]) -> pa.Array:
    """Split an ASCII text at the given ends, shape (n,)."""
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(text))

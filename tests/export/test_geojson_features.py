"""Features written column by column are byte for byte those that are written one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wsipsm.export.geojson import CLASS_COLOURS, MEASUREMENTS, GeoJsonWriter
from wsipsm.geometry import Box, Size
from wsipsm.instances.table import build_table
from wsipsm.instances.trace import trace_outlines
from wsipsm.keys import Column
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame


def plain_features(table: pa.Table, frame: SlideFrame) -> Iterator[bytes]:
    """Features of outlines that need no repair, one at a time."""
    for row in table.to_pylist():
        polygon = shapely.from_wkb(row[Column.GEOMETRY])
        fitted = np.round(frame.to_qupath(shapely.get_coordinates(polygon)), 2) + 0.0
        measured = {
            label: np.round(float(row[column]), decimals)
            for column, (label, decimals) in MEASUREMENTS.items()
            if row[column] is not None and np.isfinite(row[column])
        }
        kind = row[Column.CLASS]
        feature = {
            "type": "Feature",
            "id": row[Column.NUCLEUS_ID],
            "geometry": {"type": "Polygon", "coordinates": [fitted]},
            "properties": {
                "objectType": "detection",
                "classification": {"name": kind, "color": CLASS_COLOURS[kind]},
                "measurements": measured,
            },
        }
        yield orjson.dumps(feature, option=orjson.OPT_SERIALIZE_NUMPY).replace("µ".encode(), b"\\u00b5")


def random_table(seed: int, scale: float, origin: tuple[int, int], size: int = 70) -> pa.Table:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(size, size)), 1.3)
    labels, n = ndimage.label(noise > 0.08)
    for label in range(1, n + 1):
        labels[ndimage.binary_fill_holes(labels == label)] = label
    polygons = trace_outlines(labels.astype(np.int32), origin, scale).polygons
    values = rng.random((4, len(polygons))).astype(np.float32)
    values[:, rng.random(len(polygons)) < 0.1] = np.nan
    columns = (Column.PROBABILITY, Column.POSITIVE_PROBABILITY, Column.HEMATOXYLIN_OD, Column.DAB_OD)
    measured = dict(zip(columns[: rng.integers(3, 5)], values, strict=False))
    return build_table(polygons, measured, mpp_px0=0.25, fingerprint="f", dab_cut_od=0.4)


@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1.0, 2.0, 1.0020040080160322, 0.73, 2.2016757]),
    origin=st.tuples(st.integers(0, 40_000), st.integers(0, 40_000)),
)
@settings(max_examples=25, deadline=None)
def test_features_are_those_written_one_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, seed: int, scale: float, origin: tuple[int, int]
) -> None:
    table = random_table(seed, scale, origin)
    frame = SlideFrame.of(
        SlideInfo("s.svs", "openslide", (Size(99_000, 99_000),), 0.25, "f", bounds=Box(0, 0, 90_000, 98_000))
    )
    path = tmp_path_factory.mktemp("features") / "cells.geojson"
    with GeoJsonWriter(path, frame) as writer:
        writer.add(table.slice(0, 3))
        writer.add(table.slice(3))
    assert (writer.n_written, writer.n_repaired, writer.n_dropped) == (table.num_rows, 0, 0)
    expected = b",\n".join(plain_features(table, frame))
    assert path.read_bytes() == b'{"type":"FeatureCollection","features":[\n' + expected + b"\n]}\n"


def test_one_outline_that_is_repaired_leaves_its_neighbours_in_place(tmp_path: Path) -> None:
    frame = SlideFrame.of(SlideInfo("s.svs", "openslide", (Size(1000, 1000),), 0.25, "f"))
    boxes = [
        shapely.box(10, 10, 20, 20),
        shapely.box(990, 5, 1010, 30),
        shapely.box(2000, 1, 2010, 9),
        shapely.box(1, 1, 5, 5),
    ]
    bow_tie = shapely.Polygon([(50, 50), (70, 70), (70, 50), (50, 71)])
    polygons = np.array([*boxes, bow_tie, shapely.box(300, 300, 320, 320)], dtype=object)
    measured = {Column.PROBABILITY: np.linspace(0, 1, 6), Column.HEMATOXYLIN_OD: np.ones(6)}
    table = build_table(polygons, measured, mpp_px0=0.25, fingerprint="f", dab_cut_od=None)
    path = tmp_path / "cells.geojson"
    with GeoJsonWriter(path, frame) as writer:
        writer.add(table)
    assert (writer.n_written, writer.n_repaired, writer.n_dropped) == (5, 2, 1)
    features = orjson.loads(path.read_bytes())["features"]
    assert [feature["id"] for feature in features] == table.column(Column.NUCLEUS_ID).take([0, 1, 3, 4, 5]).to_pylist()
    outlines = [shapely.Polygon(feature["geometry"]["coordinates"][0]) for feature in features]
    assert outlines[1].bounds == (990, 5, 1000, 30)
    for position, original in ((0, boxes[0]), (2, boxes[3]), (4, polygons[5])):
        assert outlines[position].equals(original)

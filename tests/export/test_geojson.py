from __future__ import annotations

import gzip
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.export.geojson import CLASS_COLOURS, GeoJsonWriter
from wsipsm.export.geojson_check import check_geojson
from wsipsm.facts import FileFacts
from wsipsm.geometry import Box, Size
from wsipsm.instances.table import build_table
from wsipsm.instances.trace import trace_outlines
from wsipsm.keys import Column, QuPathFrame
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame

SIZE = Size(2000, 1500)


def slide_info(reader: str = "openslide", bounds: Box | None = None, size: Size = SIZE) -> SlideInfo:
    return SlideInfo("slide.svs", reader, (size,), 0.25, "f1", bounds=bounds)


def nuclei_table(polygons: list[shapely.Geometry], dab: bool = True, **changes: Any) -> pa.Table:
    n = len(polygons)
    values = np.linspace(0.1, 0.9, n, dtype=np.float32)
    measured = {Column.PROBABILITY: values, Column.HEMATOXYLIN_OD: values / 2}
    if dab:
        measured[Column.DAB_OD] = values
    return build_table(
        np.array(polygons, dtype=object),
        measured,
        mpp_px0=0.25,
        fingerprint="f1",
        dab_cut_od=0.5 if dab else None,
        **changes,
    )


def written(
    path: Path, table: pa.Table | list[pa.Table], frame: SlideFrame | None = None, **options: Any
) -> dict[str, Any]:
    with GeoJsonWriter(path, frame or SlideFrame.of(slide_info()), **options) as writer:
        for part in table if isinstance(table, list) else [table]:
            writer.add(part)
    return orjson.loads(gzip.decompress(path.read_bytes()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cells.geojson.gz"


def test_a_feature_says_what_the_table_says(path: Path) -> None:
    table = nuclei_table([shapely.box(10, 20, 40, 60), shapely.box(100, 120, 130, 160)])
    first, second = written(path, table)["features"]
    assert check_geojson(path, SIZE) == []
    assert first["id"] == table["nucleus_id"][0].as_py()
    assert first["geometry"]["type"] == "Polygon"
    assert shapely.Polygon(first["geometry"]["coordinates"][0]).equals(shapely.box(10, 20, 40, 60))
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["classification"] == {"name": "Negative", "color": [112, 112, 225]}
    assert second["properties"]["classification"] == {"name": "Positive", "color": [250, 62, 62]}
    measurements = second["properties"]["measurements"]
    assert measurements["Nucleus: DAB OD mean"] == pytest.approx(0.9)
    assert measurements["Nucleus: Hematoxylin OD mean"] == pytest.approx(0.45)
    assert measurements["Area µm^2"] == pytest.approx(30 * 40 / 16)
    assert "Positive probability" not in measurements
    assert {"Length µm", "Circularity", "Solidity", "Detection probability"} < set(measurements)


def test_plain_nuclei_have_no_dab_and_their_own_class(path: Path) -> None:
    (feature,) = written(path, nuclei_table([shapely.box(0, 0, 20, 20)], dab=False))["features"]
    assert feature["properties"]["classification"] == {"name": "Nucleus", "color": list(CLASS_COLOURS["Nucleus"])}
    assert "Nucleus: DAB OD mean" not in feature["properties"]["measurements"]
    assert check_geojson(path, SIZE) == []


def test_layout_is_one_ascii_line_a_feature_and_the_same_bytes(path: Path, tmp_path: Path) -> None:
    table = nuclei_table([shapely.box(30 * i, 0, 30 * i + 20, 20) for i in range(5)])
    run = FileFacts("fälle", "f" * 64, QuPathFrame.CROPPED)
    whole = written(path, table, run=run)
    assert whole["wsipsm"] == asdict(run)
    text = gzip.decompress(path.read_bytes())
    assert text.isascii()
    lines = text.splitlines()
    assert len(lines) == 1 + 5 + 1
    assert all(json.loads(line.rstrip(b",")) for line in lines[1:-1])
    other = tmp_path / "other.geojson.gz"
    written(other, [table.slice(0, 2), table.slice(2, 0), table.slice(2)], run=run)
    assert other.read_bytes() == path.read_bytes()
    plain = tmp_path / "plain.geojson"
    with GeoJsonWriter(plain, SlideFrame.of(slide_info()), run) as writer:
        writer.add(table)
    assert plain.read_bytes() == text


def test_missing_and_non_finite_values_are_left_out(path: Path) -> None:
    table = nuclei_table([shapely.box(0, 0, 20, 20), shapely.box(30, 0, 50, 20)])
    column = table.schema.get_field_index("dab_od_mean")
    table = table.set_column(column, table.schema.field(column), pa.array([None, 0.5], pa.float32()))
    column = table.schema.get_field_index("solidity")
    table = table.set_column(column, table.schema.field(column), pa.array([np.nan, 0.9], pa.float32()))
    first, second = written(path, table)["features"]
    assert set(second["properties"]["measurements"]) - set(first["properties"]["measurements"]) == {
        "Nucleus: DAB OD mean",
        "Solidity",
    }
    assert check_geojson(path, SIZE) == []


BOUNDS = Box(400, 300, 1000, 900)


@pytest.mark.parametrize(
    ("info", "qupath", "origin"),
    [
        (slide_info("openslide", BOUNDS), "cropped", (400, 300)),
        (slide_info("openslide", BOUNDS), "full", (0, 0)),
        (slide_info("tiff", BOUNDS), "cropped", (400, 300)),
        (slide_info("openslide", None), "cropped", (0, 0)),
    ],
)
def test_bounds_are_subtracted_only_as_qupath_does(
    path: Path, info: SlideInfo, qupath: str, origin: tuple[int, int]
) -> None:
    table = nuclei_table([shapely.box(500, 450, 520, 480)])
    frame = SlideFrame.of(info, qupath)
    (feature,) = written(path, table, frame)["features"]
    ring = shapely.Polygon(feature["geometry"]["coordinates"][0])
    assert ring.bounds == (500 - origin[0], 450 - origin[1], 520 - origin[0], 480 - origin[1])
    box = frame.shown
    assert (box.x, box.y) == origin
    assert check_geojson(path, Size(box.width, box.height)) == []


def test_nuclei_at_the_edge_are_cut_and_outside_dropped(path: Path) -> None:
    info = slide_info("openslide", BOUNDS)
    table = nuclei_table(
        [shapely.box(390, 290, 420, 330), shapely.box(10, 10, 30, 30), shapely.box(500, 400, 520, 420)]
    )
    with GeoJsonWriter(path, SlideFrame.of(info)) as writer:
        writer.add(table)
    assert (writer.n_written, writer.n_repaired, writer.n_dropped) == (2, 1, 1)
    features = orjson.loads(gzip.decompress(path.read_bytes()))["features"]
    assert shapely.Polygon(features[0]["geometry"]["coordinates"][0]).bounds == (0, 0, 20, 30)
    assert check_geojson(path, Size(1000, 900)) == []


def test_outlines_that_rounding_breaks_are_repaired_or_dropped(path: Path) -> None:
    neck = shapely.Polygon([(0, 0), (20, 0), (20, 20), (10.004, 0.004), (0, 20)])  # the neck closes at 0.01
    sliver = shapely.box(50, 50, 70, 50.001)
    twice = shapely.Polygon([(100, 100), (120, 100), (120.001, 100.001), (120, 120), (100, 120)])
    with GeoJsonWriter(path, SlideFrame.of(slide_info())) as writer:
        writer.add(nuclei_table([neck, sliver, twice]))
    assert (writer.n_written, writer.n_repaired, writer.n_dropped) == (2, 2, 1)
    assert check_geojson(path, SIZE) == []


def test_holes_are_written(path: Path) -> None:
    ring = shapely.box(0, 0, 100, 100).difference(shapely.box(40, 40, 60, 60))
    (feature,) = written(path, nuclei_table([ring]))["features"]
    assert len(feature["geometry"]["coordinates"]) == 2
    assert check_geojson(path, SIZE) == []


def test_no_nuclei_is_a_file_that_reads_as_nothing(path: Path) -> None:
    assert written(path, nuclei_table([]))["features"] == []
    assert check_geojson(path) == []
    with GeoJsonWriter(path, SlideFrame.of(slide_info())) as writer:
        writer.close()
        writer.close()
    assert check_geojson(path) == []


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.9, 4.5), shift=st.integers(0, 100_000))
@settings(max_examples=15, deadline=None)
def test_traced_nuclei_always_pass_the_checker(
    tmp_path_factory: pytest.TempPathFactory, seed: int, scale: float, shift: int
) -> None:
    """Any scale from working to level-0 pixels leaves coordinates that need rounding."""
    from scipy import ndimage
    from skimage.measure import label

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(60, 60)), 1.2)
    parts = label(noise > 0.1, connectivity=1).astype(np.int32)
    for part in range(1, parts.max() + 1):
        parts[ndimage.binary_fill_holes(parts == part)] = part
    outlines = trace_outlines(parts, (shift, 2 * shift), scale)
    path = tmp_path_factory.mktemp("geo") / "cells.geojson"
    info = slide_info(size=Size(math.ceil((shift + 60) * scale), math.ceil((2 * shift + 60) * scale)))
    with GeoJsonWriter(path, SlideFrame.of(info)) as writer:
        writer.add(nuclei_table(list(outlines.polygons)))
    assert writer.n_written == len(outlines.labels) - writer.n_dropped
    assert writer.n_dropped == 0
    assert check_geojson(path, info.size) == []
    areas = [shapely.Polygon(f["geometry"]["coordinates"][0]).area for f in orjson.loads(path.read_bytes())["features"]]
    np.testing.assert_allclose(areas, shapely.area(outlines.polygons), rtol=0.05)

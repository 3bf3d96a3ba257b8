"""Regions drawn in QuPath: every form it writes is read, offsets and exclusions count, bad files are told apart."""

from __future__ import annotations

import gzip
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.errors import RoiError
from wsipsm.facts import PolygonFacts
from wsipsm.geometry import Box, Size
from wsipsm.region import PolygonRegion, Region, document, read_roi
from wsipsm.slide.base import SlideInfo

INFO = SlideInfo("slide.svs", "openslide", (Size(10_000, 8_000),), 0.25, "0")
BOUNDED = SlideInfo("slide.mrxs", "openslide", (Size(10_000, 8_000),), 0.25, "0", Box(1000, 2000, 5000, 5000))

Json = Any


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x, y + side], [x + side, y + side], [x + side, y], [x, y]]


def feature(*rings: list[list[float]], kind: str | None = "annotation", **properties: Json) -> dict[str, Json]:
    named = {"objectType": kind} if kind is not None else {}
    return {
        "type": "Feature",
        "id": "d3b7a0f2-51c5-4f0e-9d0b-6f8f2f3f6a10",
        "geometry": {"type": "Polygon", "coordinates": list(rings)},
        "properties": {**named, **properties},
    }


def collection(*features: Json) -> dict[str, Json]:
    return {"type": "FeatureCollection", "features": list(features)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_json(document: Json, name: str = "roi.geojson") -> Path:
        path = tmp_path / name
        path.write_bytes(document if isinstance(document, bytes) else orjson.dumps(document))
        return path

    return write_json


TUMOUR = feature(square(100, 200, 1000), name="Tumour 1", classification={"name": "Tumor", "color": [200, 0, 0]})


@pytest.mark.parametrize(
    "document",
    [
        collection(TUMOUR),
        TUMOUR,
        [TUMOUR],
        [collection(TUMOUR)],
        TUMOUR["geometry"],
        {"type": "MultiPolygon", "coordinates": [[square(100, 200, 1000)]]},
        feature(square(100, 200, 1000), kind=None),
        feature(square(100, 200, 1000)[::-1], kind="unknown"),
        feature(square(100, 200, 1000)[:-1]),
        feature([[*xy, 0] for xy in square(100, 200, 1000)]),
    ],
)
def test_every_wrapping_is_read(document: Json, write: Callable[..., Path]) -> None:
    read = read_roi(write(document), INFO)
    assert read.area_px0() == 1_000_000
    assert read.shape.bounds == (100, 200, 1100, 1200)
    assert read.notes == ()


def test_gz_and_zip_are_read(tmp_path: Path) -> None:
    compressed = tmp_path / "roi.geojson.gz"
    compressed.write_bytes(gzip.compress(orjson.dumps(collection(TUMOUR))))
    assert read_roi(compressed, INFO).name == "Tumour 1"
    archive = tmp_path / "roi.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.geojson", orjson.dumps(collection(TUMOUR)))
        file.writestr("README.txt", "not read")
        file.writestr("part/b.json", b"\xef\xbb\xbf" + orjson.dumps(feature(square(5000, 5000, 100), name="Tumour 2")))
    both = read_roi(archive, INFO)
    assert both.name == "Tumour 1, Tumour 2"
    assert both.area_px0() == 1_010_000


def test_bare_nan_of_old_qupath_is_read(write: Callable[..., Path]) -> None:
    text = orjson.dumps({**TUMOUR, "measurements": {"Area": -1}}).replace(b"-1}", b"NaN}")
    assert b"NaN" in text
    assert read_roi(write(text), INFO).area_px0() == 1_000_000


def test_bounds_are_added(write: Callable[..., Path]) -> None:
    assert read_roi(write(TUMOUR), BOUNDED).shape.bounds == (1100, 2200, 2100, 3200)


@pytest.mark.parametrize(
    "properties",
    [
        {"classification": {"name": "Ignore*", "color": [180, 180, 180]}},
        {"classification": {"names": ["Tumor", "ignore"], "color": [1, 2, 3]}},
        {"classification": "Tumor: Ignore*"},
        {"classification": {"name": "EXCLUDE"}},
        {"name": "exclude"},
        {"name": "Ignore 2", "classification": None},
    ],
)
def test_excluded_areas_are_cut_out(properties: dict[str, Json], write: Callable[..., Path]) -> None:
    read = read_roi(write(collection(feature(square(200, 300, 100), **properties), TUMOUR)), INFO)
    assert read.area_px0() == 990_000
    assert read.contains(np.array([[250.0, 350.0], [350.0, 350.0]])).tolist() == [False, True]
    assert read.name == "Tumour 1"


def test_holes_and_parts_are_kept_and_overlaps_count_once(write: Callable[..., Path]) -> None:
    holed = feature(square(0, 0, 1000), square(400, 400, 200))
    parts = {"type": "MultiPolygon", "coordinates": [[square(500, 0, 1000)], [square(3000, 3000, 10)]]}
    read = read_roi(write(collection(holed, {**holed, "geometry": parts})), INFO)
    # The second polygon covers half of the hole.
    assert read.area_px0() == 1500 * 1000 - 100 * 200 + 100
    assert read.facts().n_parts == 2
    assert read.name == "ROI"


def test_other_objects_are_left_out_with_a_note(write: Callable[..., Path]) -> None:
    point = {**TUMOUR, "geometry": {"type": "Point", "coordinates": [1, 2]}}
    root = {**TUMOUR, "geometry": {"type": "Polygon", "coordinates": []}, "properties": {"objectType": "root"}}
    plane = feature(square(0, 0, 10))
    plane["geometry"]["plane"] = {"c": -1, "z": 3, "t": 0}
    others = [
        feature(square(0, 0, 10), kind="detection"),
        feature(square(0, 0, 10), kind="tmaCore"),
        point,
        root,
        plane,
        {**TUMOUR, "geometry": None},
        feature([[0, 0], [10, 0], [20, 0], [0, 0]]),
    ]
    read = read_roi(write(collection(*others, TUMOUR)), INFO)
    assert read.area_px0() == 1_000_000
    (note,) = read.notes
    for part in (
        "1 detection",
        "1 TMA core (--tma-cores takes them)",
        "1 Point",
        "1 root object",
        "1 object of another plane than the first",
        "1 object without geometry",
        "1 polygon without area",
    ):
        assert part in note


def test_what_is_left_out_is_counted(write: Callable[..., Path]) -> None:
    cells = [feature(square(0, 0, 10), kind="detection")] * 500
    (note,) = read_roi(write(collection(*cells, TUMOUR)), INFO).notes
    assert "left out: 500 detections;" in note


def test_what_lies_outside_the_slide_is_cut_off(write: Callable[..., Path]) -> None:
    read = read_roi(write(feature(square(9_500, 7_500, 1000))), INFO)
    assert read.area_px0() == 250_000
    assert "75%" in read.notes[0]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "no valid JSON"),
        (b"[" * 100_000, "no valid JSON|nested"),
        (b'{"type":"FeatureCollection","features":[', "no valid JSON"),
        (b"\xff\xfe\x00\x01", "no valid JSON"),
        (orjson.dumps({}), "object without a type"),
        (orjson.dumps(3), "a int"),
        (orjson.dumps([None]), "a NoneType"),
        (orjson.dumps({"type": "FeatureCollection"}), "without a list"),
        (orjson.dumps(collection()), "at least one polygon"),
        (orjson.dumps(collection(feature(square(0, 0, 5), kind="cell"))), "no annotation.*left out: 1 cell;"),
        (orjson.dumps(feature([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]], name="X")), r"feature 1 \('X'\).*5 5"),
        (orjson.dumps(feature(square(0, 0, 10), square(5, 5, 20))), "not valid"),
        (orjson.dumps(feature([[0, 0], ["a", 1], [2, 2], [0, 0]])), "no list of"),
        (orjson.dumps(feature([[0, 0], [1], [2, 2], [0, 0]])), "no list of|no finite"),
        (orjson.dumps(feature([[0, 0], [1e300, 1], [2, 2], [0, 0]])), "no finite"),
        (orjson.dumps({"type": "Polygon", "coordinates": 7}), "no list"),
        (orjson.dumps({"type": "Polygon", "coordinates": {"a": 1}}), "no list"),
        (orjson.dumps({"type": "MultiPolygon", "coordinates": [7]}), "no list of rings"),
        (orjson.dumps(feature(square(20_000, 300, 50))), "20000 to 20050.*0 to 10000"),
        (orjson.dumps(collection(TUMOUR, feature(square(0, 0, 5000), name="ignore"))), "cover all"),
        (orjson.dumps(feature(square(-10, -10, 20_000), name="Ignore")), "cover all"),
    ],
)
def test_unusable_files_say_why(document: bytes, says: str, write: Callable[..., Path]) -> None:
    with pytest.raises(RoiError, match=says) as raised:
        read_roi(write(document), INFO)
    assert "roi.geojson" in str(raised.value)


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    with pytest.raises(RoiError, match="cannot be read"):
        read_roi(tmp_path / "absent.geojson", INFO)
    for name, content in (("a.txt", b"{}"), ("b.gz", b""), ("none", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RoiError, match="of type"):
            read_roi(tmp_path / name, INFO)
    for name in ("cut.json.gz", "bad.zip"):
        (tmp_path / name).write_bytes(gzip.compress(b"[1, 2, 3]" * 50)[:-9])
        with pytest.raises(RoiError, match="cannot be read"):
            read_roi(tmp_path / name, INFO)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("README.txt", "nothing")
    with pytest.raises(RoiError, match=r"no \.geojson or \.json entry"):
        read_roi(tmp_path / "empty.zip", INFO)
    (tmp_path / "folder.geojson").mkdir()
    with pytest.raises(RoiError, match="cannot be read"):
        read_roi(tmp_path / "folder.geojson", INFO)


def test_large_files_stop_after_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_ROI_BYTES", 1_000_000)
    bomb = b" " * 5_000_000
    (tmp_path / "a.geojson").write_bytes(bomb)
    (tmp_path / "b.geojson.gz").write_bytes(gzip.compress(bomb))
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1.json", b"[]" + b" " * 900_000)
        file.writestr("2.json", b"[]" + b" " * 900_000)
    for name in ("a.geojson", "b.geojson.gz", "c.zip"):
        with pytest.raises(RoiError, match="GeoJSON; a region of interest is far smaller"):
            read_roi(tmp_path / name, INFO)


SCALARS = st.none() | st.integers() | st.floats() | st.text(max_size=3)


@settings(max_examples=50)
@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4)), st.sampled_from(["Polygon", "MultiPolygon"]))
def test_any_coordinates_give_a_roi_error(
    tmp_path_factory: pytest.TempPathFactory, coordinates: Json, kind: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.geojson"
    path.write_text(json.dumps({"type": kind, "coordinates": coordinates}))
    with pytest.raises(RoiError):
        read_roi(path, INFO)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=50))
def test_contains_agrees_with_shapely_point_by_point(points: list[tuple[float, float]]) -> None:
    shape = shapely.Point(50, 50).buffer(40).difference(shapely.box(40, 40, 60, 70))
    assert isinstance(shape, shapely.Polygon)
    found = PolygonRegion(shape, "ring").contains(np.array(points))
    assert found.tolist() == [shape.contains(shapely.Point(point)) for point in points]


@given(st.integers(-20, 120), st.integers(-20, 120), st.integers(0, 30), st.integers(0, 30))
def test_touches_agrees_with_shapely(x: int, y: int, width: int, height: int) -> None:
    shape = shapely.Polygon([(10, 10), (90, 30), (50, 95)], [[(45, 40), (55, 40), (50, 55)]])
    touched = PolygonRegion(shape, "triangle").touches(Box(x, y, width, height))
    if width * height == 0:
        assert not touched
    elif shape.intersection(shapely.box(x, y, x + width, y + height)).area > 0:
        assert touched
    elif shape.disjoint(shapely.box(x, y, x + width, y + height)):
        assert not touched


def test_dictionary_names_the_outline_whatever_its_order(write: Callable[..., Path]) -> None:
    region: Region = read_roi(write(TUMOUR), INFO)
    facts = region.facts()
    assert (facts.kind, facts.name, facts.n_parts) == ("polygon", "Tumour 1", 1)
    turned = read_roi(write(feature(square(100, 200, 1000)[::-1]), "b.json"), INFO).facts()
    other = read_roi(write(feature(square(100, 200, 1001)), "c.json"), INFO).facts()
    assert facts.hash == turned.hash != other.hash
    assert PolygonFacts.model_validate_json(orjson.dumps(facts.to_dict())) == facts


def test_a_region_is_the_same_in_another_process(write: Callable[..., Path]) -> None:
    hole = feature(square(300, 400, 50), classification={"name": "Ignore*"})
    region = read_roi(write(collection(TUMOUR, hole)), INFO)
    copied = pickle.loads(pickle.dumps(region))
    assert isinstance(copied, PolygonRegion)
    assert copied.facts() == region.facts()
    assert (copied.name, copied.notes, copied.parts) == (region.name, region.notes, region.parts)
    xy_px0 = np.random.default_rng(0).uniform(0, 1500, (500, 2))
    np.testing.assert_array_equal(copied.contains(xy_px0), region.contains(xy_px0))

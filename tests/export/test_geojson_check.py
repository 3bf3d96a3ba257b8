from __future__ import annotations

import copy
import gzip
import json
import tracemalloc
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsipsm.export.geojson_check import MAX_ANNOTATIONS, check_geojson, examine_geojson
from wsipsm.geometry import Size

SIZE = Size(30_000, 40_000)
# Both examples come from the reference that five versions of QuPath were seen to read.
NUCLEUS = json.loads(
    '{"type":"Feature","id":"6f1d2c1e-9f0a-4c0b-8d57-0d2f8d1a7c11","geometry":{"type":"Polygon","coordinates":'
    "[[[10512.5,20340],[10518,20336.5],[10526,20338],[10529.5,20346],[10524,20353.5],[10515,20352],[10512.5,20340]]]},"
    '"properties":{"objectType":"detection","classification":{"name":"Positive","color":[250,62,62]},"measurements":'
    '{"Area \\u00b5m^2":52.18,"Nucleus: DAB OD mean":0.4132,"Nucleus: Hematoxylin OD mean":0.2051}}}'
)
REGION = json.loads(
    '{"type":"Feature","id":"d3b7a0f2-51c5-4f0e-9d0b-6f8f2f3f6a10","geometry":{"type":"Polygon","coordinates":'
    "[[[10000, 20000],[10000, 22000],[13500.5, 22000],[13500.5, 20000],[10000, 20000]]]},"
    '"properties":{"objectType":"annotation","name":"Tumour 1","classification":{"name":"Tumor","color":[200, 0, 0]},'
    '"isLocked":true}}'
)
SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def by_line(*features: Any) -> str:
    lines = ",\n".join(json.dumps(feature) for feature in features)
    return f'{{"type":"FeatureCollection","features":[\n{lines}\n]}}\n'


def rules_of(path: Path, size: Size | None = SIZE) -> list[str]:
    return [problem.rule for problem in examine_geojson(path, size).problems]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes, name: str = "cells.geojson") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def square(x: float, y: float, side: float = 10) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.geojson.gz", "a.json.gz", "A.GeoJSON"])
@pytest.mark.parametrize("lay_out", [by_line, lambda *f: json.dumps(collection(*f), indent=2)])
def test_sound_files_have_no_problems(write: Callable[..., Path], name: str, lay_out: Callable[..., str]) -> None:
    text = lay_out(NUCLEUS, REGION).encode()
    path = write(gzip.compress(text) if name.endswith(".gz") else text, name)
    assert check_geojson(path, SIZE) == []
    report = examine_geojson(path)
    assert (report.n_features, report.notes) == (2, [])


def sound_variants() -> dict[str, Any]:
    cell = copy.deepcopy(NUCLEUS)
    cell["properties"]["objectType"] = "cell"
    cell["geometry"]["coordinates"] = [square(100, 100, 30)]
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [square(110, 110)]}
    derived = copy.deepcopy(NUCLEUS)
    derived["properties"]["classification"] = {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}
    points = copy.deepcopy(REGION)
    points["geometry"] = {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4.25]]}
    point = copy.deepcopy(REGION)
    point["geometry"] = {"type": "Point", "coordinates": [1, 2]}
    holed = copy.deepcopy(REGION)
    holed["geometry"]["coordinates"] = [square(0, 0, 100), square(10, 10)]
    multi = copy.deepcopy(REGION)
    multi["geometry"] = {"type": "MultiPolygon", "coordinates": [[square(0, 0)], [square(50, 0)]]}
    plane = copy.deepcopy(REGION)
    plane["geometry"]["plane"] = {"c": -1, "z": 0, "t": 0}
    bare = {k: v for k, v in REGION.items() if k != "properties"} | {"properties": {"objectType": "annotation"}}
    return locals()


@pytest.mark.parametrize("name", list(sound_variants()))
def test_sound_variants(write: Callable[..., Path], name: str) -> None:
    assert check_geojson(write(by_line(sound_variants()[name])), SIZE) == []


def at(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(feature: dict[str, Any]) -> None:
        for key in path[:-1]:
            feature = feature[key]  # type: ignore[index]
        feature[path[-1]] = value  # type: ignore[index]

    return change


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(feature: dict[str, Any]) -> None:
        for key in path[:-1]:
            feature = feature[key]
        del feature[path[-1]]

    return change


CLASS = ("properties", "classification")
RINGS = ("geometry", "coordinates")
BROKEN_FEATURES: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("feature", at("type", value="feature")),
    ("id", without("id")),
    ("id", at("id", value=7)),
    ("id", at("id", value="nucleus-7")),
    ("id", at("id", value="{6f1d2c1e-9f0a-4c0b-8d57-0d2f8d1a7c11}")),
    ("geometry", without("geometry")),
    ("properties", without("properties")),
    ("object-type", without("properties", "objectType")),
    ("object-type", at("properties", "objectType", value="Detection")),
    ("object-type", at("properties", "objectType", value="nucleus")),
    ("null", at(*CLASS, "note", value=None)),
    ("null", at("bbox", value=[1, None])),
    ("name", at("properties", "name", value=3)),
    ("is-locked", at("properties", "isLocked", value="true")),
    ("colour", at("properties", "color", value="#ff0000")),
    ("metadata", at("properties", "metadata", value={"a": "b"})),
    ("classification", at(*CLASS, value="Positive")),
    ("classification", without(*CLASS, "name")),
    ("classification", at(*CLASS, value={"names": ["Tumor"], "color": [1, 2, 3]})),
    ("classification", at(*CLASS, "names", value=["Tumor", "Positive"])),
    ("class-name", at(*CLASS, "name", value="  ")),
    ("class-name", at(*CLASS, "name", value="Tumor: Positive")),
    ("class-name", at(*CLASS, "name", value="Tumor\nPositive")),
    ("class-name", at(*CLASS, "name", value="Positive ")),
    ("class-name", at(*CLASS, "name", value=4)),
    ("colour", without(*CLASS, "color")),
    ("colour", at(*CLASS, "color", value=-65536)),
    ("colour", at(*CLASS, "color", value=[250, 62])),
    ("colour", at(*CLASS, "color", value=[250, 62, 256])),
    ("colour", at(*CLASS, "color", value=[250, 62, 61.5])),
    ("colour", at(*CLASS, "color", value=[250, 62, True])),
    ("colour", at(*CLASS, "colorRGB", value=-377282)),
    ("measurements", at("properties", "measurements", value=[{"name": "Area", "value": 1}])),
    ("measurement-name", at("properties", "measurements", " ", value=1)),
    ("measurement-value", at("properties", "measurements", "Area", value="12")),
    ("measurement-value", at("properties", "measurements", "Area", value=True)),
    ("measurement-value", at("properties", "measurements", "Area", value=1e300)),
    ("geometry-type", at("geometry", value={"type": "LineString", "coordinates": [[0, 0], [1, 1]]})),
    ("geometry-type", at("geometry", value={"type": "GeometryCollection", "geometries": []})),
    ("empty", at(*RINGS, value=[])),
    ("empty", at("geometry", value={"type": "MultiPolygon", "coordinates": [[square(0, 0)], []]})),
    ("multipolygon", at("geometry", value={"type": "MultiPolygon", "coordinates": [[square(0, 0)]]})),
    ("plane", at("geometry", "plane", value={"z": "first"})),
    ("plane", at("geometry", "plane", value={"c": -1, "z": 0.5, "t": 0})),
    ("plane", at("geometry", "plane", value={"c": -1, "z": 0, "t": True})),
    ("empty", at("geometry", value={"type": "Point", "coordinates": []})),
    ("empty", at("geometry", value={"type": "MultiPolygon", "coordinates": []})),
    ("empty", at("geometry", value={"type": "MultiPolygon", "coordinates": 5})),
    ("empty", at("geometry", value={"type": "Point", "coordinates": "1, 2"})),
    ("position", at(*RINGS, 0, 2, value=[1, 2, 3])),
    ("position", at(*RINGS, 0, 2, value=["1", "2"])),
    ("position", at(*RINGS, 0, 2, value=[1, None])),
    ("position", at(*RINGS, 0, 2, value=[1, True])),
    ("position", at(*RINGS, 0, 2, value=5)),
    ("position", at(*RINGS, 0, 2, value=[1, 10**400])),
    ("position", at(*RINGS, 0, value=[])),
    ("decimals", at(*RINGS, value=[[[0, 0], [10.125, 0], [10, 10], [0, 10], [0, 0]]])),
    ("ring-closed", at(*RINGS, value=[SQUARE[:-1]])),
    ("ring-length", at(*RINGS, value=[[[0, 0], [1, 1], [0, 0]]])),
    ("area", at(*RINGS, value=[[[0, 0], [9, 0], [4, 0], [0, 0]]])),
    ("area", at(*RINGS, value=[square(0, 0, 0.05)])),
    ("repeated", at(*RINGS, value=[[[0, 0], [10, 0], [10, 0], [10, 10], [0, 10], [0, 0]]])),
    ("valid", at(*RINGS, value=[[[0, 0], [10, 10], [14, 0], [0, 10], [0, 0]]])),
    ("valid", at(*RINGS, value=[square(0, 0), square(20, 20)])),
    ("valid", at("geometry", value={"type": "MultiPolygon", "coordinates": [[square(0, 0)], [square(5, 5)]]})),
    ("bounds", at(*RINGS, value=[square(-1, 0)])),
    ("bounds", at(*RINGS, value=[square(29_995, 0)])),
    ("bounds", at(*RINGS, value=[square(0, 39_995)])),
    ("cell", at("nucleusGeometry", value={"type": "Polygon", "coordinates": [square(0, 0)]})),
    ("cell", at("properties", "nucleusGeometry", value={"type": "Polygon", "coordinates": [square(0, 0)]})),
]


@pytest.mark.parametrize("lay_out", [by_line, lambda *f: json.dumps(collection(*f), indent=1)], ids=["lines", "whole"])
@pytest.mark.parametrize(
    ("rule", "change"), BROKEN_FEATURES, ids=[f"{i}-{r}" for i, (r, _) in enumerate(BROKEN_FEATURES)]
)
def test_each_rule_of_a_feature(
    write: Callable[..., Path], rule: str, change: Callable[[dict[str, Any]], None], lay_out: Callable[..., str]
) -> None:
    broken = copy.deepcopy(NUCLEUS)
    change(broken)
    path = write(lay_out(REGION, broken))
    # A null coordinate breaks no other rule than that of positions.
    assert rules_of(path) == [rule]
    (message,) = check_geojson(path, SIZE)
    assert "feature 1" in message
    assert message.endswith(f"[{rule}]")
    if isinstance(broken.get("id"), str) and rule != "feature":
        assert broken["id"] in message


def test_cell_with_a_nucleus_outside_or_broken(write: Callable[..., Path]) -> None:
    cell = sound_variants()["cell"]
    cell["nucleusGeometry"]["coordinates"] = [square(125, 110)]
    assert rules_of(write(by_line(cell))) == ["cell"]
    cell["nucleusGeometry"]["coordinates"] = [[[110, 110], [120, 120], [124, 110], [110, 120], [110, 110]]]
    assert rules_of(write(by_line(cell))) == ["valid"]


def test_rules_across_features(write: Callable[..., Path]) -> None:
    twin = copy.deepcopy(NUCLEUS)
    twin["id"] = NUCLEUS["id"].upper()
    assert rules_of(write(by_line(NUCLEUS, twin))) == ["id-unique"]
    recoloured = copy.deepcopy(NUCLEUS)
    recoloured["id"] = str(uuid.UUID(int=9))
    recoloured["properties"]["classification"]["color"] = [0, 0, 0]
    assert rules_of(write(by_line(NUCLEUS, recoloured))) == ["one-colour"]


def test_members_that_are_no_features(write: Callable[..., Path]) -> None:
    for member in (None, 3, [], {}, "Feature"):
        assert rules_of(write(by_line(NUCLEUS, member))) == ["feature"]


def test_detections_that_cover_more_than_the_image(write: Callable[..., Path]) -> None:
    features = []
    for number in range(3):
        feature = copy.deepcopy(NUCLEUS)
        feature["id"] = str(uuid.UUID(int=number))
        feature["geometry"]["coordinates"] = [square(0, 0, 90)]
        features.append(feature)
    assert rules_of(write(by_line(*features)), Size(100, 100)) == ["total-area"]
    assert rules_of(write(by_line(*features)), None) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("json", ""),
        ("json", "{"),
        ("json", json.dumps(collection(NUCLEUS)) + " []"),
        ("json", json.dumps(NUCLEUS) + "\n" + json.dumps(REGION)),
        ("json", by_line(NUCLEUS) + "more"),
        ("json", by_line(NUCLEUS, REGION)[:-3]),
        ("json", by_line(NUCLEUS, REGION)[:-60]),
        ("json", by_line(NUCLEUS, REGION)[:700]),
        ("json", by_line(NUCLEUS, REGION).replace("},\n{", "}\n{")),
        ("json", by_line(NUCLEUS).replace("}\n]", "},\n]")),
        ("json", "[" * 100_000),
        ("nan-token", by_line(NUCLEUS).replace("52.18", "NaN")),
        ("nan-token", json.dumps(collection(NUCLEUS), indent=1).replace("52.18", "-Infinity")),
        ("duplicate-key", by_line(NUCLEUS).replace('"objectType"', '"objectType": "cell", "objectType"')),
        ("duplicate-key", by_line(NUCLEUS).replace('{"type":"FeatureC', '{"a":1,"a":2,"type":"FeatureC')),
        ("collection", by_line(NUCLEUS).replace("FeatureCollection", "Features")),
        ("collection", json.dumps(NUCLEUS)),
        ("collection", json.dumps([NUCLEUS])),
        ("collection", '{"type":"FeatureCollection"}'),
        ("collection", '{"type":"FeatureCollection","features":{}}'),
        ("bom", b"\xef\xbb\xbf" + by_line(NUCLEUS).encode()),
        ("encoding", by_line(NUCLEUS).replace("\\u00b5", "µ").encode("latin-1")),
    ],
)
def test_each_rule_of_a_file(write: Callable[..., Path], rule: str, text: str | bytes) -> None:
    assert rules_of(write(text)) == [rule]


@pytest.mark.parametrize("name", ["cells.txt", "cells.gz", "cells.geojson.bz2"])
def test_names_that_qupath_does_not_read(write: Callable[..., Path], name: str) -> None:
    text = by_line(NUCLEUS).encode()
    assert rules_of(write(gzip.compress(text) if name.endswith(".gz") else text, name)) == ["file-name"]


def test_damaged_compression(write: Callable[..., Path]) -> None:
    whole = gzip.compress(by_line(NUCLEUS, REGION).encode())
    assert rules_of(write(whole[:-20], "a.geojson.gz")) == ["compression"]
    assert rules_of(write(b"plain text", "b.geojson.gz")) == ["compression"]
    assert rules_of(write(b"PK\x03\x04 and no more", "c.zip")) == ["compression"]


def test_zip_entries(tmp_path: Path) -> None:
    path = tmp_path / "parts.zip"

    def pack(**entries: str) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in entries.items():
                archive.writestr(name.replace("_", "."), text)
        return path

    assert rules_of(pack(a_geojson=by_line(NUCLEUS), b_json=by_line(REGION))) == []
    assert rules_of(pack(a_geojson=by_line(NUCLEUS), b_geojson=by_line(NUCLEUS))) == ["id-unique"]
    assert rules_of(pack(a_geojson=by_line(NUCLEUS), README_txt="hello")) == ["zip-entry"]
    assert rules_of(pack(a_geojson=by_line(NUCLEUS), b_geojson="{")) == ["json"]
    assert check_geojson(path)[0].startswith("b.geojson: ")
    assert rules_of(pack()) == ["zip-entry"]


def test_no_features_is_no_problem_but_is_said(write: Callable[..., Path]) -> None:
    for text in (by_line(), json.dumps(collection())):
        report = examine_geojson(write(text), SIZE)
        assert report.problems == []
        assert "no features" in report.notes[0]


@pytest.mark.parametrize(("n_more", "is_told"), [(0, False), (1, True)])
def test_many_annotations_are_told_and_detections_are_not_counted(
    write: Callable[..., Path], n_more: int, is_told: bool
) -> None:
    places = [(10 * (n % 1000), 10 * (n // 1000)) for n in range(MAX_ANNOTATIONS + n_more)]
    annotations = [
        {**REGION, "id": str(uuid.UUID(int=n)), "geometry": {"type": "Polygon", "coordinates": [square(x, y)]}}
        for n, (x, y) in enumerate(places)
    ]
    report = examine_geojson(write(by_line(*annotations, NUCLEUS)), SIZE)
    assert report.problems == []
    assert (f"{MAX_ANNOTATIONS + 1} annotations make QuPath slow; detections are lighter." in report.notes) is is_told


def test_line_layout_that_breaks_off_later_is_read_whole(write: Callable[..., Path]) -> None:
    text = by_line(NUCLEUS).replace("}\n]}", "},\n" + json.dumps(REGION, indent=2) + "]}")
    assert json.loads(text)
    report = examine_geojson(write(text), SIZE)
    assert report.problems == []
    assert report.n_features == 2


def test_many_problems_are_counted_not_kept(write: Callable[..., Path]) -> None:
    path = write(by_line(*[{"type": "no"}] * 1500))
    problems = check_geojson(path)
    assert len(problems) == 1001
    assert problems[-1] == "and 500 more problems"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def most_memory(n: int) -> int:
        path = tmp_path / f"{n}.geojson.gz"
        text = json.dumps(NUCLEUS)
        with gzip.open(path, "wt") as file:
            file.write('{"type":"FeatureCollection","features":[\n')
            file.write(",\n".join(text.replace(NUCLEUS["id"], str(uuid.UUID(int=i))) for i in range(n)))
            file.write("\n]}\n")
        tracemalloc.start()
        assert check_geojson(path) == []
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # An id is kept for each Feature, and nothing else.
    assert most_memory(5_200) - most_memory(4_200) < 1_000 * 300


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_geojson(tmp_path / "none.geojson")

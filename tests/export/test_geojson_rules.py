"""Rules of Features by themselves: where each bound lies, what is counted, and what a copy shares."""

from __future__ import annotations

import copy
import json
import uuid
from typing import Any

import numpy as np
import pytest

from wsipsm.export.geojson_rules import FeatureRules, Problem, read_parts
from wsipsm.geometry import Box

Json = Any
NAMED = {"name": "Tumor", "color": [1, 2, 3]}
SHELL = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]


def feature(number: int = 0, **properties: Json) -> dict[str, Json]:
    return {
        "type": "Feature",
        "id": str(uuid.UUID(int=number)),
        "geometry": {"type": "Polygon", "coordinates": [SHELL]},
        "properties": {"objectType": "annotation", **properties},
    }


def found_in(*features: Json, image: Box | None = None) -> list[str]:
    rules = FeatureRules(image)
    for index, one in enumerate(features):
        rules.check(one, index)
    rules.finish()
    return [problem.rule for problem in rules.problems]


def shaped(kind: str, coordinates: Json, **more: Json) -> dict[str, Json]:
    return {**feature(), "geometry": {"type": kind, "coordinates": coordinates, **more}}


FLOAT32_MAX = 3.4028234663852886e38


@pytest.mark.parametrize(
    ("one", "rules"),
    [
        (feature(color=[0, 255, 128]), []),
        (feature(color=[-1, 0, 0]), ["colour"]),
        (feature(color=[0, 0, 256]), ["colour"]),
        (feature(color=[0, 0, 0, 0]), ["colour"]),
        (feature(color=(0, 0, 0)), ["colour"]),
        (feature(measurements={}), []),
        (feature(measurements={"a": FLOAT32_MAX, "b": -FLOAT32_MAX, "c": 0, "d": 7}), []),
        (feature(measurements={"a": np.nextafter(FLOAT32_MAX, np.inf).item()}), ["measurement-value"]),
        (feature(measurements={"a": float("nan")}), ["measurement-value"]),
        (feature(measurements={"": "1", "a": 1}), ["measurement-name", "measurement-value"]),
        (feature(measurements={"a": "1", "b": "2"}), ["measurement-value"] * 2),
        (feature(name=""), []),
        (feature(name=None), ["name", "null"]),
        (feature(isLocked=False), []),
        (feature(isLocked=1), ["is-locked"]),
        (feature(classification=NAMED), []),
        (feature(classification={"names": ["a", "b"], "color": [1, 2, 3]}), []),
        (feature(classification={"names": ["a", "b", "c"], "color": [1, 2, 3]}), []),
        (feature(classification={"names": "ab", "color": [1, 2, 3]}), ["classification"]),
        (feature(classification={"names": [], "color": [1, 2, 3]}), ["classification"]),
        (feature(classification={"color": [1, 2, 3]}), ["classification"]),
        (feature(classification={**NAMED, "names": ["a", "b"]}), ["classification"]),
        (feature(classification={"names": ["a", "b "], "color": [1, 2, 3]}), ["class-name"]),
        (feature(classification={"names": [" a", "b"], "color": [1, 2, 3]}), ["class-name"]),
        (feature(classification={"names": ["a", ""], "color": [1, 2, 3]}), ["class-name"]),
        (feature(classification={"names": ["a", 5], "color": [1, 2, 3]}), ["class-name"]),
        (feature(classification={"name": "a\rb", "color": [1, 2, 3]}), ["class-name"]),
        (feature(classification={"name": "a"}), ["colour"]),
        (feature(classification={**NAMED, "colorRGB": 5}), ["colour"]),
        (feature(classification={"name": "a", "colorRGB": 5}), ["colour", "colour"]),
        (feature(objectType="cell", metadata={}), []),
        (feature(objectType="detection", metadata={}), ["metadata"]),
        (feature(metadata={}), []),
        (feature(deep={"x": {"y": None}}, list=[1, [None]], flat=[None, None]), ["null", "null"]),
        (feature(coordinates=[None]), []),
        ({**feature(), "properties": []}, ["properties"]),
        ({**feature(), "geometry": [SHELL]}, ["geometry"]),
        ({**feature(), "id": "0" * 8 + "-0000-0000-0000-" + "g" * 12}, ["id"]),
        ({**feature(), "id": str(uuid.UUID(int=5)).upper()}, []),
        ({**feature(), "id": uuid.UUID(int=5).hex}, ["id"]),
        (shaped("Polygon", [SHELL], plane={"z": 1}), []),
        (shaped("Polygon", [SHELL], plane={}), []),
        (shaped("Polygon", [SHELL], plane={"c": 0, "z": 0, "t": 0, "x": 0}), ["plane"]),
        (shaped("Polygon", [SHELL], plane=[0, 0, 0]), ["plane"]),
        (shaped("Polygon", [SHELL], plane=None), ["null", "plane"]),
        (shaped("polygon", [SHELL]), ["geometry-type"]),
        (shaped("LineString", SHELL, plane={"z": 0.5}), ["plane", "geometry-type"]),
        (shaped("Polygon", [[[0, 0], [5, 0], [0, 5], [0, 0]]]), []),
        (shaped("Polygon", [[[0, 0], [5, 0], [0, 0]]]), ["ring-length"]),
        (shaped("Polygon", [[]]), ["position"]),
        (shaped("Polygon", [[[0, 0], [5, 0], [0, 5], [0, 1]]]), ["ring-closed"]),
        (shaped("Polygon", [SHELL, [[2, 2], [4, 2], [2, 4]]]), ["ring-length"]),
        (shaped("MultiPolygon", [[SHELL]]), ["multipolygon"]),
        (shaped("MultiPolygon", [[SHELL], 7]), ["empty"]),
        (shaped("Point", [1, 2]), []),
        (shaped("Point", [1]), ["position"]),
        (shaped("MultiPoint", [[1, 2]]), []),
        (shaped("MultiPoint", [[1, 2], [3]]), ["position"]),
        (shaped("Polygon", [[[0, 0], [float("inf"), 0], [0, 5], [0, 0]]]), ["position"]),
    ],
)
def test_each_bound(one: Json, rules: list[str]) -> None:
    given = copy.deepcopy(one)
    assert sorted(found_in(one)) == sorted(rules)
    assert one == given or "nan" in repr(one), "what is checked is left as it is"
    # Another Feature before and after is none the worse for it.
    assert sorted(found_in(feature(98), one, feature(99))) == sorted(rules)


@pytest.mark.parametrize(
    ("kind", "is_annotation", "is_detection"),
    [
        ("annotation", True, False),
        ("unknown", True, False),
        (None, True, False),
        ("detection", False, True),
        ("cell", False, True),
        ("tile", False, False),
        ("tmaCore", False, False),
    ],
)
def test_annotations_and_the_area_of_detections_are_counted(
    kind: str | None, is_annotation: bool, is_detection: bool
) -> None:
    rules = FeatureRules()
    for number in range(3):
        one = feature(number, objectType=kind)
        if kind is None:
            del one["properties"]["objectType"]
        if kind == "cell":
            one["nucleusGeometry"] = {"type": "Polygon", "coordinates": [[[1, 1], [5, 1], [5, 5], [1, 1]]]}
        rules.check(one, number)
    rules.finish()
    assert (rules.n_features, rules.n_annotations) == (3, 3 * is_annotation)
    assert rules.detection_area_px2 == 300 * is_detection
    assert len(rules.problems) == 3 * (kind is None)


def test_a_cell_whose_nucleus_cannot_be_read_is_not_looked_at_further() -> None:
    cell = feature(objectType="cell")
    cell["geometry"]["coordinates"] = [[[0, 0], [10, 10], [14, 0], [0, 10], [0, 0]]]
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": []}
    assert found_in(cell) == ["empty"]


def test_problems_come_as_soon_as_there_are_4096_shapes() -> None:
    rules = FeatureRules()
    crossed = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [14, 0], [0, 10], [0, 0]]]}
    for number in range(4095):
        rules.check({**feature(number), **({"geometry": crossed} if number in (0, 7) else {})}, number, "a.json")
    assert rules.problems == []
    rules.check(feature(4095), 4095)
    assert [(one.rule, one.entry, one.index, one.feature_id) for one in rules.problems] == [
        ("valid", "a.json", 0, str(uuid.UUID(int=0))),
        ("valid", "a.json", 7, str(uuid.UUID(int=7))),
    ]
    rules.finish()
    assert len(rules.problems) == 2


def test_a_copy_knows_what_was_before_and_goes_its_own_way() -> None:
    rules = FeatureRules(Box(0, 0, 100, 100))
    for number in range(2):
        rules.check(feature(number, objectType="detection", classification=NAMED), number)
    rules.check({"type": "none"}, 2)
    twin = rules.copy()
    assert (twin.n_features, twin.detection_area_px2, twin.image) == (3, 200, rules.image)
    other = feature(0, classification={**NAMED, "color": [9, 9, 9]})
    new = feature(5, objectType="detection", classification={"name": "new", "color": [1, 1, 1]})
    for one in (other, new):
        twin.check(one, 3)
    twin.finish()
    assert [problem.rule for problem in twin.problems] == ["feature", "id-unique", "one-colour"]
    assert [problem.rule for problem in rules.problems] == ["feature"]
    rules.check({**new, "properties": {**new["properties"], "classification": {"name": "new", "color": [2, 2, 2]}}}, 3)
    rules.finish()
    assert [problem.rule for problem in rules.problems] == ["feature"], "what the copy saw is new here"
    assert (rules.n_features, twin.n_features) == (4, 5)
    assert rules.detection_area_px2 == twin.detection_area_px2 == 300


def test_a_copy_has_looked_at_the_shapes_that_waited() -> None:
    rules = FeatureRules()
    rules.check(shaped("Polygon", [[[0, 0], [10, 10], [14, 0], [0, 10], [0, 0]]]), 0)
    assert rules.problems == []
    twin = rules.copy()
    assert [problem.rule for problem in twin.problems] == [problem.rule for problem in rules.problems] == ["valid"]


def test_an_image_that_is_known_later_counts_from_then_on() -> None:
    rules = FeatureRules()
    rules.set_image(Box(0, 0, 9, 10))
    rules.check(feature(), 0)
    rules.finish()
    assert [problem.rule for problem in rules.problems] == ["bounds"]
    assert found_in(feature(), image=Box(0, 0, 10, 10)) == []


def test_a_thousand_problems_are_kept() -> None:
    rules = FeatureRules()
    for number in range(1002):
        rules.report("name", str(number))
        assert (len(rules.problems), rules.n_more) == (min(number + 1, 1000), max(0, number - 999))


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("r", "m"), "m [r]"),
        (Problem("r", "m", "a.json"), "a.json: m [r]"),
        (Problem("r", "m", None, 0), "feature 0: m [r]"),
        (Problem("r", "m", "a.json", 3, "x"), "a.json: feature 3 (id x): m [r]"),
    ],
)
def test_a_problem_says_where(problem: Problem, text: str) -> None:
    assert str(problem) == text


@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon", "Point", "MultiPoint"])
def test_parts_hold_the_positions(kind: str) -> None:
    hole = [[2, 2], [4, 2], [4, 4], [2, 2]]
    coordinates = {
        "Polygon": [SHELL, hole],
        "MultiPolygon": [[SHELL, hole], [SHELL]],
        "Point": [3, 4.5],
        "MultiPoint": [[3, 4.5], [7, 8]],
    }[kind]
    expected = {
        "Polygon": [[SHELL, hole]],
        "MultiPolygon": [[SHELL, hole], [SHELL]],
        "Point": [[[[3, 4.5]]]],
        "MultiPoint": [[[[3, 4.5], [7, 8]]]],
    }[kind]
    parts, found = read_parts(json.loads(json.dumps({"type": kind, "coordinates": coordinates})))
    assert found == []
    assert parts is not None
    assert [[ring.tolist() for ring in part] for part in parts.rings] == expected
    assert parts.is_area is kind.endswith("Polygon")
    assert all(ring.dtype == np.float64 for part in parts.rings for ring in part)


def test_what_is_no_geometry_has_no_parts() -> None:
    for value in (None, 7, [SHELL], "Polygon"):
        parts, found = read_parts(value)
        assert parts is None
        assert [rule for rule, _ in found] == ["geometry"]

"""What QuPath, TIAToolbox, geopandas and Python make of annotations is one and the same."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from drawing import CLASS_FORMS, INFO, INSIDE, INSIDE_AREA, LEFT, LEFT_AREA, RIGHT, classed, drawn, write
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.errors import RoiError
from wsipsm.region import Use, read_roi
from wsipsm.region.annotations import read_drawn
from wsipsm.text import clean_text

TUMOUR = classed(LEFT, "Tumor")


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()  # with NaN, as pandas and QuPath 0.4 write it


@pytest.mark.parametrize("form", CLASS_FORMS)
@pytest.mark.parametrize("parts", [["Tumor"], ["tumour"], ["Tumor", "Positive"], ["Invasive", "TUMOR "]])
def test_every_way_to_write_a_class_gives_the_same_region(form: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "roi.geojson"
    features = [drawn(LEFT, **CLASS_FORMS[form](parts)), drawn(RIGHT, **CLASS_FORMS[form](["Stroma"]))]
    features.append(drawn(INSIDE, **CLASS_FORMS[form](["Tumor", "Ignore*"])))
    path.write_bytes(dump({"type": "FeatureCollection", "features": features}))
    region = read_roi(path, INFO)
    assert region.area_px0() == LEFT_AREA - INSIDE_AREA
    assert [part.use for part in region.parts] == [Use.COUNTED, Use.CUT_OUT, Use.UNUSED]
    assert region.parts[1].classification == "Tumor: Ignore*"


@given(st.lists(st.sampled_from(sorted(CLASS_FORMS)), min_size=3, max_size=3), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_neither_form_nor_order_matters(
    tmp_path_factory: pytest.TempPathFactory, forms: list[str], mixed: random.Random
) -> None:
    path = tmp_path_factory.getbasetemp() / "mixed.geojson"
    kinds = [(LEFT, ["Tumor"]), (RIGHT, ["Stroma"]), (INSIDE, ["Necrosis"])]
    features = [drawn(box, **CLASS_FORMS[form](parts)) for (box, parts), form in zip(kinds, forms, strict=True)]
    mixed.shuffle(features)
    path.write_bytes(dump({"type": "FeatureCollection", "features": features}))
    region = read_roi(path, INFO)
    assert region.area_px0() == LEFT_AREA - INSIDE_AREA
    assert region.facts().hash == read_roi(path, INFO).facts().hash


def stated(kind: str, old: str) -> dict[str, dict[str, Any]]:
    """A feature of a type, in every place where programs have stated it; none says it twice."""
    plain = drawn(RIGHT)
    plain["properties"] = {}
    return {
        "objectType": {**plain, "properties": {"objectType": kind}},
        "object_type": {**plain, "properties": {"object_type": kind.lower()}},
        "type": {**plain, "properties": {"type": kind}},
        "id": {**plain, "id": old},
        "TIAToolbox": {**plain, "objectType": kind},
        "feature's object_type": {**plain, "object_type": kind},
        "empty columns of pandas": {**plain, "properties": {"objectType": float("nan"), "type": kind}},
        "old name as objectType": {**plain, "properties": {"objectType": old}},
        "QuPath 0.5 over its id": {**plain, "id": "PathAnnotationObject", "properties": {"objectType": kind}},
    }


@pytest.mark.parametrize("place", stated("", ""))
@pytest.mark.parametrize(
    ("kind", "old", "called"),
    [
        ("detection", "PathDetectionObject", "1 detection;"),
        ("cell", "PathCellObject", "1 cell;"),
        ("tile", "PathTileObject", "1 tile;"),
        ("tmaCore", "TMACoreObject", "1 TMA core ("),
        ("root", "PathRootObject", "1 root object;"),
        ("Detection", "PathDetectionObject", "1 detection;"),
    ],
)
def test_what_is_no_annotation_is_left_out_wherever_that_stands(
    place: str, kind: str, old: str, called: str, tmp_path: Path
) -> None:
    path = tmp_path / "roi.geojson"
    path.write_bytes(dump({"type": "FeatureCollection", "features": [TUMOUR, stated(kind, old)[place]]}))
    region = read_roi(path, INFO)
    assert region.area_px0() == LEFT_AREA
    assert f"left out: {called}" in region.notes[0]


@pytest.mark.parametrize("place", stated("", ""))
def test_annotations_are_known_wherever_that_stands(place: str, tmp_path: Path) -> None:
    path = tmp_path / "roi.geojson"
    path.write_bytes(dump(stated("annotation", "PathAnnotationObject")[place]))
    region = read_roi(path, INFO)
    assert (region.area_px0(), region.notes) == (100_000, ())


def test_a_label_called_type_is_no_object_type(tmp_path: Path) -> None:
    feature = drawn(LEFT)
    feature["properties"] = {"type": "tumour bed", "id": "7"}
    assert read_roi(write(tmp_path / "roi.geojson", feature), INFO).area_px0() == LEFT_AREA
    unknown = drawn(RIGHT, objectType="nucleus")
    assert "object of type 'nucleus'" in read_roi(write(tmp_path / "b.geojson", TUMOUR, unknown), INFO).notes[0]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("place", ["properties", "feature", "collection", "deep"])
def test_objects_in_objects_are_read(place: str, as_text: bool, tmp_path: Path) -> None:
    children: Any = [classed(INSIDE, "Necrosis"), drawn(RIGHT, objectType="detection")]
    parent = classed(LEFT, "Tumor")
    if place == "collection":
        children = {"type": "FeatureCollection", "features": children}
    if place == "deep":
        for _ in range(20):
            children = [drawn((0, 0, 1, 1), objectType="detection", childObjects=children)]
    if as_text:
        children = orjson.dumps(children).decode()
    (parent if place == "feature" else parent["properties"])["childObjects"] = children
    region = read_roi(write(tmp_path / "roi.geojson", parent), INFO)
    assert region.area_px0() == LEFT_AREA - INSIDE_AREA
    assert f"{21 if place == 'deep' else 1} detection" in region.notes[0]


@pytest.mark.parametrize("empty", [None, float("nan"), "", "nan", "None", "null", "<NA>", {}, [], {"name": None}])
def test_a_class_that_is_missing_is_none(empty: Any, tmp_path: Path) -> None:
    path = tmp_path / "roi.geojson"
    path.write_bytes(dump(drawn(LEFT, classification=empty, name=empty, childObjects=None)))
    region = read_roi(path, INFO)
    assert (region.area_px0(), region.name, region.parts[0].classification) == (LEFT_AREA, "ROI", "")


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Tumor"',
        "{'name': 'Tumor', 'color': array([200, 0, 0])}",
        "{'name': nan}",
        "{name: Tumor}",
        "[Tumor]",
        "OrderedDict([('name', 'Tumor')])",
        "array(['Tumor'], dtype=object)",
        "PathClass(name='Tumor')",
        "{'name': __import__('os').system('true')}",
        "['a' 'b'",
        "[" * 3000,
        "[" * 2000 + "]" * 2000,
        "'\\d' + 'x'",
        "{'a': '\\d'}",
        '{"label": "Tumor"}',
        "7 ",
        7,
        True,
        {"name": 5},
        {"label": "Tumor"},
        [[[[[[["Tumor"]]]]]]],
    ],
)
def test_what_cannot_be_parsed_is_refused_and_never_guessed(text: Any, tmp_path: Path) -> None:
    if text == "7 ":
        text = {"names": [1]}
    path = write(tmp_path / "roi.geojson", TUMOUR, drawn(RIGHT, classification=text))
    with pytest.raises(RoiError, match=r"feature 2: .*(neither JSON nor a Python value|the classification)"):
        read_roi(path, INFO)


@pytest.mark.parametrize("name", ["Tumor (1)", "Tumor [edge]", "Grade 3 {x}", "5'-end", "a, b", "(Tumor)", "O'Neil"])
def test_punctuation_is_no_code(name: str, tmp_path: Path) -> None:
    region = read_roi(write(tmp_path / "roi.geojson", classed(LEFT, name)), INFO)
    assert (region.area_px0(), region.name) == (LEFT_AREA, name)


@pytest.mark.parametrize(
    ("name", "shown"), [("\x1b[31mred\x07", r"\x1b[31mred\x07"), ("\ud800x", r"\ud800x"), ("a\u202eb", r"a\u202eb")]
)
def test_no_control_character_gets_in(name: str, shown: str, tmp_path: Path) -> None:
    path = tmp_path / "roi.geojson"
    path.write_bytes(dump(drawn(LEFT, name=name, classification={"name": name})))
    region = read_roi(path, INFO)
    assert (region.name, region.parts[0].annotation, region.parts[0].classification) == (shown, shown, shown)
    orjson.dumps(region.facts().to_dict())
    path.write_bytes(dump([drawn(LEFT, classification={"name": "A" + name}), drawn(RIGHT, classification=[name])]))
    with pytest.raises(RoiError) as raised:
        read_roi(path, INFO)
    assert shown in str(raised.value)
    assert clean_text(raised.value) == str(raised.value)


@pytest.mark.parametrize("form", ["lists", "collections", "children"])
def test_nesting_has_a_bound(form: str, tmp_path: Path) -> None:
    nested: Any = [TUMOUR]
    for _ in range(200):
        collection = {"type": "FeatureCollection", "features": nested}
        child = drawn(RIGHT, objectType="detection", childObjects=nested)
        nested = {"lists": [nested], "collections": [collection], "children": [child]}[form]
    path = tmp_path / "roi.geojson"
    path.write_bytes(dump(nested))
    with pytest.raises(RoiError, match="nested over"):
        read_roi(path, INFO)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(["{", "['a", "Tumor", "nan"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "names", "x"]), inner),
    max_leaves=6,
)


@given(classification=JSON, name=JSON, kind=JSON, children=JSON)
@settings(max_examples=200, deadline=None)
def test_anything_is_read_or_refused(classification: Any, name: Any, kind: Any, children: Any) -> None:
    feature = drawn(LEFT, classification=classification, name=name, objectType=kind, childObjects=children)
    try:
        shown = [text for one in read_drawn(feature, "roi", Counter()) for text in (one.name, one.classification)]
    except RoiError as error:
        shown = [str(error)]
    assert [clean_text(text) for text in shown] == shown


def test_triangles_count_and_are_cut_out(tmp_path: Path) -> None:
    """Three corners are the fewest; two, and a point, enclose nothing."""
    left, top, right, bottom = LEFT
    feature = drawn(LEFT, name="ROI")
    outer = [[left, top], [right, top], [left, bottom], [left, top]]
    hole = [[left + 4, top + 4], [left + 14, top + 4], [left + 4, top + 14], [left + 4, top + 4]]
    line = [[left + 30, top + 30], [left + 40, top + 30], [left + 30, top + 30]]
    feature["geometry"] = {"type": "Polygon", "coordinates": [outer, hole, line]}
    region = read_roi(write(tmp_path / "roi.geojson", feature), INFO)
    assert region.area_px0() == (right - left) * (bottom - top) / 2 - 50

"""Where the bounds of a file of annotations lie: what is just within is read, and what is just beyond is not."""

from __future__ import annotations

import gzip
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shapely
from drawing import INFO, LEFT, LEFT_AREA, RIGHT, classed, drawn, rectangle, write

from wsipsm.errors import RoiError
from wsipsm.region import RoiRules, document, read_roi
from wsipsm.region.annotations import Drawn, read_drawn
from wsipsm.region.outline import read_outlines
from wsipsm.region.roles import keys_of


def read(feature: Any) -> Drawn:
    (found,) = read_drawn(feature, "roi", Counter())
    return found


def nested(depth: int, innermost: Any) -> Any:
    for _ in range(depth):
        innermost = [innermost]
    return innermost


@pytest.mark.parametrize(("form", "n_most"), [("list", 64), ("collection", 32), ("child", 64)])
def test_objects_may_lie_64_deep(form: str, n_most: int) -> None:
    """A collection is two deep: itself, and its list."""

    def wrapped(n: int) -> Any:
        inner: Any = drawn(LEFT)
        for _ in range(n):
            inner = {
                "list": [inner],
                "collection": {"type": "FeatureCollection", "features": [inner]},
                "child": drawn(RIGHT, objectType="tile", childObjects=inner),
            }[form]
        return inner

    assert len(list(read_drawn(wrapped(n_most), "roi", Counter()))) == 1
    with pytest.raises(RoiError, match="nested over 64 deep"):
        list(read_drawn(wrapped(n_most + 1), "roi", Counter()))


@pytest.mark.parametrize(("depth", "is_read"), [(4, True), (5, False)])
def test_names_of_a_class_may_lie_four_deep(depth: int, is_read: bool) -> None:
    feature = drawn(LEFT, classification=nested(depth, "Tumor"))
    if is_read:
        assert read(feature).components == ("Tumor",)
    else:
        with pytest.raises(RoiError, match="the classification"):
            read(feature)


@pytest.mark.parametrize(("length", "is_read"), [(4096, True), (4097, False)])
def test_python_text_may_be_4096_characters_long(length: int, is_read: bool) -> None:
    text = "{'name': 'Tumor'}".replace("{", "{" + " " * (length - 17))
    assert len(text) == length
    if is_read:
        assert read(drawn(LEFT, classification=text)).components == ("Tumor",)
    else:
        with pytest.raises(RoiError, match="neither JSON nor"):
            read(drawn(LEFT, classification=text))


def test_long_names_are_cut_to_what_is_shown() -> None:
    found = read(drawn(LEFT, name="n" * 300, classification="c" * 300))
    assert (len(found.name), len(found.classification)) == (120, 120)
    assert read(drawn(LEFT, name="n" * 120)).name == "n" * 120
    assert f"({'n' * 59}" not in found.label
    assert found.label.startswith("roi, feature 1 ('nnn")
    assert len(found.label) == len("roi, feature 1 ('')") + 60
    # Of what is no object, components beyond the bound are left out.
    parts = read(drawn(LEFT, classification=":".join(["ab"] * 2000))).components
    assert len(parts) == -(-4096 // 3)


def test_kinds_are_known_by_words_alone_and_long_ones_are_cut() -> None:
    left_out: Counter[str] = Counter()
    features = [drawn(LEFT, objectType=kind) for kind in ("Path_Cell-Object", "x" * 100, "tma core")]
    features.append({**drawn(LEFT), "geometry": {"type": "g" * 100, "coordinates": []}})
    features.append(drawn(LEFT, objectType="cell" + " " * 36 + "more"))
    found = list(read_drawn(features, "roi", left_out))
    assert [one.kind for one in found] == ["TMA core"]
    assert left_out.pop("cell{s}") == 2
    long = sorted(left_out)
    assert [text.count("x") for text in long] == [0, 59]
    assert [len(text) for text in long] == [40 + 3, len("object{s} of type ''") + 60]


@pytest.mark.parametrize(
    ("plane", "is_read"),
    [
        ({"c": 3, "z": 0, "t": 0}, True),
        ({"c": -1}, True),
        ({"z": None, "t": 0}, True),
        ({"z": 1, "t": 0}, False),
        ({"z": 0, "t": 1}, False),
        ({"t": 2}, False),
        ("first", True),
    ],
)
def test_the_first_plane_is_read(plane: Any, is_read: bool) -> None:
    feature = drawn(LEFT)
    feature["geometry"]["plane"] = plane
    left_out: Counter[str] = Counter()
    assert len(list(read_drawn(feature, "roi", left_out))) == is_read
    assert sum(left_out.values()) == 1 - is_read


@pytest.mark.parametrize("text", ["'", '"', "a(", "(b)", "x(y)", "1x('a')", "x('a') y", "Tumor 'core'", "a'b"])
def test_text_is_a_name_unless_it_is_whole_code(text: str) -> None:
    assert read(drawn(LEFT, classification=text)).components == (text,)


def outline_of(*rings: list[list[float]]) -> Any:
    (shape,) = read_outlines([{"type": "Polygon", "coordinates": list(rings)}], ["roi"])
    return shape


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_positions_end_at_2_to_the_31(at: int, sign: int) -> None:
    ring = rectangle(0, 0, 10 * sign, 10 * sign)
    ring[2][at] = sign * float(2**31)
    assert outline_of(ring).bounds[at if sign < 0 else 2 + at] == sign * 2**31
    ring[2][at] = sign * float(2**31 + 1)
    with pytest.raises(RoiError, match="no finite"):
        outline_of(ring)


def test_outlines_and_labels_go_together() -> None:
    with pytest.raises(ValueError, match="zip"):
        read_outlines([{"type": "Polygon", "coordinates": [rectangle(*LEFT)]}], [])
    assert read_outlines([], []).shape == (0,)


def test_a_ring_is_closed_where_either_coordinate_differs() -> None:
    for open_ring in (
        [[0, 0], [4, 0], [4, 4], [0, 4]],
        [[0, 0], [4, 0], [4, 4], [4, 8], [0, 8]],
        [[0, 0], [0, 4], [4, 4], [4, 0]],
    ):
        found = outline_of(open_ring)
        assert found.equals(shapely.Polygon(open_ring))
        assert outline_of([*open_ring, open_ring[0]]).wkb == found.wkb, "and a closed one stays"


def test_parts_without_area_make_a_shape_empty_or_fall_out() -> None:
    line, square = [[0, 0], [5, 5], [9, 9], [0, 0]], rectangle(20, 20, 4, 4)
    shapes = read_outlines(
        [
            {"type": "Polygon", "coordinates": [line]},
            {"type": "MultiPolygon", "coordinates": [[square]]},
            {"type": "MultiPolygon", "coordinates": [[[]], [square], [rectangle(40, 0, 3, 3)]]},
            {"type": "Polygon", "coordinates": []},
        ],
        list("abcd"),
    )
    assert [shape.geom_type for shape in shapes] == ["MultiPolygon", "Polygon", "MultiPolygon", "MultiPolygon"]
    assert shapely.area(shapes).tolist() == [0, 16, 25, 0]
    with pytest.raises(RoiError, match="b: the polygon is not valid"):
        read_outlines(
            [{"type": "Polygon", "coordinates": [r]} for r in (square, [[0, 0], [4, 4], [4, 0], [0, 4]])], list("ab")
        )


@pytest.mark.parametrize("form", ["plain", "gz", "zip"])
def test_a_file_may_be_as_large_as_the_bound(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = orjson.dumps(drawn(LEFT))
    assert 10**6 * 200 <= document.MAX_ROI_BYTES < 2 * 10**6 * 200, "a million vertices of 200 bytes, no two of them"
    for less in (0, 1):
        monkeypatch.setattr(document, "MAX_ROI_BYTES", (2 if form == "zip" else 1) * len(content) - less)
        path = tmp_path / {"plain": "a.json", "gz": "a.json.gz", "zip": "a.zip"}[form]
        if form == "zip":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("1.json", content)
                file.writestr("2.JSON", content)
        else:
            path.write_bytes(gzip.compress(content) if form == "gz" else content)
        if less:
            with pytest.raises(RoiError, match="more than"):
                read_roi(path, INFO)
        else:
            assert read_roi(path, INFO).area_px0() == LEFT_AREA


def test_types_go_by_the_last_suffix(tmp_path: Path) -> None:
    content = orjson.dumps(drawn(LEFT))
    for name in ("a.b.geojson", "A.GEOJSON", "a.gz.json"):
        (tmp_path / name).write_bytes(content)
        assert read_roi(tmp_path / name, INFO).area_px0() == LEFT_AREA
    for name in ("json.gz", "a.json.txt", "a.json.b.gz", "a.txt.gz", "geojson"):
        (tmp_path / name).write_bytes(gzip.compress(content))
        with pytest.raises(RoiError, match="a file of type"):
            read_roi(tmp_path / name, INFO)


def test_twelve_kinds_and_classes_are_listed(tmp_path: Path) -> None:
    others = [drawn(RIGHT, objectType=f"kind{k}") for k in range(14)]
    (note,) = read_roi(write(tmp_path / "a.geojson", drawn(LEFT), *others), INFO).notes
    assert note.count("object of type") == 12
    for n, more in ((12, None), (13, "1 more"), (15, "3 more")):
        many = [classed((10 * k, 0, 5, 5), f"kind{k}") for k in range(n)]
        with pytest.raises(RoiError, match="it must be clear whose nuclei count") as raised:
            read_roi(write(tmp_path / "b.geojson", *many), INFO)
        assert str(raised.value).count("'kind") == 12
        assert (" more" in str(raised.value)) is (more is not None)
        assert more is None or more in str(raised.value)


def test_what_is_cut_off_or_overlaps_is_said_from_a_thousandth_on(tmp_path: Path) -> None:
    for beyond, is_noted in ((0.5, False), (0.9, False), (1.1, True), (300, True)):
        box = (9000 + beyond, 100, 1000, 50)
        notes = read_roi(write(tmp_path / "a.geojson", drawn(box)), INFO).notes
        assert [f"{beyond / 1000:.0%} of the region lies outside the slide" in note for note in notes] == [
            True
        ] * is_noted
    for overlap, is_noted in ((0, False), (0.9, False), (1.1, True), (1000, True)):
        unused = classed((1000 - overlap, 100, 1000, 50), "Stroma", name="s")
        path = write(tmp_path / "b.geojson", classed((0, 100, 1000, 50), "Tumor"), unused)
        notes = read_roi(path, INFO).notes
        assert [f"'Stroma' is unused; {overlap / 1000:.0%} of it" in note for note in notes] == [True] * is_noted


def test_every_class_may_stand_among_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", classed(LEFT, "Tumor"), classed(RIGHT, "Stroma"))
    for classes in (("*",), ("*", "Tumor"), ("Tumor", " * ")):
        assert read_roi(path, INFO, RoiRules(roi_class=classes)).area_px0() == LEFT_AREA + 100_000


def test_a_region_of_many_classes_is_called_by_no_more_than_200_characters(tmp_path: Path) -> None:
    cut = [drawn((100 * k, 0, 50, 50), name=f"ignore {k}" + "0" * 90) for k in range(9)]
    region = read_roi(write(tmp_path / "a.geojson", *cut), INFO)
    assert region.area_px0() == 80_000_000 - 9 * 2500
    assert len(region.name) == 200
    assert region.name.startswith("slide without ignore 0")


def test_names_with_and_without_text_make_a_name(tmp_path: Path) -> None:
    boxes = [(10.0 * k, 0.0, 5.0, 5.0) for k in range(6)]
    for names, expected in (
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d"], "a, b, c and 1 more"),
        (["a", "", "", ""], "a and 3 without a name"),
        (["a", "b", "c", "d", "e", ""], "a, b, c and 2 more and 1 without a name"),
    ):
        features = [drawn(box, name=name) for box, name in zip(boxes, names, strict=False)]
        assert read_roi(write(tmp_path / "a.geojson", *features), INFO).name == expected


def test_keys_are_whole_class_components_or_a_name_without_its_number() -> None:
    for name, keys in (("Tumour 12", {"tumour 12", "tumour"}), ("T_2", {"t_2", "t"}), ("7", {"7"}), ("2 b", {"2 b"})):
        assert keys_of(read(drawn(LEFT, name=name))) == keys
    assert keys_of(read(drawn(LEFT, classification="A: b*", name="c"))) == {"a: b", "a", "b"}
    assert keys_of(read(drawn(LEFT))) == frozenset()


def test_the_hash_is_of_outline_and_ground(tmp_path: Path) -> None:
    facts = read_roi(write(tmp_path / "a.geojson", drawn(LEFT, name="x")), INFO).facts()
    assert len(facts.hash) == 16
    assert facts.bounds_px0 == (100, 100, 700, 600)
    assert (facts.area_px0, facts.notes) == (LEFT_AREA, ())
    assert np.isfinite(int(facts.hash, 16))


@pytest.mark.parametrize("n_alike", [1, 2, 3])
def test_a_row_of_several_annotations_has_the_area_of_all(n_alike: int, tmp_path: Path) -> None:
    """Beyond 50 annotations a row is a class; here one of it, two, or three."""
    others = [classed((20 * k, 100, 5, 5), "Tumor: other") for k in range(51)]
    alike = [classed((20 * k, 0, 10, 10), "Tumor: alike") for k in range(n_alike)]
    parts = read_roi(write(tmp_path / "a.geojson", *others, *alike), INFO).parts
    told = {part.classification: (part.annotation, part.area_px0()) for part in parts}
    name = "" if n_alike == 1 else f"{n_alike} annotations"
    assert told == {"Tumor: other": ("51 annotations", 51 * 25), "Tumor: alike": (name, n_alike * 100)}

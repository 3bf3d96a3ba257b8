"""What counts, what is cut out and what is unused: by exact class, and asked for where that is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import (
    INFO,
    INSIDE,
    INSIDE_AREA,
    LEFT,
    LEFT_AREA,
    RIGHT,
    RIGHT_AREA,
    classed,
    drawn,
    write,
)

from wsipsm.errors import RoiError
from wsipsm.region import PolygonRegion, RoiRules, Use, read_roi
from wsipsm.tissue import TissueMask

BOTH = LEFT_AREA + RIGHT_AREA


def area(path: Path, **rules: Any) -> float:
    return read_roi(path, INFO, RoiRules(**rules)).area_px0()


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (classed(LEFT, "Tumor"), classed(RIGHT, "Stroma"), LEFT_AREA),
        (classed(LEFT, "TUMOUR"), classed(RIGHT, "Tumor-infiltrating lymphocytes"), LEFT_AREA),
        (classed(LEFT, "Tumor: Positive"), classed(RIGHT, "Peritumoral stroma"), LEFT_AREA),
        (classed(LEFT, "tumor*"), drawn(RIGHT), LEFT_AREA),
        (classed(LEFT, "Tumor"), classed(RIGHT, "Tumor bed"), LEFT_AREA),
        (classed(LEFT, "Tumor"), classed(RIGHT, "Region*"), LEFT_AREA),
        # Names do not decide where a class is set.
        (classed(LEFT, "Tumor", name="Ignore"), classed(RIGHT, "Stroma", name="Tumor"), LEFT_AREA),
        (classed(LEFT, "Stroma", name="Tumour"), classed(RIGHT, "Stroma", name="Necrosis"), BOTH),
        # Without a class they decide as exactly, but for a number.
        (drawn(LEFT, name="Tumor"), drawn(RIGHT, name="Stroma"), LEFT_AREA),
        (drawn(LEFT, name="tumour 12"), drawn(RIGHT), LEFT_AREA),
        # No tumour: every plain annotation counts.
        (drawn(LEFT), drawn(RIGHT), BOTH),
        (drawn(LEFT, name="a"), drawn(RIGHT, name="b"), BOTH),
        (classed(LEFT, "Region*"), classed(RIGHT, "region"), BOTH),
        (classed(LEFT, "Region*"), drawn(RIGHT), BOTH),
        (classed(LEFT, "Invasive carcinoma"), classed(RIGHT, "invasive  Carcinoma*"), BOTH),
        (classed(LEFT, "Tumor-infiltrating lymphocytes"), classed(RIGHT, "Ignore*"), LEFT_AREA),
        (drawn(LEFT, name="Tumour centre"), drawn(RIGHT, name="Tumour edge"), BOTH),
        # What is cut out.
        (classed(LEFT, "Tumor"), classed(RIGHT, "Tumor: Artefact"), LEFT_AREA),
        (drawn(LEFT), classed(RIGHT, "Exclude"), LEFT_AREA),
        (drawn(LEFT), classed(RIGHT, "Artifact*"), LEFT_AREA),
        (drawn(LEFT), drawn(RIGHT, name="necrosis"), LEFT_AREA),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_what_counts(
    left: dict[str, Any], right: dict[str, Any], expected: float, turned: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "roi.geojson", *([right, left] if turned else [left, right]))
    assert area(path) == expected


AMBIGUOUS = {
    "two classes": [classed(LEFT, "Tumor-infiltrating lymphocytes"), classed(RIGHT, "Invasive carcinoma")],
    "two further classes": [classed(LEFT, "Stroma"), classed(RIGHT, "Immune cells")],
    "a derived class": [classed(LEFT, "Stroma"), classed(RIGHT, "Stroma: Immune cells")],
    "other language": [classed(LEFT, "Karzinom"), classed(INSIDE, "Nekrose")],
    "a class and none": [drawn(LEFT), classed(RIGHT, "Immune cells")],
    "a class and Region*": [classed(LEFT, "Region*"), classed(RIGHT, "Non-tumor")],
    "like an exclusion": [classed(LEFT, "Necrotic tissue")],
    "an exclusion in other words": [drawn(LEFT), drawn(RIGHT, name="Exclude fold")],
    "plural": [drawn(LEFT), drawn(RIGHT, name="Artefacts")],
    "names": [drawn(LEFT, name="Tumour centre"), drawn(RIGHT, name="Stroma")],
    "names of the case": [drawn(LEFT, name="Tumor-infiltrating lymphocytes"), drawn(RIGHT, name="Invasive carcinoma")],
    "with an exclusion": [classed(LEFT, "A"), classed(RIGHT, "B"), classed(INSIDE, "Ignore*")],
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_is_open_is_asked_for_with_the_option(case: str, tmp_path: Path) -> None:
    path = write(tmp_path / "roi.geojson", *AMBIGUOUS[case])
    with pytest.raises(RoiError, match="--roi-class") as raised:
        read_roi(path, INFO)
    for feature in AMBIGUOUS[case][:2]:
        own = feature["properties"]
        if text := own.get("name") or own.get("classification", {}).get("name"):
            assert text in str(raised.value)
    # The option that it names is taken.
    named = str(raised.value).split('--roi-class "')[1].split('"')[0]
    assert read_roi(path, INFO, RoiRules(roi_class=(named,))).area_px0() > 0


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"roi_class": ("invasive carcinoma",)}, RIGHT_AREA),
        ({"roi_class": ("Invasive carcinoma", "Tumor-infiltrating lymphocytes")}, BOTH),
        ({"roi_class": ("*",)}, BOTH),
        ({"exclude_class": ("Tumor-infiltrating Lymphocytes*",)}, RIGHT_AREA),
    ],
)
def test_options_decide_what_is_open(rules: dict[str, Any], expected: float, tmp_path: Path) -> None:
    assert area(write(tmp_path / "roi.geojson", *AMBIGUOUS["two classes"]), **rules) == expected


def test_options_choose_by_component_name_and_absence(tmp_path: Path) -> None:
    path = write(
        tmp_path / "roi.geojson",
        classed(LEFT, "Tumor: Grade 2"),
        drawn(RIGHT, name="core"),
        classed(INSIDE, "Necrosis"),
    )
    assert area(path) == LEFT_AREA - INSIDE_AREA
    assert area(path, exclude_class=()) == LEFT_AREA
    assert area(path, roi_class=("grade 2",)) == LEFT_AREA - INSIDE_AREA
    assert area(path, roi_class=("tumor: GRADE 2",)) == LEFT_AREA - INSIDE_AREA
    assert area(path, roi_class=("none",)) == RIGHT_AREA
    assert area(path, roi_class=("core",)) == RIGHT_AREA
    assert area(path, roi_class=("*",)) == BOTH - INSIDE_AREA
    # Asked for by name, it is not cut out any more.
    assert area(path, roi_class=("Necrosis",)) == INSIDE_AREA
    with pytest.raises(RoiError, match="which --roi-class names too"):
        area(path, roi_class=("Necrosis",), exclude_class=("necrosis",))


@pytest.mark.parametrize("flag", ["roi_class", "exclude_class"])
def test_a_class_that_is_not_there_is_an_error_with_those_that_are(flag: str, tmp_path: Path) -> None:
    path = write(tmp_path / "roi.geojson", classed(LEFT, "Tumor"), classed(INSIDE, "Nekrose"))
    with pytest.raises(RoiError, match=r"no annotation of class 'Necrose'.*'Tumor', 'Nekrose'"):
        area(path, **{flag: ("Tumor", "Necrose") if flag == "roi_class" else ("Necrose", "Ignore")})
    # Of a cohort's slides not each has all of them.
    lenient = RoiRules(("Tumor", "Carcinoma"), ("Ignore", "Necrose"), absent_class_is_error=False)
    assert read_roi(path, INFO, lenient).area_px0() == LEFT_AREA
    with pytest.raises(RoiError, match="no annotation of class 'Carcinoma'"):
        read_roi(path, INFO, RoiRules(("Carcinoma",), absent_class_is_error=False))


@pytest.mark.parametrize("name", ["Ignore*", "Necrosis", "Tumor: Exclude", "ARTEFACT"])
def test_exclusions_alone_are_cut_out_of_what_the_run_has(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "roi.geojson", classed(INSIDE, name))
    mask = np.ones((80, 100), bool)
    mask[:, 50:] = False
    tissue = TissueMask(mask, 100.0, None, mask)
    region = read_roi(path, INFO, within=tissue)
    assert region.area_px0() == 5_000 * 8_000 - INSIDE_AREA
    assert region.name == f"all nuclei without {name}"
    assert [(part.annotation, part.use) for part in region.parts] == [
        ("all nuclei", Use.COUNTED),
        ("", Use.CUT_OUT),
    ]
    drawn_before = PolygonRegion(read_roi(write(tmp_path / "a.geojson", drawn(LEFT)), INFO).shape, "mine")
    assert read_roi(path, INFO, within=drawn_before).area_px0() == LEFT_AREA - INSIDE_AREA
    assert read_roi(path, INFO).area_px0() == 10_000 * 8_000 - INSIDE_AREA


def test_exclusions_alone_have_the_area_of_the_tissue_not_of_its_margin(tmp_path: Path) -> None:
    searched, tissue = np.zeros((80, 100), bool), np.zeros((80, 100), bool)
    searched[:, :50], tissue[:, 10:40] = True, True
    within = TissueMask(searched, 100.0, None, tissue)
    across = (900, 200, 400, 100)  # a quarter of it in the margin
    region = read_roi(write(tmp_path / "roi.geojson", classed(across, "Ignore*")), INFO, within=within)
    assert region.shape.area == 5_000 * 8_000 - 400 * 100
    assert region.area_px0() == 3_000 * 8_000 - 300 * 100
    assert region.areas_in(np.array([[0, 0, 1_100, 8_000], [0, 0, 900, 900]])).tolist() == [100 * 8_000 - 100 * 100, 0]
    assert region.parts[0].area_px0() == region.area_px0()
    assert region.contains(np.array([[500.0, 250.0], [950.0, 250.0], [6_000.0, 250.0]])).tolist() == [
        True,
        False,
        False,
    ]
    # Cut out of it again, and where nothing but the margin is left.
    again = read_roi(write(tmp_path / "b.geojson", classed((3_000, 0, 1_000, 8_000), "Necrosis")), INFO, within=region)
    assert again.area_px0() == 2_000 * 8_000 - 300 * 100
    margin = read_roi(write(tmp_path / "c.geojson", classed((1_000, 0, 3_000, 8_000), "Necrosis")), INFO, within=within)
    assert (margin.area_px0(), margin.shape.area) == (0, 2_000 * 8_000)


def test_tma_cores_by_option(tmp_path: Path) -> None:
    cores = [drawn(LEFT, objectType="tmaCore", name="A-1", isMissing=False), drawn(RIGHT, objectType="tma_core")]
    missing = drawn(INSIDE, objectType="tmaCore", isMissing=True)
    path = write(tmp_path / "roi.geojson", *cores, missing)
    with pytest.raises(RoiError, match=r"2 TMA cores \(--tma-cores takes them\)"):
        read_roi(path, INFO)
    region = read_roi(path, INFO, RoiRules(tma_cores=True))
    assert region.area_px0() == BOTH
    assert region.notes == (f"{path}: left out: 1 missing TMA core; annotations with an area count.",)


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ([drawn(LEFT, name="a"), drawn(RIGHT)], "a and 1 without a name"),
        ([drawn(LEFT, name="a"), drawn(RIGHT, name="b")], "a, b"),
        ([drawn(LEFT, name="a"), drawn(RIGHT, name="a")], "a"),
        ([drawn(LEFT), drawn(RIGHT)], "ROI"),
        ([classed(LEFT, "Tumor"), classed(RIGHT, "Tumor")], "Tumor"),
        ([classed(LEFT, "Tumor", name="T1"), classed(RIGHT, "Tumor")], "T1, Tumor"),
        ([drawn((10 * k, 0, 5, 5), name=f"n{k}") for k in range(9)], "n0, n1, n2 and 6 more"),
    ],
)
def test_a_region_is_called_by_all_that_it_is_made_of(
    features: list[dict[str, Any]], name: str, tmp_path: Path
) -> None:
    assert read_roi(write(tmp_path / "roi.geojson", *features), INFO).name == name


def test_what_is_unused_but_lies_in_the_region_is_said_with_the_option(tmp_path: Path) -> None:
    path = write(tmp_path / "roi.geojson", classed(LEFT, "Tumor"), classed(INSIDE, "Nekrose"), classed(RIGHT, "Stroma"))
    (note,) = read_roi(path, INFO).notes
    assert "'Nekrose' is unused; 100% of it lies in the region and is counted; --exclude-class \"Nekrose\"" in note
    assert area(path, exclude_class=("Nekrose",)) == LEFT_AREA - INSIDE_AREA


def test_what_sounds_like_an_exclusion_is_no_example_of_what_counts(tmp_path: Path) -> None:
    with pytest.raises(RoiError, match='--roi-class "none"'):
        area(write(tmp_path / "roi.geojson", drawn(LEFT), classed(INSIDE, "Necrotic")))

"""The table of annotations: areas and nuclei against shapely, and what was never searched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from drawing import INFO, INSIDE, LEFT, RIGHT, classed, drawn, write

from wsipsm.cli.region_table import lines_about_annotations
from wsipsm.region import PolygonRegion, Use, annotation_rows, on_searched, read_roi
from wsipsm.tissue import TissueMask

NUCLEI = np.random.default_rng(0).uniform(0, 1000, (2_000, 2))
WHOLE = PolygonRegion(shapely.box(0, 0, 10_000, 8_000), "slide")


def inside(box: tuple[float, float, float, float]) -> int:
    x, y, width, height = box
    return int((((x, y) < NUCLEI) & ((x + width, y + height) > NUCLEI)).all(axis=1).sum())


def test_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "roi.geojson", drawn(RIGHT), classed(INSIDE, "Necrosis", name="n"), classed(LEFT, "Tumor"))
    region = read_roi(path, INFO)
    rows = annotation_rows(region, NUCLEI, 0.5, WHOLE)
    assert [(row.annotation, row.classification, row.use) for row in rows] == [
        ("", "Tumor", "counted"),
        ("n", "Necrosis", "cut out"),
        ("", "", "unused"),
    ]
    assert [row.area_mm2 for row in rows] == [0.065, 0.01, 0.025]
    assert [row.n_nuclei for row in rows] == [inside(LEFT) - inside(INSIDE), inside(INSIDE), inside(RIGHT)]
    # A run of this region looked nowhere else.
    assert [row.n_nuclei for row in annotation_rows(region, NUCLEI, 0.5)][1:] == [None, None]
    lines = lines_about_annotations(rows)
    assert lines[0].split() == ["annotation", "class", "taken", "as", "area", "mm2", "nuclei"]
    assert lines[2].split() == ["n", "Necrosis", "cut", "out", "0.0100", f"{inside(INSIDE)}"]
    assert "not searched" in lines_about_annotations(annotation_rows(region, NUCLEI, 0.5))[3]
    assert lines_about_annotations([]) == []


def test_the_table_is_short(tmp_path: Path) -> None:
    path = write(tmp_path / "roi.geojson", *(drawn((10 * k, 0, 5, 5), name="n" * 200) for k in range(40)))
    lines = lines_about_annotations(annotation_rows(read_roi(path, INFO), NUCLEI, 0.5))
    assert len(lines) == 22
    assert max(map(len, lines)) < 100
    assert lines[-1] == "  and 20 more (20 counted), which --json lists"
    some = [classed((10 * k, 0, 5, 5), "Tumor" if k < 22 else "Ignore*") for k in range(25)]
    rows = annotation_rows(read_roi(write(tmp_path / "some.geojson", *some), INFO), NUCLEI, 0.5)
    assert "and 5 more (2 counted, 3 cut out)" in lines_about_annotations(rows)[-1]
    many = write(tmp_path / "b.geojson", *(classed((10 * k, 0, 5, 5), f"Tumor: {k}") for k in range(200)))
    assert len(read_roi(many, INFO).parts) < 60


@pytest.mark.parametrize("n", [49, 50, 51, 120])
@pytest.mark.parametrize("has_own_class", [True, False])
def test_no_annotation_is_missing_in_the_table(n: int, has_own_class: bool, tmp_path: Path) -> None:
    counted = [classed((10 * k, 0, 8, 8), f"Tumor: {k}" if has_own_class else "Tumor") for k in range(n - 1)]
    cut = classed((0, 0, 4, 4), "Ignore*")
    parts = read_roi(write(tmp_path / "a.geojson", *counted, cut), INFO).parts
    assert sum(part.shape.area for part in parts if part.use == Use.COUNTED) == (n - 1) * 64 - 16
    assert [part.shape.area for part in parts if part.use == Use.CUT_OUT] == [16]


@pytest.mark.parametrize("origin", [(0, 0), (300, 200)])
def test_what_was_never_searched_is_said(origin: tuple[int, int], tmp_path: Path) -> None:
    region = read_roi(write(tmp_path / "roi.geojson", drawn((0, 0, 1000, 1000))), INFO)
    assert on_searched(region, WHOLE, "outside") is region
    mask = np.random.default_rng(1).random((10, 10)) < 0.4
    tissue = TissueMask(mask, 100.0, None, mask, origin_px0=origin)
    searched = tissue.areas_in(np.array([[0.0, 0.0, 1000.0, 1000.0]]))[0]
    found = on_searched(region, tissue, "outside")
    assert isinstance(found, PolygonRegion)
    assert found.notes == (f"{1 - searched / 1e6:.1%} of the region lies outside; area and density are of the rest.",)
    assert (found.shape, found.parts) == (region.shape, region.parts)
    assert found.area_px0() == pytest.approx(searched)
    boxes = np.array([[0.0, 0.0, 1000.0, 1000.0], [130.0, 250.0, 777.0, 811.0], [2000.0, 0.0, 2100.0, 90.0]])
    assert found.areas_in(boxes) == pytest.approx([searched, tissue.areas_in(boxes)[1], 0], abs=1e-6)
    assert found.facts().hash != region.facts().hash
    assert tissue.to_polygons().area == pytest.approx(tissue.area_px0())
    assert on_searched(tissue, WHOLE, "outside") is tissue
    nowhere = TissueMask(~np.ones((10, 10), bool), 100.0, None, ~np.ones((10, 10), bool))
    never = on_searched(region, nowhere, "outside")
    assert (never.area_px0(), never.areas_in(boxes).tolist()) == (0, [0, 0, 0])

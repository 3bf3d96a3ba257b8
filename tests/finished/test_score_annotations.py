"""Annotations from the command to the numbers: counts against shapely, the table, and every note on the screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image
from stand_in import MPP, draw_slide
from typer.testing import CliRunner, Result

from wsipsm.cli.main import app
from wsipsm.config import RunOptions
from wsipsm.errors import RoiError
from wsipsm.events import ignore_events
from wsipsm.finished.check import check_result
from wsipsm.keys import Artefact, Column
from wsipsm.results.shown_scoring import OWN
from wsipsm.results.stored_run import read_region
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")
LEFT, RIGHT, INSIDE = shapely.box(100, 100, 500, 700), shapely.box(550, 100, 750, 700), shapely.box(200, 200, 400, 400)


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 512, "tile_px": 256, **values})


def area(shape: shapely.Geometry, **properties: Any) -> dict[str, Any]:
    geometry = shapely.geometry.mapping(shape)
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation", **properties}}


def write(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return draw_slide(tmp_path / "case.png", 900, 800, seed=4)


@pytest.fixture
def result(slide: Path, tmp_path: Path) -> RunSummary:
    return run_slide(slide, tmp_path / "out", options(), ignore_events)


def count(folder: str, shape: shapely.Geometry) -> int:
    # The run's own nuclei: those at the top of the folder are of the last scoring.
    own = Path(folder) / Artefact.SCORES / OWN / Artefact.CELLS
    table = pq.read_table(own, columns=[Column.CENTROID_X_PX0, Column.CENTROID_Y_PX0])
    return int(np.count_nonzero(shapely.contains_xy(shape, *(column.to_numpy() for column in table.columns))))


def score(folder: str, roi: Path, *args: str) -> tuple[Result, dict[str, Any]]:
    shown = CliRunner().invoke(app, ["score", folder, "--roi", str(roi), *args])
    assert shown.exit_code == 0, shown.output
    told = orjson.loads(CliRunner().invoke(app, ["score", folder, "--roi", str(roi), *args, "--json"]).output)[0]
    return shown, told


def test_the_cases(result: RunSummary, tmp_path: Path) -> None:
    folder = result.folder
    tumour = area(LEFT, classification=json.dumps({"name": "Tumor"}))
    roi = write(tmp_path / "text.geojson", tumour, area(RIGHT, classification="{'name': 'Ignore*'}"))
    assert score(folder, roi)[1]["index"]["n_scored"] == count(folder, LEFT) > 20
    roi = write(tmp_path / "necrosis.geojson", tumour, area(INSIDE, classification="Necrosis"))
    shown, told = score(folder, roi)
    assert told["index"]["n_scored"] == count(folder, LEFT.difference(INSIDE))
    assert [(row["class"], row["use"], row["n_nuclei"]) for row in told["annotations"]] == [
        ("Tumor", "counted", count(folder, LEFT.difference(INSIDE))),
        ("Necrosis", "cut out", count(folder, INSIDE)),
    ]
    assert "taken as" in shown.output
    assert told["annotations"] == orjson.loads((Path(folder) / Artefact.SCORE).read_bytes())["annotations"]
    assert score(folder, roi, "--exclude-class", "Ignore")[1]["index"]["n_scored"] == count(folder, LEFT)
    roi = write(tmp_path / "alias.geojson", tumour, {**area(RIGHT), "properties": {"type": "detection"}})
    shown, told = score(folder, roi)
    assert told["index"]["n_scored"] == count(folder, LEFT)
    assert "left out: 1 detection" in shown.output
    assert "left out: 1 detection" in told["notes"][0]


def test_exclusions_alone_leave_the_rest_of_the_run(result: RunSummary, slide: Path, tmp_path: Path) -> None:
    roi = write(tmp_path / "ignore.geojson", area(LEFT, classification={"name": "Ignore*"}))
    shown, told = score(result.folder, roi)
    expected = result.n_nuclei - count(result.folder, LEFT)
    assert told["index"]["n_scored"] == expected > 20
    assert "stroma and lymphocytes count" in shown.output
    fresh = run_slide(slide, tmp_path / "fresh", options(roi=roi), ignore_events)
    assert fresh.n_nuclei == expected
    assert fresh.region.annotations[0].to_dict() == told["annotations"][0]


def test_exclusions_alone_have_the_area_and_density_of_the_tissue(slide: Path, tmp_path: Path) -> None:
    pixels = np.array(Image.open(slide))
    pixels[:, 420:] = 244  # glass
    Image.fromarray(pixels).save(slide)
    whole = run_slide(slide, tmp_path / "whole", options(), ignore_events)
    tissue = read_region(RunDir(Path(whole.folder)), whole.region)
    left_out = float(tissue.areas_in(np.array([LEFT.bounds]))[0])
    assert tissue.to_polygons().area > 1.02 * tissue.area_px0()
    roi = write(tmp_path / "ignore.geojson", area(LEFT, classification={"name": "Ignore*"}))
    fresh = run_slide(slide, tmp_path / "fresh", options(roi=roi), ignore_events)
    _, told = score(whole.folder, roi)
    scored = RunSummary.from_dict(orjson.loads((Path(whole.folder) / Artefact.SUMMARY).read_bytes()), whole.folder)
    expected = (tissue.area_px0() - left_out) * MPP**2 * 1e-6
    for summary in (fresh, scored):
        assert summary.region_area_mm2 == pytest.approx(expected, abs=1e-6)
        assert summary.nuclei_per_mm2 == pytest.approx(summary.n_nuclei / expected, rel=1e-3)
    assert told["annotations"][0]["area_mm2"] == scored.region_area_mm2
    assert check_result(Path(whole.folder)) == check_result(Path(fresh.folder)) == []
    # The region is read with its area from the folder, as when it was made.
    kept = [read_region(RunDir(folder), one.region) for folder, one in ((whole.folder, scored), (fresh.folder, fresh))]
    assert [one.facts().hash for one in kept] == [scored.region.hash, fresh.region.hash]
    assert scored.region.hash == fresh.region.hash


def test_density_is_of_what_was_searched(slide: Path, tmp_path: Path) -> None:
    small = write(tmp_path / "small.geojson", area(LEFT))
    part = run_slide(slide, tmp_path / "part", options(roi=small), ignore_events)
    score(part.folder, write(tmp_path / "whole.geojson", area(shapely.box(100, 100, 800, 700))))
    scored = RunSummary.from_dict(orjson.loads((Path(part.folder) / Artefact.SUMMARY).read_bytes()), part.folder)
    assert (scored.n_nuclei, scored.coverage) == (part.n_nuclei, 1)
    assert scored.region_area_mm2 == part.region_area_mm2 == pytest.approx(LEFT.area * MPP**2 * 1e-6, abs=1e-6)
    assert scored.nuclei_per_mm2 == part.nuclei_per_mm2
    assert scored.scores == part.scores
    assert any("42.9% of the region lies outside" in note and "density" in note for note in scored.notes)
    assert check_result(Path(part.folder)) == []


def test_a_region_is_drawn_where_nuclei_are_too_small_for_outlines(slide: Path, tmp_path: Path) -> None:
    """As on every whole slide: its picture shows dots or a map."""
    part = Image.open(slide)
    wide = Image.new("RGB", (9_000, 4_000), (244, 244, 244))
    for x in range(0, 9_000, 3_000):
        wide.paste(part, (x, 1_000))
    wide.save(slide)
    result = run_slide(slide, tmp_path / "wide", options(), ignore_events)
    roi = write(tmp_path / "roi.geojson", area(shapely.box(3_000, 1_000, 3_900, 1_800)))
    _, told = score(result.folder, roi)
    assert told["index"]["n_scored"] == count(result.folder, shapely.box(3_000, 1_000, 3_900, 1_800)) > 20
    assert check_result(Path(result.folder)) == []


def test_what_was_never_searched_stands_on_the_screen_and_in_json(slide: Path, tmp_path: Path) -> None:
    small = write(tmp_path / "small.geojson", area(LEFT))
    part = run_slide(slide, tmp_path / "part", options(roi=small), ignore_events)
    assert [row.n_nuclei for row in part.region.annotations] == [part.n_nuclei]
    shown, told = score(part.folder, write(tmp_path / "whole.geojson", area(shapely.union(LEFT, RIGHT))))
    said = f"{RIGHT.area / (LEFT.area + RIGHT.area):.1%} of the region lies outside the region of the run"
    assert said in shown.output
    assert any(said in note for note in told["notes"])
    # Without a region, the run's own annotations are shown.
    again = orjson.loads(CliRunner().invoke(app, ["score", part.folder, "--json"]).output)[0]
    assert again["annotations"] == [row.to_dict() for row in part.region.annotations]


@pytest.mark.parametrize("name", ["\x1b[31mred\x07", "\ud800x"])
def test_no_name_reaches_the_terminal_raw(name: str, result: RunSummary, slide: Path, tmp_path: Path) -> None:
    roi = write(tmp_path / "name.geojson", area(LEFT, name=name))
    shown, told = score(result.folder, roi)
    raw = [char for char in shown.output if char in name and not char.isprintable()]
    assert raw == []
    assert told["index"]["n_scored"] == count(result.folder, LEFT)
    fresh = run_slide(slide, tmp_path / "fresh", options(roi=roi), ignore_events)
    assert fresh.region.name == told["index"]["region"]


def test_what_is_open_is_refused_before_any_work(result: RunSummary, slide: Path, tmp_path: Path) -> None:
    roi = write(tmp_path / "t.geojson", area(LEFT, classification="TILs"), area(RIGHT, classification="Carcinoma"))
    with pytest.raises(RoiError, match=r"TILs.*Carcinoma.*--roi-class"):
        run_slide(slide, tmp_path / "none", options(roi=roi), ignore_events)
    chosen = run_slide(slide, tmp_path / "one", options(roi=roi, roi_class=("carcinoma",)), ignore_events)
    other = run_slide(slide, tmp_path / "one", options(roi=roi, roi_class=("*",)), ignore_events)
    assert not other.was_done
    assert chosen.n_nuclei == count(result.folder, RIGHT) < other.n_nuclei
    assert score(result.folder, roi, "--roi-class", "TILs,Carcinoma")[1]["index"]["n_scored"] == other.n_nuclei
    refused = CliRunner().invoke(app, ["score", result.folder, "--roi-class", "TILs"])
    assert refused.exit_code == 2
    assert "--roi-class: given without --roi" in refused.output


@pytest.mark.parametrize(
    ("name", "kind"), [("", "Necrosis"), ("Ignore", "Tumor"), ("Necrosis, in part", "Tumor"), ("excluded?", "Stroma")]
)
def test_a_kept_region_is_read_back_whatever_it_is_called(
    name: str, kind: str, result: RunSummary, tmp_path: Path
) -> None:
    first = score(result.folder, write(tmp_path / "roi.geojson", area(LEFT, name=name, classification=kind)))[1]
    kept = Path(result.folder) / Artefact.SCORES / first["key"] / Artefact.REGION
    again = score(result.folder, kept, "--dab-cut", "0.3")[1]
    assert again["index"]["n_scored"] == first["index"]["n_scored"] > 20
    assert again["scoring"]["region"] == first["scoring"]["region"]

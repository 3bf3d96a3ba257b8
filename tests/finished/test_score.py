"""Ki-67 again from stored nuclei: the same as a fresh run, exact at the region's edge, earlier scores kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from stand_in import MPP, draw_slide
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.cli.summary_text import lines_about_run
from wsipsm.config import RunOptions
from wsipsm.errors import RoiError, UsageError
from wsipsm.events import ignore_events
from wsipsm.export.geojson_check import check_geojson
from wsipsm.finished.rescore import score_result
from wsipsm.keys import Artefact, Column
from wsipsm.results.summary import RunSummary, ScoreFacts
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")
WIDTH, HEIGHT = 1400, 1100


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 128, **values})


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return draw_slide(tmp_path / "case.png", WIDTH, HEIGHT, seed=4)


@pytest.fixture
def result(slide: Path, tmp_path: Path) -> RunSummary:
    return run_slide(slide, tmp_path / "out", options(), ignore_events)


def feature(shape: shapely.Geometry, name: str = "", kind: str = "") -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "annotation", "name": name}
    if kind:
        properties["classification"] = {"name": kind}
    return {"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": properties}


def write_roi(path: Path, *features: dict[str, Any]) -> Path:
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def stored(folder: str | Path) -> dict[str, Any]:
    return dict(orjson.loads((Path(folder) / Artefact.SCORE).read_bytes()))


def test_a_run_scores_and_its_parts_agree(result: RunSummary) -> None:
    told = stored(result.folder)
    assert told["index"] == result.to_dict()["labelling_index"]
    assert told["index"]["n_scored"] == result.n_nuclei > 100
    assert told["index"]["n_positive"] == result.n_positive
    assert result.scores is not None
    assert told["hot_spot"] == result.to_dict()["scores"]["hot_spot"]
    assert told["interval"]["low"] <= told["index"]["low"]
    curve = told["threshold_curve"]
    near = int(np.argmin(np.abs(np.array(curve["dab_od"]) - told["cut"]["dab_od"])))
    assert curve["index"][near] == pytest.approx(told["index"]["value"], abs=0.1)
    areas = Path(result.folder) / Artefact.SCORE_AREAS
    assert check_geojson(areas) == []
    fields = [f for f in orjson.loads(areas.read_bytes())["features"] if f["properties"]["name"] != "Ki-67 hot spot"]
    assert sum(f["properties"]["measurements"]["Nuclei"] for f in fields) == result.n_nuclei


def test_scored_again_it_equals_a_fresh_run_with_that_region(result: RunSummary, slide: Path, tmp_path: Path) -> None:
    ring = shapely.Point(600, 500).buffer(380).difference(shapely.Point(500, 450).buffer(90))
    roi = write_roi(
        tmp_path / "roi.geojson", feature(ring, "invasive"), feature(shapely.box(620, 500, 760, 610), kind="Ignore*")
    )
    again = score_result(result.folder, roi)
    fresh = run_slide(slide, tmp_path / "fresh", options(roi=roi), ignore_events)
    assert 50 < again.score.index.n_scored < result.n_nuclei
    first, second = stored(result.folder), stored(fresh.folder)
    # What was cut out was searched by the first run alone.
    cut_out = [told["annotations"].pop() for told in (first, second)]
    assert [row["use"] for row in cut_out] == ["cut out", "cut out"]
    assert cut_out[0]["n_nuclei"] > 0
    assert cut_out[1]["n_nuclei"] is None
    assert [told["scoring"].pop("made_by") for told in (first, second)] == ["score", "run"]
    assert first == second
    assert fresh.n_nuclei == again.score.index.n_scored
    # Without the slide, and from the region that the fresh run keeps.
    slide.unlink()
    roi.unlink()
    once_more = score_result(fresh.folder).score
    assert (once_more.index, ScoreFacts.of(once_more)) == (again.score.index, ScoreFacts.of(again.score))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_every_score_is_kept_and_the_runs_own_comes_back(result: RunSummary) -> None:
    folder = Path(result.folder)
    before = contents(folder)
    first = stored(folder)
    other = score_result(folder, dab_cut_od=first["cut"]["dab_od"] + 0.2)
    assert other.score.index.n_positive < first["index"]["n_positive"]
    assert stored(folder)["cut"]["from"] == "given by --dab-cut"
    kept = {
        path.parent.name: orjson.loads(path.read_bytes()) for path in (folder / Artefact.SCORES).glob("*/score.json")
    }
    assert kept == {"run": first, other.key: stored(folder)}
    third = score_result(folder, dab_cut_od=first["cut"]["dab_od"] - 0.1)
    assert third.score.index.n_positive > first["index"]["n_positive"]
    assert score_result(folder).score.index.n_positive == first["index"]["n_positive"]
    assert contents(folder) == before
    assert {path.name for path in (folder / Artefact.SCORES).iterdir()} == {"run", other.key, third.key}


def test_nuclei_at_edges_holes_and_exclusions_are_counted_exactly(result: RunSummary, tmp_path: Path) -> None:
    """Against shapely, one nucleus after the other, with edges that run through centroids' neighbourhoods."""
    table = pq.read_table(Path(result.folder) / Artefact.CELLS)
    xy = np.stack([table.column(c.value).to_numpy() for c in (Column.CENTROID_X_PX0, Column.CENTROID_Y_PX0)], 1)
    # Edges within a thousandth of a pixel of a nucleus' centroid, on either side of it.
    one, two = xy[len(xy) // 3], xy[2 * len(xy) // 3]
    outer = shapely.box(100, 90, one[0] + 1e-3, 900)
    parts = [
        outer.difference(shapely.box(200, 200, 330, 340)),
        shapely.box(min(two[0] - 1e-3, WIDTH - 300), 20, WIDTH - 20, two[1] - 1e-3),
        shapely.Polygon([(90, 905), (400, 1090), (700, 905), (400, 990)]),
    ]
    cut_out = [shapely.Point(300, 600).buffer(77.7), shapely.box(WIDTH - 120, 0, WIDTH, 200)]
    roi = write_roi(
        tmp_path / "roi.geojson",
        *(feature(shape, f"part {n}") for n, shape in enumerate(parts)),
        *(feature(shape, "exclude") for shape in cut_out),
    )
    region = shapely.union_all(parts).difference(shapely.union_all(cut_out))
    expected = np.array([region.contains(shapely.Point(*point)) for point in xy])
    positive = np.array(table.column(Column.CLASS.value).to_pylist()) == "Positive"
    found = score_result(result.folder, roi).score.index
    assert (found.n_scored, found.n_positive) == (int(expected.sum()), int((expected & positive).sum()))
    assert expected[len(xy) // 3]
    assert not expected[2 * len(xy) // 3]


def test_where_annotations_are_classed_tumour_only_those_count(result: RunSummary, tmp_path: Path) -> None:
    tumour, stroma = shapely.box(100, 100, 600, 600), shapely.box(700, 100, 1200, 600)
    alone = write_roi(tmp_path / "a.geojson", feature(tumour, kind="Tumor"))
    both = write_roi(tmp_path / "b.geojson", feature(tumour, kind="Tumor"), feature(stroma, kind="Stroma"))
    named = write_roi(tmp_path / "c.geojson", feature(tumour, "tumour 1"), feature(stroma))
    n = [score_result(result.folder, roi).score.index.n_scored for roi in (alone, both, named)]
    assert n[0] == n[1] == n[2] > 20


def test_a_region_that_was_never_searched_is_told(result: RunSummary, slide: Path, tmp_path: Path) -> None:
    small = write_roi(tmp_path / "small.geojson", feature(shapely.box(0, 0, 500, 500)))
    large = write_roi(tmp_path / "large.geojson", feature(shapely.box(0, 0, 500, 1000)))
    part = run_slide(slide, tmp_path / "part", options(roi=small), ignore_events)
    score_result(part.folder, large)
    assert "50.0% of the region lies outside the region of the run" in stored(part.folder)["notes"][0]


def test_the_command(result: RunSummary, tmp_path: Path) -> None:
    runner = CliRunner()
    told = runner.invoke(app, ["score", result.folder, "--dab-cut", "0.3"])
    assert told.exit_code == 0
    assert "hot spot" in told.output
    assert "DAB cut 0.300 OD, given by --dab-cut" in told.output
    assert "research use only" in told.output
    data = orjson.loads(runner.invoke(app, ["score", result.folder, "--json"]).output)
    assert data[0]["index"]["n_scored"] == result.n_nuclei


def test_results_that_cannot_be_scored(result: RunSummary) -> None:
    folder = Path(result.folder)
    for damage in (Artefact.RUN, Artefact.SUMMARY, Artefact.CELLS, Artefact.TISSUE, Artefact.PICTURE):
        path = (folder if damage in (Artefact.RUN, Artefact.PICTURE) else folder / "scores" / "run") / damage
        content = path.read_bytes()
        path.unlink()
        for torn in (False, True):
            if torn:
                path.write_bytes(content[: len(content) // 2])
            with pytest.raises(UsageError, match=str(result.folder)):
                score_result(result.folder, dab_cut_od=0.3)
        path.write_bytes(content)
    score_result(result.folder, dab_cut_od=0.3)


def test_what_is_missing_at_the_top_is_put_there_again(result: RunSummary, slide: Path) -> None:
    folder = Path(result.folder)
    before = contents(folder)
    for damage in (Artefact.SUMMARY, Artefact.CELLS, Artefact.GEOJSON, Artefact.SCORE, Artefact.OVERVIEW):
        (folder / damage).unlink()
        score_result(folder)
        assert contents(folder) == before
        (folder / damage).unlink()
        assert run_slide(slide, folder.parent, options(), ignore_events).was_done
        assert contents(folder) == before


def test_results_of_a_version_that_kept_no_run_are_told(result: RunSummary) -> None:
    shutil.rmtree(Path(result.folder) / Artefact.SCORES)
    with pytest.raises(UsageError, match="results of an earlier version"):
        score_result(result.folder)


def test_several_results_and_what_is_none(result: RunSummary, tmp_path: Path) -> None:
    out = Path(result.folder).parent
    (out / "cohort.csv").write_text("id\n")
    (out / "another folder").mkdir()
    paths = [str(path) for path in sorted(out.iterdir())]
    runner = CliRunner()
    done = runner.invoke(app, ["score", *paths, "--dab-cut", "0.25"])
    assert done.exit_code == 0
    assert "DAB cut 0.250" in done.output
    assert f"skipped: {out / 'cohort.csv'}" in done.output
    assert f"{out / 'cohort.csv'} keeps the run's own scoring" in done.output
    unfinished = out / "unfinished"
    unfinished.mkdir()
    (unfinished / Artefact.SLIDE).write_text("{}")
    done = runner.invoke(app, ["score", str(unfinished), *paths, "--dab-cut", "0.3", "--json"])
    assert done.exit_code == 5
    data = orjson.loads(done.stdout)
    assert "no finished run" in data[0]["error"]
    assert data[1]["cut"]["dab_od"] == 0.3
    for none in ([str(out / "cohort.csv")], [str(out / "cohort.csv"), str(out / "another folder")]):
        done = runner.invoke(app, ["score", *none])
        assert done.exit_code == 2
        assert "no finished run" in done.output
    assert os.listdir(out / "another folder") == []


def test_a_run_again_shows_its_own_scoring_and_says_so(result: RunSummary, slide: Path) -> None:
    folder = Path(result.folder)
    before = contents(folder)
    other = score_result(folder, dab_cut_od=0.3)
    again = run_slide(slide, folder.parent, options(), ignore_events)
    assert again.was_done
    assert f"DAB cut 0.300 OD; it is kept in {folder / 'scores' / other.key}" in again.restored
    assert any(again.restored in line for line in lines_about_run(again))
    assert contents(folder) == before
    assert not run_slide(slide, folder.parent, options(), ignore_events).restored


def test_nuclei_without_a_density_cannot_be_scored(result: RunSummary) -> None:
    path = Path(result.folder) / "scores" / "run" / Artefact.CELLS
    table = pq.read_table(path)
    place = table.schema.get_field_index(Column.DAB_OD.value)
    holed = pa.array([None, *table.column(place).to_pylist()[1:]], pa.float32())
    pq.write_table(table.set_column(place, Column.DAB_OD.value, holed), path)
    with pytest.raises(UsageError, match=r"1 of [0-9]+ nuclei have no DAB density"):
        score_result(result.folder, dab_cut_od=0.3)


def test_scoring_again_loads_no_heavy_room(result: RunSummary) -> None:
    code = (
        "import sys; from wsipsm.finished.rescore import score_result; score_result(sys.argv[1], dab_cut_od=0.3); "
        "print(sorted({'dask', 'distributed', 'openvino', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, result.folder], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_region_elsewhere_is_refused(result: RunSummary, tmp_path: Path) -> None:
    with pytest.raises(RoiError, match="--roi"):
        score_result(result.folder, write_roi(tmp_path / "far.geojson", feature(shapely.box(9000, 0, 9500, 500))))

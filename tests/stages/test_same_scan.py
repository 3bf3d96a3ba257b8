"""The same scan in several containers and in both of QuPath's frames: the same nuclei, index, fields and means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import shapely
from drawn_canvas import write_dense, write_scn, write_sparse
from stand_in import draw_nuclei
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.config import RunOptions
from wsipsm.errors import RoiError
from wsipsm.events import ignore_events
from wsipsm.finished.rescore import score_result
from wsipsm.keys import Artefact, Column, QuPathFrame
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")
SIDE_PX = 1280
"""640 um at 0.5: a whole field and a part of one each way."""
CANVAS = (4096, 5120)
CORNERS = {"dense.tif": (0, 0), "sparse.tif": (1024, 2304), "odd.scn": (1001, 2303), "corner.scn": (0, 3840)}


def draw(folder: Path, name: str) -> Path:
    pixels, path = draw_nuclei(SIDE_PX, SIDE_PX, seed=3), folder / name
    if name == "dense.tif":
        return write_dense(path, pixels)
    write = write_sparse if name == "sparse.tif" else write_scn
    return write(path, pixels, CANVAS, CORNERS[name])


def run(slide: Path, out: Path, **values: Any) -> Path:
    options = RunOptions(**{"workers": 0, "block_px": 512, "tile_px": 256, **values})
    return Path(run_slide(slide, out, options, ignore_events).folder)


def read(path: Path) -> dict[str, Any]:
    return dict(orjson.loads(path.read_bytes()))


def centroids(folder: Path) -> np.ndarray:
    table = pq.read_table(folder / Artefact.CELLS)
    return np.stack([table.column(c.value).to_numpy() for c in (Column.CENTROID_X_PX0, Column.CENTROID_Y_PX0)], 1)


def areas(path: Path) -> list[tuple[str, list[float], dict[str, float]]]:
    features = read(path)["features"]
    return [
        (f["properties"]["name"], list(shapely.from_geojson(orjson.dumps(f["geometry"])).bounds), f["properties"])
        for f in features
    ]


def all_geojson_passes(folder: Path, slide: Path) -> None:
    files = sorted(folder.rglob("*.geojson*"))
    assert len(files) >= 3
    for file in files:
        done = CliRunner().invoke(app, ["check", str(file), "--slide", str(slide)])
        assert done.exit_code == 0, done.output


def figures(folder: Path) -> dict[str, Any]:
    score = read(folder / Artefact.SCORE)
    return {name: score[name] for name in ("index", "interval", "unweighted_mean", "hot_spot", "bands", "cut", "flags")}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("dense"), "dense.tif")


@pytest.mark.parametrize("name", ["sparse.tif", "odd.scn", "corner.scn"])
def test_containers_give_the_same(dense: Path, tmp_path: Path, name: str) -> None:
    slide = draw(tmp_path, name)
    one, other = run(dense, tmp_path / "one"), run(slide, tmp_path / "other")
    np.testing.assert_allclose(centroids(other) - CORNERS[name], centroids(one), atol=1e-6)
    assert figures(other) == figures(one)
    assert figures(one)["index"]["n_scored"] > 500
    assert figures(one)["hot_spot"]["spot"] is not None
    weighted = [read(folder / Artefact.SCORE)["area_weighted_mean"] for folder in (one, other)]
    assert weighted[0]["n_fields"] == weighted[1]["n_fields"] == 3  # the corner holds fewer than 50 nuclei
    assert weighted[0]["value"] == pytest.approx(weighted[1]["value"])
    assert areas(other / Artefact.SCORE_AREAS) == areas(one / Artefact.SCORE_AREAS)
    for folder, source in ((one, dense), (other, slide)):
        all_geojson_passes(folder, source)


def test_fields_begin_at_the_bounds_and_end_with_the_slide(dense: Path, tmp_path: Path) -> None:
    folder = run(dense, tmp_path / "out")
    boxes = [box for name, box, _ in areas(folder / Artefact.SCORE_AREAS) if name != "Ki-67 hot spot"]
    assert sorted(boxes) == [
        [0, 0, 1000, 1000],
        [0, 1000, 1000, 1280],
        [1000, 0, 1280, 1000],
        [1000, 1000, 1280, 1280],
    ]


def test_in_the_full_frame_only_coordinates_differ(tmp_path: Path) -> None:
    slide = draw(tmp_path, "odd.scn")
    cropped = run(slide, tmp_path / "cropped")
    full = run(slide, tmp_path / "full", qupath_frame=QuPathFrame.FULL)
    assert figures(cropped) == figures(full)
    assert centroids(cropped).tolist() == centroids(full).tolist()
    shift = np.array(CORNERS["odd.scn"] * 2)
    for (_, here, _), (_, there, _) in zip(
        areas(cropped / Artefact.SCORE_AREAS), areas(full / Artefact.SCORE_AREAS), strict=True
    ):
        assert np.allclose(np.array(here) + shift, there)
    for folder, frame in ((cropped, "cropped"), (full, "full")):
        assert read(folder / Artefact.RUN)["frame"]["qupath_frame"] == frame
        assert read(folder / Artefact.RUN)["options"]["qupath_frame"] == frame
        assert read(folder / Artefact.SCORE)["frame"]["qupath_frame"] == frame
        assert read(folder / Artefact.SCORE_AREAS)["wsipsm"]["qupath_frame"] == frame
        all_geojson_passes(folder, slide)


def test_a_region_is_scored_alike_in_both_frames_and_from_its_own_file(tmp_path: Path) -> None:
    slide = draw(tmp_path, "odd.scn")
    x, y = CORNERS["odd.scn"]
    drawn = shapely.Point(600, 640).buffer(555.5)  # its outline lies on no hundredth of a pixel
    here, there = tmp_path / "here.geojson", tmp_path / "there.geojson"
    for path, shape in ((here, drawn), (there, shapely.affinity.translate(drawn, x, y))):
        path.write_bytes(orjson.dumps(shapely.geometry.mapping(shape)))
    with pytest.raises(RoiError, match="--qupath-frame full"):
        run(slide, tmp_path / "refused", roi=there)
    folder = run(slide, tmp_path / "full", roi=there, qupath_frame=QuPathFrame.FULL)
    wanted = figures(folder)
    assert 200 < wanted["index"]["n_scored"] < len(centroids(folder)) + 1
    all_geojson_passes(folder, slide)
    # Without --roi by the exact outline; from region.geojson by the rounded one, whatever frame is asked for.
    assert score_result(folder).score.index.n_scored == wanted["index"]["n_scored"]
    again = score_result(folder, folder / Artefact.REGION, qupath_frame=QuPathFrame.CROPPED)
    assert again.score.index.n_scored == pytest.approx(wanted["index"]["n_scored"], abs=1)
    assert read(folder / Artefact.SCORE_AREAS)["wsipsm"]["qupath_frame"] == "cropped"
    cropped = score_result(folder, here, qupath_frame=QuPathFrame.CROPPED)
    assert cropped.score.index.n_scored == wanted["index"]["n_scored"]
    with pytest.raises(RoiError, match="--qupath-frame cropped"):
        score_result(folder, here)
    all_geojson_passes(folder, slide)


SAME_STREAM = (
    "aperio-jpeg-ihc-ki67.svs",
    "philips-tiff-ihc-ki67.tiff",
    "leica-scn-ihc-ki67.scn",
)
"""Level 0 of these is the same to the last bit."""
ENCODED_AGAIN = (
    "hamamatsu-ndpi-ihc-ki67.ndpi",
    "mirax-ihc-ki67.mrxs",
    "ventana-bif-ihc-ki67-overlaps.bif",
)
PART = shapely.box(40, 40, 1820, 1820)
"""That all of them show, in QuPath's coordinates."""


def scored_part(slide: Path, folder: Path, roi: Path) -> tuple[Path, dict[str, Any]]:
    return (own := run(slide, folder / slide.name, mpp=0.2271, roi=roi)), figures(own)


def test_real_containers_give_the_same(slides_dir: Path, tmp_path: Path) -> None:
    """The stand-in network's nuclei: whether frames agree does not depend on which nuclei are found."""
    roi = tmp_path / "part.geojson"
    roi.write_bytes(orjson.dumps(shapely.geometry.mapping(PART)))
    found = {}
    for name in (*SAME_STREAM, *ENCODED_AGAIN):
        slide = slides_dir / "derived" / name
        folder, found[name] = scored_part(slide, tmp_path, roi)
        all_geojson_passes(folder, slide)
        found[name]["places"] = [box for _, box, _ in areas(folder / Artefact.SCORE_AREAS)]
    one = found[SAME_STREAM[0]]
    assert one["index"]["n_scored"] > 100
    for name in SAME_STREAM:
        assert found[name]["index"]["n_scored"] == one["index"]["n_scored"], name
        assert found[name]["unweighted_mean"]["value"] == pytest.approx(one["unweighted_mean"]["value"]), name
        assert found[name]["places"] == one["places"], name
    for name in ENCODED_AGAIN:
        assert found[name]["unweighted_mean"]["n_fields"] == one["unweighted_mean"]["n_fields"], name
        assert found[name]["index"]["value"] == pytest.approx(one["index"]["value"], abs=0.02), name
        assert found[name]["unweighted_mean"]["value"] == pytest.approx(one["unweighted_mean"]["value"], abs=0.02), name

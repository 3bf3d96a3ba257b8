"""What Python reads of a result: the same nuclei as the other files hold, in pixels and in microns."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shapely
from drawn_canvas import write_sparse
from stand_in import draw_nuclei

import wsipsm
from wsipsm import Artefact, Column, UsageError
from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.finished.rescore import score_result
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")
MPP = 0.5
CORNER = (512, 256)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of a scan that lies on a larger, empty canvas."""
    slide = write_sparse(tmp_path / "case.tif", draw_nuclei(512, 512, seed=3), (1536, 1280), CORNER, MPP)
    options = RunOptions(workers=0, block_px=256, tile_px=128)
    return Path(run_slide(slide, tmp_path / "results", options, ignore_events).folder)


def features(folder: Path) -> dict[str, Any]:
    with gzip.open(folder / Artefact.GEOJSON) as file:
        return {one["id"]: one for one in orjson.loads(file.read())["features"] if "id" in one}


def test_nuclei_in_pixels_are_those_of_the_geojson(folder: Path) -> None:
    cells = wsipsm.read_cells(folder)
    assert list(cells.columns) == [column.value for column in Column]
    assert cells.crs is None
    drawn = features(folder)
    assert set(drawn) == set(cells[Column.NUCLEUS_ID.value])
    assert len(drawn) == len(cells) > 100
    # QuPath shows the scan alone: its coordinates count from the corner.
    there = [shapely.from_geojson(orjson.dumps(drawn[name]["geometry"])) for name in cells[Column.NUCLEUS_ID.value]]
    np.testing.assert_allclose(shapely.area(there), cells.area, rtol=1e-6)
    np.testing.assert_allclose(shapely.bounds(there) + CORNER * 2, cells.bounds, atol=1e-2)
    kinds = [drawn[name]["properties"]["classification"]["name"] for name in cells[Column.NUCLEUS_ID.value]]
    assert kinds == cells[Column.CLASS.value].tolist()
    np.testing.assert_allclose(cells.area * MPP**2, cells[Column.AREA_UM2.value], rtol=1e-6)


def test_microns_count_from_the_corner_of_the_scan(folder: Path) -> None:
    px0, um = wsipsm.read_cells(folder), wsipsm.read_cells(folder, unit="um")
    names = [column.value for column in Column]
    names[names.index("centroid_x_px0")], names[names.index("centroid_y_px0")] = "centroid_x_um", "centroid_y_um"
    assert list(um.columns) == names
    assert um.crs is None
    for axis, corner in zip("xy", CORNER, strict=True):
        np.testing.assert_allclose(um[f"centroid_{axis}_um"], (px0[f"centroid_{axis}_px0"] - corner) * MPP)
        np.testing.assert_allclose(getattr(um.centroid, axis), um[f"centroid_{axis}_um"])
        # From that corner the hot spot and the fields of score.json count too.
        assert 0 <= getattr(um.centroid, axis).min() < 20
    np.testing.assert_allclose(um.area, um[Column.AREA_UM2.value], rtol=1e-6)
    kept = wsipsm.read_cells(folder / Artefact.SCORES / "run" / Artefact.CELLS, unit="um")
    assert kept.equals(um)


def test_summary_and_score_agree_with_the_nuclei(folder: Path) -> None:
    cells = wsipsm.read_cells(str(folder / Artefact.CELLS))
    n_positive = int((cells[Column.CLASS.value] == "Positive").sum())
    for place in (str(folder), folder / Artefact.SUMMARY):
        summary = wsipsm.read_summary(place)
        assert (summary.n_nuclei, summary.n_positive) == (len(cells), n_positive)
        assert summary.folder == str(folder)
        assert summary.path("cells").is_file()
    for place in (folder, folder / Artefact.SCORE, folder / Artefact.SCORES / "run"):
        score = wsipsm.read_score(place)
        assert score.index is not None
        assert score.index == summary.labelling_index
        assert score.index.value == n_positive / len(cells)
        assert score.scoring == summary.scoring


def test_a_later_score_is_what_is_read(folder: Path) -> None:
    own = wsipsm.read_score(folder)
    scored = score_result(folder, dab_cut_od=0.5)
    assert wsipsm.read_score(folder).scoring == wsipsm.read_summary(folder).scoring == scored.scoring != own.scoring
    assert wsipsm.read_score(folder / Artefact.SCORES / "run") == own
    assert wsipsm.read_score(folder / Artefact.SCORES / scored.key).cut.dab_od == 0.5


def test_what_is_absent_or_damaged_is_named(folder: Path) -> None:
    readers = {
        Artefact.CELLS: lambda: wsipsm.read_cells(folder),
        Artefact.RUN: lambda: wsipsm.read_cells(folder, unit="um"),
        Artefact.SUMMARY: lambda: wsipsm.read_summary(folder),
        Artefact.SCORE: lambda: wsipsm.read_score(folder),
    }
    for artefact, read in readers.items():
        path = folder / artefact
        content = path.read_bytes()
        for left in (None, b"", b"{}", content[: len(content) // 2]):
            path.unlink(missing_ok=True)
            if left is not None:
                path.write_bytes(left)
            with pytest.raises(UsageError, match=str(path)):
                read()
        path.write_bytes(content)
        read()
    with pytest.raises(UsageError, match="'px0' or 'um'"):
        wsipsm.read_cells(folder, unit="mm")  # type: ignore[arg-type]

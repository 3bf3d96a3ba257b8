"""A slide from file to results, with a stand-in network and without."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import dask.config
import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from distributed import LocalCluster
from PIL import Image
from stand_in import HERE, MPP, draw_slide

from wsipsm.config import RunOptions
from wsipsm.errors import MissingMppError, OutputError, RoiError, SlideOpenError, UsageError
from wsipsm.events import BlockDone, Event, RunPlanned, SlideDone, StageStarted, ignore_events
from wsipsm.executors.serial import SerialExecutor
from wsipsm.export.geojson_check import check_geojson
from wsipsm.finished.check import check_result
from wsipsm.instances.table import nuclei_schema
from wsipsm.keys import Artefact, Column
from wsipsm.results.folder_names import slide_stem
from wsipsm.stages import finish, segment
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 128, **values})


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_slide(tmp_path_factory.mktemp("drawn") / "case.one.png", 620, 500, density=1.3)


def nuclei(folder: Path) -> Any:
    return pq.read_table(folder / Artefact.CELLS).to_pandas()


def test_results_and_what_is_told_on_the_way(slide: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    summary = run_slide(slide, tmp_path, options(), events.append)
    folder = tmp_path / "case.one"
    assert summary.folder == str(folder)
    assert {path.name for path in folder.iterdir()} == {a.value for a in Artefact} - {
        Artefact.SHARDS.value,
        Artefact.REGION.value,
        Artefact.TRACE.value,
    }

    table = pq.read_table(folder / Artefact.CELLS)
    assert table.schema.equals(nuclei_schema())
    assert table.num_rows == summary.n_nuclei == summary.n_positive + summary.n_negative > 150
    frame = geopandas.read_parquet(folder / Artefact.CELLS)
    assert frame.geometry.is_valid.all()
    assert frame.crs is None
    assert frame.total_bounds[0] >= 0
    assert (frame.total_bounds[2:] <= (620, 500)).all()
    assert frame[Column.NUCLEUS_ID.value].is_unique
    assert check_geojson(folder / Artefact.GEOJSON) == []

    stored = json.loads((folder / Artefact.SUMMARY).read_text())
    sizes, digests = stored.pop("file_bytes"), stored.pop("nuclei_sha256")
    assert stored == summary.to_dict()
    assert sizes == {name: (folder / name).stat().st_size for name in sizes}
    assert digests == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in digests}
    assert list(digests) == [Artefact.CELLS, Artefact.GEOJSON]
    assert summary.coverage == 1
    assert summary.exit_code == 0
    assert summary.labelling_index is not None
    assert summary.labelling_index.n_scored == summary.n_nuclei
    run = json.loads((folder / Artefact.RUN).read_text())
    assert run["model"]["backends"] == ["stand-in"]
    assert run["stain"]["profile"]["stain"] == "ihc"
    assert sum(run["areas"]["n_nuclei"]) == summary.n_nuclei

    kinds = [type(event) for event in events]
    assert kinds == [StageStarted, RunPlanned, StageStarted, *[BlockDone] * 6, StageStarted, SlideDone]
    plan = next(event for event in events if isinstance(event, RunPlanned))
    reports = [event.report for event in events if isinstance(event, BlockDone)]
    assert plan.n_blocks == 6
    assert plan.n_tiles == sum(report.n_tiles for report in reports)
    assert list(reports[0].seconds) == ["read", "predict", "decode", "trace", "measure", "write"]


def test_a_finished_run_is_left_alone_until_told_otherwise(slide: Path, tmp_path: Path) -> None:
    first = run_slide(slide, tmp_path, options(), ignore_events)
    cells = Path(first.folder) / Artefact.CELLS
    content, time_before = cells.read_bytes(), cells.stat().st_mtime_ns
    again = run_slide(slide, tmp_path, options(tile_px=128, workers=0), ignore_events)
    assert again.was_done
    assert again.to_dict() == first.to_dict()
    assert cells.stat().st_mtime_ns == time_before
    forced = run_slide(slide, tmp_path, options(overwrite=True), ignore_events)
    assert not forced.was_done
    assert cells.stat().st_mtime_ns > time_before
    assert cells.read_bytes() == content
    assert not any("replaced" in note for note in forced.notes)


def test_other_options_replace_results_and_say_so(slide: Path, tmp_path: Path) -> None:
    first = run_slide(slide, tmp_path, options(), ignore_events)
    other = run_slide(slide, tmp_path, options(block_px=512), ignore_events)
    assert other.request_key != first.request_key
    assert any("replaced" in note for note in other.notes)
    assert other.n_nuclei == first.n_nuclei


def test_a_missing_artefact_is_made_again(slide: Path, tmp_path: Path) -> None:
    summary = run_slide(slide, tmp_path, options(), ignore_events)
    (Path(summary.folder) / Artefact.OVERVIEW).unlink()
    assert run_slide(slide, tmp_path, options(), ignore_events).was_done, "the run's own scoring is kept"
    assert (Path(summary.folder) / Artefact.OVERVIEW).is_file()
    shutil.rmtree(Path(summary.folder) / Artefact.SCORES)
    assert not run_slide(slide, tmp_path, options(), ignore_events).was_done
    assert check_result(Path(summary.folder)) == []


def test_roi_decides_which_nuclei_count(slide: Path, tmp_path: Path) -> None:
    everything = run_slide(slide, tmp_path / "all", options(), ignore_events)
    shape = shapely.Polygon([(100, 50), (420, 90), (300, 400)])
    roi = tmp_path / "roi.geojson"
    feature = {"type": "Feature", "properties": {"name": "Tumour 1"}, "geometry": shapely.geometry.mapping(shape)}
    roi.write_text(json.dumps(feature))
    inside = run_slide(slide, tmp_path / "roi", options(roi=roi), ignore_events)
    table = nuclei(Path(everything.folder))
    xy = table[[Column.CENTROID_X_PX0.value, Column.CENTROID_Y_PX0.value]].to_numpy()
    expected = set(table[Column.NUCLEUS_ID.value][shapely.contains_xy(shape, xy)])
    assert set(nuclei(Path(inside.folder))[Column.NUCLEUS_ID.value]) == expected
    assert 0 < len(expected) < len(table)
    assert inside.region.name == "Tumour 1"
    assert inside.n_blocks < everything.n_blocks or inside.n_blocks == 4


def test_a_changed_roi_file_is_another_request(slide: Path, tmp_path: Path) -> None:
    roi = tmp_path / "roi.geojson"
    counts = []
    for side in (300, 150):
        box = shapely.geometry.mapping(shapely.box(0, 0, side, side))
        roi.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": box}))
        counts.append(run_slide(slide, tmp_path, options(roi=roi), ignore_events).n_nuclei)
    assert counts[0] > counts[1] > 0


def test_no_tissue_is_a_result_without_nuclei(tmp_path: Path) -> None:
    path = tmp_path / "glass.png"
    Image.fromarray(np.full((300, 400, 3), 244, np.uint8)).save(path)
    summary = run_slide(path, tmp_path, options(), ignore_events)
    assert summary.n_nuclei == 0
    assert summary.exit_code == 0
    assert nuclei(Path(summary.folder)).empty
    with gzip.open(Path(summary.folder) / Artefact.GEOJSON) as file:
        assert json.load(file)["features"] == []
    assert summary.labelling_index is not None
    assert summary.labelling_index.value is None


@pytest.mark.parametrize("side", [1, 16, 50])
def test_a_slide_smaller_than_any_tile(tmp_path: Path, side: int) -> None:
    path = tmp_path / "small.png"
    Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(path)
    summary = run_slide(path, tmp_path, options(block_px=2048, tile_px=1024), ignore_events)
    assert summary.n_blocks <= 1
    assert summary.exit_code == 0


def test_no_folder_is_made_for_what_is_no_slide(slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SlideOpenError):
        run_slide(tmp_path / "absent.svs", out, options(), ignore_events)
    with pytest.raises(MissingMppError, match="--mpp"):
        run_slide(slide, out, options(mpp=None), ignore_events)
    with pytest.raises(RoiError, match="--roi"):
        run_slide(slide, out, options(roi=tmp_path / "absent.geojson"), ignore_events)
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_told_before_work(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    events: list[Event] = []
    with pytest.raises(OutputError, match="--out"):
        run_slide(slide, tmp_path / "out", options(), events.append)
    assert events == []


def test_bugs_in_one_block_do_not_cost_the_others(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = segment.segment_block

    def fragile(job: Any, block: Any) -> Any:
        if block.index == 4:
            raise MemoryError("no room")
        return real(job, block)

    monkeypatch.setattr(segment, "segment_block", fragile)
    summary = run_slide(slide, tmp_path, options(), ignore_events)
    assert summary.n_failed_blocks == 1
    assert summary.exit_code == 7
    assert 0.5 < summary.coverage < 0.9
    assert "MemoryError: no room" in (Path(summary.folder) / Artefact.RUN).read_text()
    assert len(list((Path(summary.folder) / Artefact.SHARDS).glob("*.parquet"))) == 5

    # Started again, that block alone is tried.
    monkeypatch.setattr(segment, "segment_block", real)
    events: list[Event] = []
    whole = run_slide(slide, tmp_path, options(), events.append)
    assert sum(isinstance(event, BlockDone) for event in events) == 1
    assert whole.exit_code == 0
    assert not (Path(summary.folder) / Artefact.SHARDS).exists()
    clean = run_slide(slide, tmp_path / "clean", options(), ignore_events)
    assert (Path(whole.folder) / Artefact.CELLS).read_bytes() == (Path(clean.folder) / Artefact.CELLS).read_bytes()


@pytest.mark.parametrize("error", [OutputError("full"), SlideOpenError("gone"), UsageError("model")])
def test_what_stops_one_block_stops_the_run(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(job: Any, block: Any) -> Any:
        raise error

    monkeypatch.setattr(segment, "segment_block", fail)
    with pytest.raises(type(error)):
        run_slide(slide, tmp_path, options(), ignore_events)
    assert not (tmp_path / "case.one" / Artefact.CELLS).exists()


def test_an_executor_that_was_passed_stays_open(slide: Path, tmp_path: Path) -> None:
    class Watched(SerialExecutor):
        closed = False

        def close(self) -> None:
            self.closed = True

    executor = Watched()
    run_slide(slide, tmp_path, options(), ignore_events, executor)
    assert not executor.closed


def test_a_running_scheduler_gives_the_same_bytes(slide: Path, tmp_path: Path) -> None:
    serial = run_slide(slide, tmp_path / "serial", options(), ignore_events)
    with (
        dask.config.set({"distributed.worker.preload": [HERE]}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
    ):
        remote_options = options(workers=None, scheduler=cluster.scheduler_address)
        remote = run_slide(slide, tmp_path / "remote", remote_options, ignore_events)
    cells = [Path(summary.folder) / Artefact.CELLS for summary in (serial, remote)]
    assert cells[0].read_bytes() == cells[1].read_bytes()


def test_shards_on_a_disk_that_is_not_shared_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--scheduler tcp://far:1: .*0\.parquet .* not seen here"):
        finish._wait_for_shards([tmp_path / "0.parquet"], "tcp://far:1", timeout_s=0.0)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a/case.svs", "case"), ("x.ome.tif", "x"), ("X.OME.TIFF", "X"), ("dicom", "dicom"), ("a.b.png", "a.b")],
)
def test_folder_names(name: str, stem: str) -> None:
    assert slide_stem(name) == stem

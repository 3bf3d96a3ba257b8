"""Disks that fail and power cuts: an error in one line with its exit code, nothing half written taken for whole.

Faults are put in where the operating system answers: the flush to the disk, the rename, the reading of a file.
A power cut is a file that is empty or cut off, under its temporary or its final name.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from stand_in import MPP, PLACES, draw_slide
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.cohort.ids import IDS_NAME
from wsipsm.cohort.run import CohortOptions, run_cohort
from wsipsm.config import RunOptions
from wsipsm.errors import OutputError, UsageError, WsipsmError
from wsipsm.events import BlockDone, Event, ignore_events
from wsipsm.instances.shard import read_shard
from wsipsm.keys import Artefact
from wsipsm.rundir import TEMPORARY_PREFIX, write_aside
from wsipsm.stages.block import release_worker
from wsipsm.stages.run import run_slide

pytestmark = [
    pytest.mark.usefixtures("stand_in"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the name of an open file is read from /proc"),
]
UNREADABLE = Path("/proc/self/mem")
"""Reading its beginning is answered by EIO, by a kernel that is not asked to pretend."""


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 128, **values})


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_slide(tmp_path_factory.mktemp("drawn") / "case.png", 400, 300, seed=5)


@pytest.fixture(scope="module")
def finished(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for module, name, replacement in PLACES:
            patch.setattr(f"{module}.{name}", replacement)
        release_worker()
        return Path(run_slide(slide, tmp_path_factory.mktemp("finished"), options(), ignore_events).folder)


@pytest.fixture
def clean(finished: Path, tmp_path: Path) -> Path:
    """Folder of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "clean" / finished.name))


def results(folder: Path) -> dict[str, bytes]:
    """Files that must come out byte for byte."""
    names = (Artefact.CELLS, Artefact.GEOJSON, Artefact.OVERVIEW, Artefact.SCORE)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


class Faults:
    """A disk that answers with an error whenever a file of one name is flushed or renamed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.flushed: list[str] = []
        self.at_flush = self.at_rename = ""
        self.number = errno.EIO
        fsync, replace = os.fsync, os.replace

        def failing_fsync(handle: int) -> None:
            name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
            self.flushed.append(name)
            if self.at_flush and name.endswith(self.at_flush):
                raise OSError(self.number, os.strerror(self.number))
            fsync(handle)

        def failing_replace(source: Any, target: Any) -> None:
            if self.at_rename and Path(target).name == self.at_rename:
                raise OSError(self.number, os.strerror(self.number))
            replace(source, target)

        patch.setattr(os, "fsync", failing_fsync)
        patch.setattr(os, "replace", failing_replace)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def test_every_file_of_a_run_is_flushed_before_it_gets_its_name(slide: Path, faults: Faults, tmp_path: Path) -> None:
    folder = Path(run_slide(slide, tmp_path, options(), ignore_events).folder)
    flushed = {name.rpartition("-")[2] for name in faults.flushed}
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.name in flushed, path


@pytest.mark.parametrize("way", ["flush", "rename"])
@pytest.mark.parametrize(
    "name", [Artefact.CELLS, Artefact.GEOJSON, Artefact.OVERVIEW, Artefact.RUN, Artefact.SUMMARY, Artefact.SLIDE]
)
def test_a_disk_that_fails_at_a_file_is_said_and_the_next_run_is_whole(
    slide: Path, clean: Path, faults: Faults, tmp_path: Path, name: Artefact, way: str
) -> None:
    setattr(faults, f"at_{way}", name.value)
    with pytest.raises(OutputError, match=r"the disk failed \(Input/output error\)") as caught:
        run_slide(slide, tmp_path / "out", options(), ignore_events)
    assert caught.value.exit_code == 6
    folder = tmp_path / "out" / "case"
    assert not (folder / Artefact.SUMMARY).exists(), "it is not called finished"
    assert not [path for path in folder.rglob(f"{TEMPORARY_PREFIX}*") if path.is_file()]
    faults.at_flush = faults.at_rename = ""
    again = run_slide(slide, tmp_path / "out", options(), ignore_events)
    assert not again.was_done
    assert results(folder) == results(clean)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_shard_that_cannot_be_written_stops_the_slide_in_one_line(
    slide: Path, clean: Path, faults: Faults, tmp_path: Path, number: int
) -> None:
    faults.at_flush, faults.number = ".parquet", number
    command = ["run", str(slide), "--out", str(tmp_path / "out"), "--mpp", str(MPP), "--workers", "0"]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 6, said.output
    lines = [line for line in said.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert "the disk failed" in lines[0]
    assert "Traceback" not in said.output
    faults.at_flush = ""
    assert CliRunner().invoke(app, command).exit_code == 0


def test_a_shard_that_is_gone_bad_by_the_time_it_is_read_is_said_and_done_again(
    slide: Path, clean: Path, tmp_path: Path
) -> None:
    def tear(event: Event) -> None:
        if isinstance(event, BlockDone) and event.report.index == 1:
            for shard in (tmp_path / "out" / "case" / Artefact.SHARDS).glob("0*.parquet"):
                os.truncate(shard, shard.stat().st_size // 2)

    with pytest.raises(OutputError, match="cannot be read") as caught:
        run_slide(slide, tmp_path / "out", options(), tear)
    assert caught.value.exit_code == 6
    run_slide(slide, tmp_path / "out", options(), ignore_events)
    assert results(tmp_path / "out" / "case") == results(clean)


@pytest.mark.parametrize("damage", ["half", "a byte less"])
def test_no_file_of_a_finished_folder_is_taken_for_whole_when_it_is_cut_off(
    slide: Path, clean: Path, tmp_path: Path, damage: str
) -> None:
    names = [path.relative_to(clean) for path in sorted(clean.rglob("*")) if path.is_file()]
    assert len(names) > 12
    whole = results(clean)
    for name in names:
        folder = tmp_path / "out" / "case"
        shutil.copytree(clean, folder)
        assert run_slide(slide, tmp_path / "out", options(), ignore_events).was_done
        size = (folder / name).stat().st_size
        os.truncate(folder / name, {"half": size // 2, "a byte less": size - 1}[damage])
        run_slide(slide, tmp_path / "out", options(), ignore_events)
        assert results(folder) == whole, name
        assert run_slide(slide, tmp_path / "out", options(), ignore_events).was_done, name
        shutil.rmtree(folder)


def test_what_a_power_cut_left_under_temporary_names_goes(slide: Path, clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "case"
    (folder / Artefact.SHARDS).mkdir(parents=True)
    import socket

    gone = 2**22 + 7  # above every process number
    for name in (Artefact.CELLS.value, Artefact.SUMMARY.value, f"{Artefact.SHARDS.value}/00000-00000-0.parquet"):
        path = folder / name
        half = results(clean)[Artefact.CELLS][:300]
        path.with_name(f"{TEMPORARY_PREFIX}{socket.gethostname()}-{gone}-{path.name}").write_bytes(half)
    run_slide(slide, tmp_path / "out", options(), ignore_events)
    assert results(folder) == results(clean)
    assert not list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("text", ["", "{", '{"host": "oth', "null"])
def test_a_lock_that_was_cut_off_does_not_keep_the_folder(slide: Path, clean: Path, text: str) -> None:
    lock = clean / "wsipsm.lock"
    lock.write_text(text)
    os.utime(lock, (0, 0))
    from wsipsm.folderlock import hold_folder

    with hold_folder(clean, beat_s=0.05):
        pass
    assert not lock.exists()


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_a_record_of_ids_that_was_cut_off_is_refused_and_never_guessed(
    slide: Path, tmp_path: Path, kept: float
) -> None:
    run_cohort([str(slide)], tmp_path / "cohort", options(), ignore_events, CohortOptions())
    record = tmp_path / "cohort" / IDS_NAME
    os.truncate(record, int(record.stat().st_size * kept))
    with pytest.raises(UsageError, match="keeps the ids of the cohort's slides"):
        run_cohort([str(slide)], tmp_path / "cohort", options(), ignore_events, CohortOptions())
    record.unlink()
    run_cohort([str(slide)], tmp_path / "cohort", options(), ignore_events, CohortOptions())
    assert (tmp_path / "cohort" / "case" / Artefact.SUMMARY).exists()


def test_a_slide_whose_disk_fails_on_reading_is_said_in_one_line(tmp_path: Path) -> None:
    for name in ("case.svs", "case.tif", "case.png", "case.dcm", "case"):
        path = tmp_path / name
        path.symlink_to(UNREADABLE)
        for command in ("info", "run"):
            said = CliRunner().invoke(
                app, [command, str(path), *(["--out", str(tmp_path / "out")] * (command == "run"))]
            )
            assert said.exit_code in (2, 3), (name, said.output)
            assert len(said.stderr.strip().splitlines()) == 1, said.stderr
            assert "Traceback" not in said.output
    assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("name", [Artefact.RUN, Artefact.SUMMARY, Artefact.CELLS, Artefact.SCORE, Artefact.TISSUE])
def test_results_whose_disk_fails_on_reading_are_made_again(slide: Path, clean: Path, name: Artefact) -> None:
    whole = results(clean)
    for place in (clean / name, clean / Artefact.SCORES / "run" / name):
        if place.exists():
            place.unlink()
            place.symlink_to(UNREADABLE)
    said = CliRunner().invoke(app, ["score", str(clean)])
    assert said.exit_code in (0, 2, 6), said.output
    assert "Traceback" not in said.output
    assert "unexpected" not in said.output
    run_slide(slide, clean.parent, options(), ignore_events)
    assert results(clean) == whole


def test_an_error_of_what_is_read_meanwhile_is_no_error_of_the_disk_written_to(tmp_path: Path) -> None:
    with pytest.raises(WsipsmError, match="cannot be read"), write_aside(tmp_path / "x"):
        read_shard(UNREADABLE)
    assert not list(tmp_path.iterdir())

"""Killed anywhere and started again, a run gives the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import killed_run
import pyarrow.parquet as pq
import pytest
from stand_in import MPP, draw_slide

from wsipsm.config import RunOptions
from wsipsm.events import BlockDone, Event, RunPlanned, ignore_events
from wsipsm.keys import Artefact
from wsipsm.rundir import TEMPORARY_PREFIX
from wsipsm.stages.run import run_slide

SCRIPT = Path(killed_run.__file__)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_slide(tmp_path_factory.mktemp("drawn") / "case.png", 600, 500, seed=5)


def options(workers: int = 0) -> RunOptions:
    return RunOptions(mpp=MPP, workers=workers, block_px=128, tile_px=128)


def start(slide: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(slide), str(out), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def run_until(slide: Path, out: Path, workers: int, sign: str, n_signs: int, then_s: float) -> list[str]:
    """Run, and kill ``then_s`` seconds after the event named ``sign`` was told ``n_signs`` times; lines told."""
    process = start(slide, out, workers)
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if sum(sign in earlier for earlier in told) == n_signs:
            time.sleep(then_s)
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    return told


@pytest.mark.usefixtures("stand_in")
def test_killed_while_segmenting_and_while_writing(slide: Path, tmp_path: Path) -> None:
    clean = Path(run_slide(slide, tmp_path / "clean", options(), ignore_events).folder)
    out = tmp_path / "killed"
    folder = out / "case"
    run_until(slide, out, 0, "BlockDone", 7, 0.004)
    n_shards = len(list((folder / Artefact.SHARDS).glob("0*.parquet")))
    assert n_shards >= 7
    told = run_until(slide, out, 0, "name='write'", 1, 0.01)
    assert sum("BlockDone" in line for line in told) == 20 - n_shards
    assert not (folder / Artefact.SUMMARY).exists()
    events: list[Event] = []
    run_slide(slide, out, options(), events.append)
    assert not any(isinstance(event, BlockDone) for event in events), "all shards were there"
    for artefact in (Artefact.CELLS, Artefact.GEOJSON, Artefact.OVERVIEW):
        assert (folder / artefact).read_bytes() == (clean / artefact).read_bytes()
    assert not list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_moments(slide: Path, tmp_path: Path, workers: int) -> None:
    clean = Path(run_slide(slide, tmp_path / "clean", options(), ignore_events).folder)
    rng = random.Random(workers)
    for moment in range(5):
        out = tmp_path / f"killed-{moment}"
        for _ in range(3):
            sign = rng.choice(["name='plan'", "BlockDone", "BlockDone", "name='write'"])
            run_until(slide, out, workers, sign, rng.randint(1, 6) if sign == "BlockDone" else 1, rng.random() * 0.4)
        run_slide(slide, out, options(), ignore_events)
        assert (out / "case" / Artefact.CELLS).read_bytes() == (clean / Artefact.CELLS).read_bytes()


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_shards_are_done_again(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    clean = run_slide(slide, tmp_path / "clean", options(), ignore_events)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wsipsm.stages.finish.write_cells", stop)
        with pytest.raises(KeyboardInterrupt):
            run_slide(slide, tmp_path, options(), ignore_events)
    shards = sorted((tmp_path / "case" / Artefact.SHARDS).glob("*.parquet"))
    assert len(shards) == clean.n_blocks
    whole = shards[3].read_bytes()
    # Inside the outlines, where the footer knows nothing of it.
    outlines = pq.ParquetFile(shards[3]).metadata.row_group(0).column(12)
    middle = outlines.data_page_offset + outlines.total_compressed_size * 3 // 4
    shards[3].write_bytes(
        {
            "cut": whole[:-20],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :],
            "empty": b"",
        }[damage]
    )
    events: list[Event] = []
    again = run_slide(slide, tmp_path, options(), events.append)
    plan = next(event for event in events if isinstance(event, RunPlanned))
    assert plan.n_done_before == plan.n_blocks - 1
    assert [event.report.index for event in events if isinstance(event, BlockDone)] == [3]
    cells = [Path(summary.folder) / Artefact.CELLS for summary in (clean, again)]
    assert cells[0].read_bytes() == cells[1].read_bytes()


@pytest.mark.usefixtures("stand_in")
def test_shards_under_each_others_names_are_done_again(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = run_slide(slide, tmp_path / "clean", options(), ignore_events)
    other = draw_slide(tmp_path / "other.png", 600, 500, seed=6)
    for path in (slide, other):
        with monkeypatch.context() as patch:
            patch.setattr("wsipsm.stages.finish.write_cells", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                run_slide(path, tmp_path, options(), ignore_events)
    own = sorted((tmp_path / "case" / Artefact.SHARDS).glob("*.parquet"))
    one, two = own[3].read_bytes(), own[4].read_bytes()
    own[3].write_bytes(two)
    own[4].write_bytes(one)
    own[7].write_bytes(sorted((tmp_path / "other" / Artefact.SHARDS).glob("*.parquet"))[7].read_bytes())
    events: list[Event] = []
    again = run_slide(slide, tmp_path, options(), events.append)
    assert [event.report.index for event in events if isinstance(event, BlockDone)] == [3, 4, 7]
    assert again.path("cells").read_bytes() == clean.path("cells").read_bytes()


@pytest.mark.usefixtures("stand_in")
def test_shards_of_other_options_are_not_taken(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "case" / Artefact.SHARDS
    with monkeypatch.context() as patch:
        patch.setattr("wsipsm.stages.finish.write_cells", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_slide(slide, tmp_path, options(), ignore_events)
    assert len(list(run_dir.glob("*.parquet"))) == 20
    events: list[Event] = []
    run_slide(slide, tmp_path, options().model_copy(update={"tile_px": 64}), events.append)
    plan = next(event for event in events if isinstance(event, RunPlanned))
    assert plan.n_done_before == 0
    assert not run_dir.exists(), "stale shards go with a finished run"

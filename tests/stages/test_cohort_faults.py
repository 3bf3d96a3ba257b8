"""A study on a scheduler and worker processes, with workers, client and disk failing for real."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from stand_in import HERE, MPP, draw_slide

from wsipsm.config import RunOptions
from wsipsm.engine.events import ignore_events
from wsipsm.keys import Artefact
from wsipsm.stages.cohort import run_cohort
from wsipsm.stages.cohort_table import PARQUET_NAME
from wsipsm.stages.journal import read_journal

N_SLIDES = 40
KILL_EVERY_S = 5.0
_VARIES = ("seconds", "attempts")
"""What a disturbed study may tell otherwise: how long it took, and how often a slide was tried."""
_SCRIPT = str(Path(__file__).with_name("killed_cohort.py"))


@contextmanager
def started(*command: str, heard: bool = False, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE if heard else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Pool:
    """A scheduler and worker processes, as on a cluster whose supervisor starts what died."""

    def __init__(self, folder: Path, n_workers: int, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        file = folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        stack.enter_context(started("-m", "distributed.cli.dask_scheduler", *options))
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]
        self._workers = [self._start() for _ in range(n_workers)]
        self.n_killed = 0

    def _start(self) -> subprocess.Popen[str]:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", HERE)
        command = ("-m", "distributed.cli.dask_worker", self.address, *options, "--local-directory", str(self._folder))
        return self._stack.enter_context(started(*command, WSIPSM_STAND_IN_DELAY_S="0.02"))

    def kill_now_and_then(self, ended: threading.Event) -> None:
        """Kill a worker every few seconds, whatever it does, and start another."""
        rng = random.Random(7)
        while not ended.wait(KILL_EVERY_S):
            place = rng.randrange(len(self._workers))
            self._workers[place].kill()
            self.n_killed += 1
            self._workers[place] = self._start()


def run_client(study: Path, out: Path, address: str, kill_after: int | None) -> int:
    """Run the study; SIGKILL it when so many slides are done."""
    with started(_SCRIPT, str(study), str(out), address, heard=True) as client:
        assert client.stdout is not None
        said, n_done = [], 0
        for line in client.stdout:
            said.append(line)
            n_done += line.startswith("done")
            if n_done == kill_after:
                client.send_signal(signal.SIGKILL)
                return -signal.SIGKILL
        code = client.wait()
    assert code == 0, "".join(said)
    return code


def table_of(out: Path) -> list[dict[str, object]]:
    table = pq.read_table(out / PARQUET_NAME)
    return [dict(row) for row in table.drop_columns(list(_VARIES)).to_pylist()]


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_workers_and_client_killed_again_and_again_change_nothing(tmp_path: Path) -> None:
    study, plain, out = tmp_path / "study", tmp_path / "plain", tmp_path / "out"
    study.mkdir()
    rng = random.Random(0)
    for number in range(N_SLIDES):
        side = rng.choice([150, 300, 500, 900, 1600])
        draw_slide(study / f"{number:02d}.png", side, rng.randint(100, 900), seed=number)
    undisturbed = run_cohort([study], plain, RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128), ignore_events)
    assert undisturbed.exit_code == 0

    ended = threading.Event()
    with ExitStack() as stack:
        pool = Pool(tmp_path, 4, stack)
        killer = threading.Thread(target=pool.kill_now_and_then, args=(ended,))
        killer.start()
        try:
            assert run_client(study, out, pool.address, kill_after=8) < 0
            assert run_client(study, out, pool.address, kill_after=16) < 0
            assert run_client(study, out, pool.address, kill_after=None) == 0
        finally:
            ended.set()
            killer.join()
    assert pool.n_killed, "no worker was killed: the study was too short"
    assert table_of(out) == table_of(plain)
    for row in undisturbed.rows:
        cells = [folder / row.folder / Artefact.CELLS for folder in (plain, out)]
        assert cells[0].read_bytes() == cells[1].read_bytes(), row.id
    assert sum(line["what"] == "started" for line in read_journal(out)) == 3

"""Cohorts that are disturbed for real: their slides, and scheduler, workers and client as processes of their own."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from distributed import Client
from stand_in import HERE, MPP, draw_slide

from wsipsm.cohort.journal import JournalEntry, read_journal
from wsipsm.cohort.run import run_cohort
from wsipsm.cohort.table import PARQUET_NAME
from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.keys import Artefact

_VARIES = ("seconds", "attempts")
"""What a disturbed cohort may tell otherwise: how long it took, and how often a slide was tried."""
_SCRIPT = str(Path(__file__).with_name("killed_cohort.py"))
START_S = 120.0
"""Far longer than a process takes to start, on a busy machine too."""
_SIDES_PX = (150, 300, 500, 900)
SLOWLY = {"WSIPSM_STAND_IN_DELAY_S": "0.02"}
"""A cohort that lasts long enough to be disturbed."""


@contextmanager
def started(
    *command: str, heard: bool = False, inside: Sequence[str] = (), **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Start Python with a command, in front of it what puts it elsewhere; killed at the end."""
    inherited = {**os.environ, **environment}
    # Dask copies what a worker preloads away from the files beside it.
    paths = os.pathsep.join([str(Path(__file__).parent), inherited.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [*inside, sys.executable, *command],
        env={**inherited, "PYTHONPATH": paths},
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
    """A scheduler and worker processes, as on a cluster whose supervisor starts what died.

    Parameters
    ----------
    folder
        For the workers.
    n_workers
        How many.
    stack
        Ends them.
    host, inside
        Of the scheduler: its address, and what in front of a command puts it there.
    environment
        Of all.
    """

    def __init__(
        self,
        folder: Path,
        n_workers: int,
        stack: ExitStack,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self._folder, self._stack, self._environment = folder, stack, environment
        self._host, self._inside = host, inside
        self._port = _free_port()
        self.address = f"tcp://{host}:{self._port}"
        self._workers: list[tuple[subprocess.Popen[str], Sequence[str], str]] = []
        self._scheduler = self._start_scheduler()
        for _ in range(n_workers):
            self.add_worker()
        self._ended = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise)
        stack.callback(self._supervisor.join)
        stack.callback(self._ended.set)
        self._supervisor.start()

    def _start_scheduler(self) -> subprocess.Popen[str]:
        options = ("--host", self._host, "--port", str(self._port), "--no-dashboard")
        command = ("-m", "distributed.cli.dask_scheduler", *options)
        return self._stack.enter_context(started(*command, inside=self._inside, **self._environment))

    def restart_scheduler(self) -> None:
        """Kill it, and start another at the same address."""
        self._scheduler.kill()
        self._scheduler.wait()
        self._scheduler = self._start_scheduler()

    def add_worker(self, inside: Sequence[str] = (), preload: str = HERE) -> None:
        """Start a worker that is started again whenever it ends."""
        self._workers.append((self._start_worker(inside, preload), inside, preload))

    def _start_worker(self, inside: Sequence[str], preload: str) -> subprocess.Popen[str]:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", preload)
        command = ("-m", "distributed.cli.dask_worker", self.address, *options, "--local-directory", str(self._folder))
        return self._stack.enter_context(started(*command, inside=inside, **{**SLOWLY, **self._environment}))

    def kill_worker(self, place: int) -> None:
        self._workers[place][0].kill()

    def wait_for_workers(self, n: int, ended: threading.Event) -> None:
        """Wait until so many have joined: on a busy machine a worker starts more slowly than others are killed."""
        with Client(self.address, set_as_default=False) as client:
            while not ended.wait(0.2) and len(client.scheduler_info(n_workers=-1)["workers"]) < n:
                pass

    def _supervise(self) -> None:
        while not self._ended.wait(0.2):
            for place, (process, inside, preload) in enumerate(self._workers):
                if process.poll() is not None:
                    self._workers[place] = (self._start_worker(inside, preload), inside, preload)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Cohort:
    """Drawn slides, and the results of a cohort of them that nothing disturbed."""

    slides: Path
    plain: Path

    def check_same(self, out: Path, slides: Path | None = None) -> None:
        """Make sure that a disturbed cohort has the same table and the same nuclei, whatever its slides' folder was."""
        rows = table_of(self.plain)
        for row in rows:
            row["slide"] = str((slides or self.slides) / Path(str(row["slide"])).name)
        assert table_of(out) == rows
        for row in rows:
            cells = [folder / str(row["folder"]) / Artefact.CELLS for folder in (self.plain, out)]
            assert cells[0].read_bytes() == cells[1].read_bytes(), row["id"]


def draw_cohort(folder: Path, n_slides: int, sides_px: Sequence[int] = _SIDES_PX) -> Cohort:
    """Draw slides of many sizes, and run the cohort of them in this process."""
    cohort = Cohort(folder / "cohort", folder / "plain")
    cohort.slides.mkdir()
    rng = random.Random(0)
    for number in range(n_slides):
        draw_slide(cohort.slides / f"{number:02d}.png", rng.choice(sides_px), rng.randint(100, 900), seed=number)
    options = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128)
    assert run_cohort([cohort.slides], cohort.plain, options, ignore_events).exit_code == 0
    return cohort


def run_client(
    cohort: Path,
    out: Path,
    *options: str,
    then: Callable[[subprocess.Popen[str], int], None] | None = None,
    inside: Sequence[str] = (),
    **environment: str,
) -> tuple[int, str]:
    """Run the cohort's command.

    Parameters
    ----------
    cohort, out, options
        As ``killed_cohort.py`` takes them.
    then
        Called with the process and the number of slides done, after each.
    inside, environment
        Of the process.

    Returns
    -------
    Exit status, and what it said.
    """
    command = (_SCRIPT, str(cohort), str(out), *options)
    with started(*command, heard=True, inside=inside, **{**SLOWLY, **environment}) as client:
        assert client.stdout is not None
        said, n_done = [], 0
        for line in client.stdout:
            said.append(line)
            if line.startswith("done"):
                n_done += 1
                if then is not None:
                    then(client, n_done)
        return client.wait(), "".join(said)


def table_of(out: Path) -> list[dict[str, object]]:
    table = pq.read_table(out / PARQUET_NAME)
    return [dict(row) for row in table.drop_columns(list(_VARIES)).to_pylist()]


def told(out: Path, what: str) -> list[JournalEntry]:
    """Lines of the journal of one kind."""
    return [line for line in read_journal(out) if line.what == what]

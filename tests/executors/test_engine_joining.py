"""Workers that join a running scheduler later, with other code than the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client
from joining import fingerprint, wait_a_little

from wsipsm.executors.dask import DaskExecutor
from wsipsm.executors.task import ExecutorLostError
from wsipsm.executors.workers import REFUSED

START_S = 120.0
_HERE = Path(__file__).parent
N_TASKS = 120


def worker(address: str, folder: Path, *first: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a worker that looks for modules in some folders first."""
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
    command = ("-m", "distributed.cli.dask_worker", address, *options)
    paths = os.pathsep.join([*map(str, first), str(_HERE), os.environ.get("PYTHONPATH", "")])
    inherited = {**os.environ, "PYTHONPATH": paths, **environment}
    # Elsewhere: Python looks into the folder that it is started in before all others.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *command], env=inherited, cwd=folder, **quiet)


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and a worker; gives its address, and processes to be ended with it."""
    file = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options]
    paths = os.pathsep.join([str(_HERE), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, stdout=-3, stderr=subprocess.STDOUT)
    ]
    try:
        with Client(scheduler_file=str(file), timeout=START_S, set_as_default=False) as client:
            address = str(client.scheduler.address)
            processes.append(worker(address, folder))
            client.wait_for_workers(1, timeout=START_S)
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for(address: str, n_workers: int) -> None:
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(n_workers, timeout=START_S)


@pytest.mark.slow
@pytest.mark.parametrize("newcomer", ["another torch", "a wsipsm of long ago"])
def test_the_newcomer_is_refused_by_name_and_the_rest_go_on(tmp_path: Path, newcomer: str) -> None:
    old = tmp_path / "old" / "wsipsm"
    old.mkdir(parents=True)
    (old / "__init__.py").write_text("")
    said: list[tuple[str, str]] = []
    with (
        running(tmp_path) as (address, processes),
        DaskExecutor(
            address=address, fingerprint=fingerprint, announce=lambda what, sentence: said.append((what, sentence))
        ) as executor,
    ):
        outcomes = executor.run(wait_a_little, range(N_TASKS))
        done = [next(outcomes)]
        if newcomer == "another torch":
            processes.append(worker(address, tmp_path, JOINS_WITH_TORCH="1.9"))
        else:
            processes.append(worker(address, tmp_path, old.parent))
        wait_for(address, 2)
        done += outcomes
    assert [outcome.error for outcome in done] == [None] * N_TASKS
    assert sorted(outcome.task for outcome in done) == list(range(N_TASKS))
    assert len({outcome.result for outcome in done}) == 1
    ((what, sentence),) = said
    assert what == REFUSED
    assert sentence.startswith("worker tcp://127.0.0.1:")
    assert ("has torch 1.9; torch 2 is needed." if newcomer == "another torch" else "lacks wsipsm") in sentence
    assert sentence.endswith("Install the same versions on every worker and start them again.")


@pytest.mark.slow
def test_when_none_is_left_that_may_take_part_the_run_ends_and_says_why(tmp_path: Path) -> None:
    with (
        running(tmp_path) as (address, processes),
        DaskExecutor(address=address, fingerprint=fingerprint, announce=lambda *_: None, patience_s=3) as executor,
    ):
        outcomes = executor.run(wait_a_little, range(N_TASKS))
        next(outcomes)
        processes.append(worker(address, tmp_path, JOINS_WITH_TORCH="1.9"))
        wait_for(address, 2)
        processes[1].kill()
        with pytest.raises(
            ExecutorLostError, match=r"may take part.*worker tcp://\S+ has torch 1\.9; torch 2 is needed"
        ):
            list(outcomes)

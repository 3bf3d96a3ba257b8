"""Dask: the same outcomes as serial, lost workers, refused schedulers, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dask.config
import pytest
from distributed import LocalCluster

from wsipsm.errors import UsageError, WsipsmError
from wsipsm.executors.dask import DaskExecutor
from wsipsm.executors.serial import SerialExecutor
from wsipsm.executors.task import ExecutorLostError

_TASK_S = 60.0
"""Far longer than ending takes, on a busy machine too."""


def reciprocal(number: int) -> float:
    return 1 / number


def die_on_seven(number: int) -> int:
    if number == 7:
        os._exit(1)
    return number


def die_once(task: tuple[str, int]) -> int:
    mark, number = task
    if number == 3 and not Path(mark).exists():
        Path(mark).touch()
        os._exit(1)
    return number


def own_code() -> str:
    return "same"


def code_of_the_process() -> str:
    return f"process {os.getpid()}"


@pytest.fixture(scope="module")
def executor() -> Iterator[DaskExecutor]:
    with DaskExecutor(n_workers=2) as opened:
        yield opened


def test_same_outcomes_as_serial(executor: DaskExecutor) -> None:
    tasks = [1, 0, 4, 5, 8, 10, 16, 20, 25, 32]
    assert executor.n_workers == 2
    expected = list(SerialExecutor().run(reciprocal, tasks))
    found = sorted(executor.run(reciprocal, tasks), key=lambda outcome: tasks.index(outcome.task))
    assert [(o.task, o.result, type(o.error)) for o in found] == [(o.task, o.result, type(o.error)) for o in expected]
    assert list(executor.run(reciprocal, [])) == []


def test_few_tasks_are_in_flight(executor: DaskExecutor) -> None:
    pulled: list[int] = []

    class Watched(list[int]):
        def __iter__(self) -> Iterator[int]:
            for number in super().__iter__():
                pulled.append(number)
                yield number

    n_seen = 0
    for _ in executor.run(reciprocal, Watched(range(1, 60))):
        assert len(pulled) - n_seen <= 2 * 2 + 2 + 1
        n_seen += 1
    assert n_seen == 59


class Halving:
    """A source whose outcomes make further tasks ready: 8 makes 4, 4 makes 2, 2 makes 1."""

    def __init__(self, *start: int) -> None:
        self.ready = list(start)

    def take(self) -> int | None:
        return self.ready.pop() if self.ready else None

    def tell(self, done: int) -> None:
        if done > 1:
            self.ready.append(done // 2)


def test_outcomes_make_further_tasks_ready(executor: DaskExecutor) -> None:
    for runs in (executor, SerialExecutor()):
        source, seen = Halving(8, 32), []
        for outcome in runs.run(reciprocal, source):
            seen.append(outcome.task)
            source.tell(outcome.task)
        assert sorted(seen) == [1, 1, 2, 2, 4, 4, 8, 8, 16, 32]


def test_leaving_early_cancels_the_rest(executor: DaskExecutor) -> None:
    outcomes = executor.run(time.sleep, [0.5] * 500)
    next(outcomes)
    outcomes.close()
    started = time.monotonic()
    assert len(list(executor.run(reciprocal, [1, 2]))) == 2
    assert time.monotonic() - started < 60, "the rest was not cancelled: it takes minutes"


def test_a_lost_worker_costs_nothing_when_the_second_try_succeeds(tmp_path: Path) -> None:
    mark = str(tmp_path / "died")
    with DaskExecutor(n_workers=2) as executor:
        outcomes = list(executor.run(die_once, [(mark, number) for number in range(8)]))
    assert Path(mark).exists()
    assert sorted(outcome.result for outcome in outcomes if outcome.result is not None) == list(range(8))


def test_a_worker_that_is_slow_to_come_back_is_not_given_up(tmp_path: Path) -> None:
    mark = str(tmp_path / "died")
    # Far shorter than a process takes to start: whoever heeds it is left with no worker at all.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}),
        DaskExecutor(n_workers=1, patience_s=20) as executor,
    ):
        outcomes = list(executor.run(die_once, [(mark, number) for number in range(8)]))
    assert Path(mark).exists()
    assert sorted(outcome.result for outcome in outcomes if outcome.result is not None) == list(range(8))


def test_a_run_without_any_worker_ends() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        DaskExecutor(address=cluster.scheduler_address, patience_s=1) as executor,
    ):
        outcomes = executor.run(time.sleep, [0.1] + [_TASK_S] * 3)
        next(outcomes)
        cluster.scale(0)
        with pytest.raises(ExecutorLostError, match="no worker is left"):
            next(outcomes)


@pytest.mark.slow
def test_a_task_that_takes_its_worker_down_fails_alone() -> None:
    with DaskExecutor(n_workers=2) as executor:
        outcomes = list(executor.run(die_on_seven, list(range(20))))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    assert [outcome.task for outcome in failed] == [7]
    assert isinstance(failed[0].error, WsipsmError)
    assert "--workers" in str(failed[0].error)
    assert sorted(outcome.task for outcome in outcomes) == list(range(20))


def test_no_scheduler_is_told_quickly() -> None:
    with pytest.raises(UsageError, match="--scheduler nonsense"):
        DaskExecutor(address="nonsense")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


def test_running_scheduler_is_used_and_left_running(scheduler: str) -> None:
    for _ in range(2):
        with DaskExecutor(address=scheduler, fingerprint=own_code) as executor:
            assert executor.n_workers == 1
            assert [outcome.result for outcome in executor.run(reciprocal, [4])] == [0.25]


def test_workers_with_other_code_are_refused(scheduler: str) -> None:
    with pytest.raises(UsageError, match=r"worker tcp://.* has process \d+; process \d+ is needed"):
        DaskExecutor(address=scheduler, fingerprint=code_of_the_process)


@pytest.mark.parametrize(("n_workers", "threads", "told"), [(0, 1, "has no workers"), (1, 2, "runs 2 threads")])
def test_workers_that_cannot_be_used_are_refused(n_workers: int, threads: int, told: str) -> None:
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=threads, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        pytest.raises(UsageError, match=told),
    ):
        DaskExecutor(address=cluster.scheduler_address, join_s=1)


@pytest.mark.skipif(os.name != "posix", reason="signals to a process group")
def test_ctrl_c_ends_everything_before_a_task_would() -> None:
    code = (
        "import signal, time\n"
        # A shell starts what it puts in the background without it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from wsipsm.executors.dask import DaskExecutor\n"
        "if __name__ == '__main__':\n"
        "    with DaskExecutor(n_workers=2) as executor:\n"
        f"        for outcome in executor.run(time.sleep, [0.2] + [{_TASK_S}] * 20):\n"
        "            print('working', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, errors = process.communicate(timeout=_TASK_S)
    assert "KeyboardInterrupt" in errors
    while time.monotonic() - started < _TASK_S:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a process was left behind")


def test_a_running_scheduler_tells_its_page_and_a_local_cluster_has_none() -> None:
    with DaskExecutor(n_workers=1) as local:
        assert local.dashboard is None
    # A free port, for this machine alone.
    where = {"host": "127.0.0.1", "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, silence_logs=50, **where) as cluster,
        DaskExecutor(address=cluster.scheduler_address) as remote,
    ):
        assert remote.dashboard is not None
        assert remote.dashboard.startswith("http://127.0.0.1:")

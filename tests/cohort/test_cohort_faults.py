"""A cohort whose workers, client and scheduler are killed, and whose slides crash the process that opens them."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import crashing
import pyarrow.parquet as pq
import pytest
from cohort_pool import Pool, draw_cohort, run_client, table_of, told
from stand_in import draw_slide

from wsipsm.cohort.table import PARQUET_NAME

N_SLIDES, MANY_SLIDES = 12, 40
KILL_EVERY_S = 5.0


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_workers_and_client_killed_again_and_again_change_nothing(tmp_path: Path) -> None:
    cohort, out = draw_cohort(tmp_path, MANY_SLIDES, (150, 300, 500, 900, 1600)), tmp_path / "out"
    rng, ended, killed = random.Random(7), threading.Event(), list[int]()

    def kill_one_now_and_then() -> None:
        while not ended.wait(KILL_EVERY_S):
            pool.wait_for_workers(3, ended)
            killed.append(rng.randrange(4))
            pool.kill_worker(killed[-1])

    def kill_client(client: subprocess.Popen[str], n_done: int) -> None:
        if n_done == 8:
            client.send_signal(signal.SIGKILL)

    with ExitStack() as stack:
        pool = Pool(tmp_path, 4, stack)
        killer = threading.Thread(target=kill_one_now_and_then)
        killer.start()
        try:
            for _ in range(2):
                assert run_client(cohort.slides, out, "--scheduler", pool.address, then=kill_client)[0] < 0
            code, said = run_client(cohort.slides, out, "--scheduler", pool.address)
        finally:
            ended.set()
            killer.join()
    assert code == 0, said
    assert killed, "no worker was killed: the cohort was too short"
    cohort.check_same(out)
    assert len(told(out, "started")) == 3
    assert told(out, "worker lost")


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_a_scheduler_that_is_started_again_costs_a_command_and_no_result(tmp_path: Path) -> None:
    cohort, out = draw_cohort(tmp_path, N_SLIDES), tmp_path / "out"

    def restart(_: subprocess.Popen[str], n_done: int) -> None:
        if n_done == 4:
            pool.restart_scheduler()

    with ExitStack() as stack:
        pool = Pool(tmp_path, 2, stack)
        code, said = run_client(cohort.slides, out, "--scheduler", pool.address, then=restart)
        assert code == 1
        assert f"{pool.address}: the scheduler went away" in said
        assert "Run the same command again" in said
        assert "the scheduler went away" in told(out, "stopped")[0].reason
        n_done = len(told(out, "done"))
        assert 4 <= n_done < N_SLIDES
        code, said = run_client(cohort.slides, out, "--scheduler", pool.address)
    assert code == 0, said
    cohort.check_same(out)
    assert len(told(out, "done before")) == n_done
    assert len(told(out, "done")) == N_SLIDES, "none was done twice"


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_slides_that_crash_their_process_fail_alone(tmp_path: Path) -> None:
    """Also where there is one processor, and nobody said how many workers."""
    cohort = draw_cohort(tmp_path, 4)
    marked, out = tmp_path / "marked", tmp_path / "out"
    shutil.copytree(cohort.slides, marked)
    shutil.copy(cohort.slides / "00.png", marked / "00-crash-open.png")
    crashing.mark(draw_slide(marked / "01-crash-scored.png", 200, 200, seed=9))
    options = ("--one-cpu", "--retry", "0", "--preload", crashing.HERE)
    code, said = run_client(marked, out, *options)
    assert code == 5, said
    rows = {str(row["id"]): row for row in pq.read_table(out / PARQUET_NAME).to_pylist()}
    for name in ("00-crash-open", "01-crash-scored"):
        row = rows.pop(name)
        assert row["status"] == "failed"
        assert "its worker died 2 times with this task alone; native code crashed on the slide" in row["reason"]
        assert [Path(line.slide).stem for line in told(out, "failed")].count(name) == 1
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(("00", "01", "02", "03"), "done")
    kept = [row for row in table_of(out) if "crash" not in str(row["id"])]
    assert [row["n_nuclei"] for row in kept] == [row["n_nuclei"] for row in table_of(cohort.plain)]


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_a_slide_that_crashes_this_process_is_the_last_word_of_the_journal(tmp_path: Path) -> None:
    """With no worker there is nobody to outlive it; the same command with one gets past it."""
    slides, out = tmp_path / "slides", tmp_path / "out"
    slides.mkdir()
    for number in range(2):
        draw_slide(slides / f"0{number}.png", 200, 200, seed=number)
    crashing.mark(slides / "01.png")
    code, _ = run_client(slides, out, "--workers", "0", "--preload", crashing.HERE)
    assert code == -signal.SIGSEGV
    assert [line.slide for line in told(out, "begun")] == [str(slides / "00.png"), str(slides / "01.png")]
    assert [line.slide for line in told(out, "done")] == [str(slides / "00.png")]
    code, said = run_client(slides, out, "--workers", "1", "--retry", "0", "--preload", crashing.HERE)
    assert code == 5, said
    assert "its worker died" in told(out, "failed")[0].reason

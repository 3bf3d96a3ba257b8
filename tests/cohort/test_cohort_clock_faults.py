"""A cohort on machines whose clocks jump and disagree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cohort_pool import Pool, draw_cohort, run_client, told

DAY_S = 86_400
# Put where Python looks for it first. The clock is set anew when the test says so, as by hand or by a time server.
SET = """
import pathlib, time
real, shift = time.time, pathlib.Path(__file__).with_name("shift_s")
time.time = lambda: real() + float(shift.read_text())
time.time_ns = lambda: int(time.time() * 1e9)
"""
JUMPS_S = {2: DAY_S, 4: -3 * DAY_S, 6: 7}
"""Seconds that clocks are off by, from so many slides done on."""
AHEAD = f"import time\nreal = time.time\ntime.time = lambda: real() + {DAY_S}\n"


def clock_of(folder: Path, code: str) -> dict[str, str]:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    set_clock(folder, 0)
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def set_clock(folder: Path, shift_s: int) -> None:
    aside = folder / "aside"
    aside.write_text(str(shift_s))
    os.replace(aside, folder / "shift_s")


@contextmanager
def set_back_all_the_time(folder: Path) -> Iterator[None]:
    """Set a clock back by a day, twenty times a second."""
    ended = threading.Event()

    def set_back() -> None:
        shift_s = 0
        while not ended.wait(0.05):
            set_clock(folder, shift_s := shift_s - DAY_S)

    setter = threading.Thread(target=set_back)
    setter.start()
    try:
        yield
    finally:
        ended.set()
        setter.join()


def other_uptime() -> Sequence[str]:
    """What starts a process on a machine that runs for a day longer, by its clock that never jumps."""
    command = ("unshare", "--time", "--monotonic", str(DAY_S), "--boottime", str(DAY_S))
    try:
        done = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return ()
    return () if done.returncode else command


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_clocks_that_jump_and_disagree_change_nothing(tmp_path: Path) -> None:
    cohort, out = draw_cohort(tmp_path, 8), tmp_path / "out"
    jumping = clock_of(tmp_path / "jumping", SET)
    ahead = clock_of(tmp_path / "ahead", AHEAD)
    second: list[tuple[int, str]] = []

    def jump(_: object, n_done: int) -> None:
        if n_done in JUMPS_S:
            set_clock(tmp_path / "jumping", JUMPS_S[n_done])
        if n_done == 3:
            second.append(run_client(cohort.slides, out, "--workers", "0", **ahead))

    with ExitStack() as stack:
        pool = Pool(tmp_path, 1, stack, **jumping)
        pool.add_worker(inside=other_uptime())
        options = ("--scheduler", pool.address)
        code, said = run_client(cohort.slides, out, *options, then=jump, **jumping)
    assert code == 0, said
    cohort.check_same(out)
    ((refused, reason),) = second
    assert refused == 2, reason
    age = re.search(r"process \d+ on \S+ works on it \(last sign of life (\d+) s ago\)", reason)
    assert age is not None, reason
    assert int(age[1]) < 60, "by the clock that dates the files, not by this process's"
    assert len(told(out, "done")) == 8


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
@pytest.mark.timeout(300)
def test_what_dask_holds_back_when_a_clock_is_set_back_is_sent(tmp_path: Path) -> None:
    cohort, out = draw_cohort(tmp_path, 4, (300,)), tmp_path / "out"
    jumping = clock_of(tmp_path / "jumping", SET)
    with ExitStack() as stack:
        pool = Pool(tmp_path, 2, stack, **jumping)
        stack.enter_context(set_back_all_the_time(tmp_path / "jumping"))
        code, said = run_client(cohort.slides, out, "--scheduler", pool.address, **jumping)
    assert code == 0, said
    cohort.check_same(out)


def test_the_shifted_clock_is_what_python_tells(tmp_path: Path) -> None:
    code = "import time; print(time.time())"
    environment = {**os.environ, **clock_of(tmp_path / "ahead", AHEAD)}
    told_s = float(subprocess.run([sys.executable, "-c", code], env=environment, stdout=-1, check=True).stdout)
    real_s = os.stat(tmp_path / "ahead" / "sitecustomize.py").st_ctime
    assert told_s - real_s > DAY_S - 1

"""One command at a time on a folder, whatever happened to the one before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest

from wsipsm.errors import OutputError, UsageError
from wsipsm.folderlock import LOCK_NAME, hold_folder, hold_in_cohort

BEAT_S = 0.05
HOLDER = """
import sys, time
from pathlib import Path
from wsipsm.folderlock import hold_folder
with hold_folder(Path(sys.argv[1]), {beat}):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(folder: Path) -> subprocess.Popen[str]:
    code = HOLDER.format(beat=BEAT_S)
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def written(folder: Path, **values: object) -> None:
    (folder / LOCK_NAME).write_bytes(orjson.dumps(values))


def test_the_second_command_is_refused_and_the_first_ones_death_frees_the_folder(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        told = f"process {holder.pid} on {socket.gethostname()}"
        try:
            with pytest.raises(UsageError, match=rf"{told} works on it \(last sign"), hold_folder(tmp_path, BEAT_S):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
        holder.wait()
        with hold_folder(tmp_path, BEAT_S) as lock:
            assert told in lock.note
            lock.check()
    assert list(tmp_path.iterdir()) == []


def test_a_process_number_that_was_given_again_does_not_hold(tmp_path: Path) -> None:
    written(tmp_path, host=socket.gethostname(), pid=os.getpid(), started=1, beat=3)
    with hold_folder(tmp_path, BEAT_S) as lock:
        assert "left behind" in lock.note


def test_a_lock_of_another_machine_counts_while_it_changes(tmp_path: Path) -> None:
    ended = threading.Event()

    def beat_elsewhere() -> None:
        number = 0
        while not ended.wait(BEAT_S):
            number += 1
            aside = tmp_path / "aside"
            aside.write_bytes(orjson.dumps({"host": "elsewhere", "pid": 1, "started": 5, "beat": number}))
            os.replace(aside, tmp_path / LOCK_NAME)

    thread = threading.Thread(target=beat_elsewhere)
    thread.start()
    time.sleep(4 * BEAT_S)
    try:
        with pytest.raises(UsageError, match="process 1 on elsewhere"), hold_folder(tmp_path, 4 * BEAT_S):
            pass
    finally:
        ended.set()
        thread.join()
    # Its clock may say what it wants: a file from the future that does not change was left behind.
    os.utime(tmp_path / LOCK_NAME, (time.time() + 1e6, time.time() + 1e6))
    with hold_folder(tmp_path, BEAT_S) as lock:
        assert "process 1 on elsewhere" in lock.note


def test_a_command_that_slept_learns_that_the_folder_was_taken(tmp_path: Path) -> None:
    with hold_folder(tmp_path, 60) as lock:
        written(tmp_path, host="elsewhere", pid=7, started=1, beat=1)
        with pytest.raises(UsageError, match="process 7 on elsewhere took it over"):
            lock.check()
    assert orjson.loads((tmp_path / LOCK_NAME).read_bytes())["pid"] == 7, "the other's lock stays"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\x00\xff", b'{"pid": "x", "host": 3}'])
def test_a_lock_that_is_nonsense_is_left_behind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_NAME).write_bytes(content)
    with hold_folder(tmp_path, BEAT_S) as lock:
        assert "left behind" in lock.note


@pytest.mark.parametrize("pid", [-1, 2**31, 10**18])
def test_a_lock_of_no_possible_process_is_left_behind(tmp_path: Path, pid: int) -> None:
    written(tmp_path, host=socket.gethostname(), pid=pid, started=0, beat=0)
    with hold_folder(tmp_path, BEAT_S) as lock:
        assert "left behind" in lock.note


def test_many_at_once_and_one_holds(tmp_path: Path) -> None:
    written(tmp_path, host=socket.gethostname(), pid=2**22 + 1, started=1, beat=0)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom wsipsm.errors import UsageError\n"
        "from wsipsm.folderlock import hold_folder\n"
        "try:\n    with hold_folder(Path(sys.argv[1])):\n        time.sleep(3)\n        print('held')\n"
        "except UsageError:\n    print('refused')\n"
    )
    rivals = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = sorted(rival.communicate()[0].strip() for rival in rivals)
    assert told == ["held", "refused", "refused", "refused"]


def test_a_folder_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="--out"), hold_folder(tmp_path / "file"):
        pass
    with pytest.raises(OutputError, match="--out"), hold_folder(tmp_path / "file" / "below"):
        pass


def test_what_was_made_and_stayed_empty_is_removed(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "out" / "slide", BEAT_S):
        assert (tmp_path / "out" / "slide" / LOCK_NAME).is_file()
    assert list(tmp_path.iterdir()) == []
    with hold_folder(tmp_path / "out" / "slide", BEAT_S):
        (tmp_path / "out" / "other").mkdir()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other"]


def test_a_slide_of_a_cohort_is_held_while_the_cohort_is(tmp_path: Path) -> None:
    cohort, slide = tmp_path / "cohort", tmp_path / "cohort" / "slide"
    with hold_folder(cohort, BEAT_S), hold_in_cohort(slide):
        told = rf"{slide}: process {os.getpid()} .* for the cohort in {cohort} \(last sign"
        with pytest.raises(UsageError, match=told), hold_folder(slide, BEAT_S):
            pass
        with hold_folder(cohort / "another slide", BEAT_S):
            pass
        left = (slide / LOCK_NAME).read_bytes()
    assert list(tmp_path.iterdir()) == []
    slide.mkdir(parents=True)
    (slide / LOCK_NAME).write_bytes(left)
    with hold_folder(slide, BEAT_S) as lock:
        assert "left behind" in lock.note


def test_a_slide_that_a_run_holds_is_not_had_by_a_cohort(tmp_path: Path) -> None:
    with (
        hold_folder(tmp_path / "slide", BEAT_S),
        hold_folder(tmp_path, BEAT_S),
        pytest.raises(UsageError, match=f"process {os.getpid()} on"),
        hold_in_cohort(tmp_path / "slide"),
    ):
        pass


def test_a_cohort_takes_its_own_lock_that_a_share_brought_back(tmp_path: Path) -> None:
    """A share that is away when the lock is to be removed shows it again later; the cohort tries that slide again."""
    cohort, slide = tmp_path / "cohort", tmp_path / "cohort" / "slide"
    with hold_folder(cohort, BEAT_S):
        with hold_in_cohort(slide):
            left = (slide / LOCK_NAME).read_bytes()
        slide.mkdir()
        (slide / LOCK_NAME).write_bytes(left)
        with pytest.raises(UsageError, match=f"process {os.getpid()}"), hold_folder(slide, BEAT_S):
            pass
        with hold_in_cohort(slide) as lock:
            assert "left behind" in lock.note
        assert not (slide / LOCK_NAME).exists()

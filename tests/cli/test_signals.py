"""Signals: every command ends with 128 + the signal, in one line, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
WAIT_S = 180.0
# A shell starts what it puts in the background without SIGINT.
BEGIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom wsipsm.cli.start import main; main()"
)
ENDS = [(signal.SIGINT, "stopped: "), (signal.SIGTERM, "stopped by SIGTERM: "), (signal.SIGHUP, "stopped by SIGHUP: ")]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that takes longer to run than a test waits: dark dots all over it."""
    dots = np.full((64, 64, 3), 235, np.uint8)
    rows, columns = np.mgrid[:64, :64]
    dots[(rows - 32) ** 2 + (columns - 32) ** 2 < 120] = (70, 60, 140)
    path = tmp_path_factory.mktemp("slides") / "dots.png"
    Image.fromarray(np.tile(dots, (64, 64, 1))).save(path)
    return path


class Command:
    """A command of wsipsm in a process group and a temporary folder of its own."""

    def __init__(self, folder: Path, *args: object, **environment: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(self.temporary), **environment},
        )

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait for a state of the command."""
        deadline = time.monotonic() + WAIT_S
        while not reached():
            if self.process.poll() is not None:
                pytest.fail(f"it ended before: {self.process.communicate()}")
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Wait for the end; gives the exit code and what was said last, once nothing is left of it."""
        _, said = self.process.communicate(timeout=WAIT_S)
        deadline = time.monotonic() + WAIT_S
        while self._group():
            assert time.monotonic() < deadline, f"left behind: {self._group()}"
            time.sleep(0.05)
        # Torch keeps a cache for each user there, under one name for all runs.
        assert [path for path in self.temporary.iterdir() if not path.name.startswith("torchinductor_")] == []
        assert "Traceback" not in said
        assert "Exception" not in said
        return self.process.returncode, said.strip().splitlines()[-1] if said.strip() else ""

    def _group(self) -> list[str]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            try:
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.info["cmdline"] or []))
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found


def running(folder: Path, slide: Path, workers: int) -> Command:
    """A run that has finished its first block."""
    size = ("--block-px", 256, "--tile-px", 256)
    command = Command(folder, "run", slide, "--mpp", 0.25, "--workers", workers, "--out", folder / "out", *size)
    command.wait_until(lambda: any((folder / "out").glob("*/shards/*.parquet")))
    return command


def half_written(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith(".wsipsm-") or path.suffix == ".lock"]


@pytest.mark.parametrize(("number", "said"), ENDS)
def test_while_it_loads(tmp_path: Path, number: signal.Signals, said: str) -> None:
    (tmp_path / "typer.py").write_text("open('loading', 'w').close()\nimport time\ntime.sleep(300)\n")
    command = Command(tmp_path, "info", "a.svs", PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    command.wait_until((tmp_path / "loading").exists)
    command.process.send_signal(number)
    assert command.end() == (128 + number, f"{said}Nothing was begun.")


@pytest.mark.parametrize(("number", "said"), ENDS[1:2])
def test_in_one_process(tmp_path: Path, slide: Path, number: signal.Signals, said: str) -> None:
    command = running(tmp_path, slide, 0)
    command.process.send_signal(number)
    code, last = command.end()
    assert code == 128 + number
    assert last == f"{said}Finished blocks are kept; the same command continues from them."
    assert half_written(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("number", "said", "to_all"),
    [
        (*ENDS[0], True),
        pytest.param(*ENDS[1], False, marks=pytest.mark.slow),
        pytest.param(*ENDS[2], True, marks=pytest.mark.slow),
    ],
)
def test_with_workers(tmp_path: Path, slide: Path, number: signal.Signals, said: str, to_all: bool) -> None:
    command = running(tmp_path, slide, 1)
    if to_all:  # as a terminal does
        os.killpg(command.process.pid, number)
    else:
        command.process.send_signal(number)
    code, last = command.end()
    assert (code, last.startswith(said)) == (128 + number, True)
    assert half_written(tmp_path / "out") == []


@pytest.mark.slow
def test_twice(tmp_path: Path, slide: Path) -> None:
    command = running(tmp_path, slide, 1)
    os.killpg(command.process.pid, signal.SIGINT)
    time.sleep(0.2)
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.end()[0] == 130


@pytest.mark.slow
def test_while_workers_start(tmp_path: Path, slide: Path) -> None:
    command = Command(tmp_path, "run", slide, "--mpp", 0.25, "--workers", 2, "--out", tmp_path / "out")
    command.wait_until(lambda: any(command.temporary.glob("wsipsm-dask-*")))
    command.process.send_signal(signal.SIGINT)
    assert command.end()[0] == 130


def test_a_cohort(tmp_path: Path, slide: Path) -> None:
    out = tmp_path / "out"
    command = Command(tmp_path, "cohort", slide, "--mpp", 0.25, "--workers", 0, "--out", out, "--block-px", 256)
    command.wait_until(lambda: any(out.glob("*/shards/*.parquet")))
    command.process.send_signal(signal.SIGTERM)
    code, last = command.end()
    assert code == 143
    assert "--resume" in last
    assert half_written(out) == []
    assert not (out / "wsipsm.lock").exists()


@pytest.mark.slow
def test_a_training(tmp_path: Path, slide: Path) -> None:
    command = Command(tmp_path, "train", slide, "--mpp", 0.25, "--out", tmp_path / "model.safetensors")
    command.wait_until(lambda: psutil.Process(command.process.pid).cpu_times().user > 8)
    command.process.send_signal(signal.SIGINT)
    assert command.end()[0] == 130
    assert half_written(tmp_path) == []


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code = (
        f"{ignoring}from wsipsm.cli.signals import stop_on_signals\nstop_on_signals()\nprint(signal.getsignal(1).name)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "SIG_IGN\n"

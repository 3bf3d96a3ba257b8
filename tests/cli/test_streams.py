"""Standard output and error that are closed, full, or read by nobody: one line at most, and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")
WSIPSM = f'"{sys.executable}" -c "from wsipsm.cli.start import main; main()"'
COMMANDS = (
    "--version",
    "--help",
    "run --help",
    "info slide.png --mpp 0.5",
    "info slide.png --mpp 0.5 --json",
    "models",
)


def shell(folder: Path, command: str, how: str) -> subprocess.CompletedProcess[str]:
    """Run a command of wsipsm in bash, with a redirection."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {WSIPSM} {command} {how}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    Image.new("RGB", (64, 64), (230, 220, 230)).save(folder / "slide.png")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("how", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")])
def test_output_that_cannot_be_written_is_one_line(folder: Path, command: str, how: str, reason: str) -> None:
    ended = shell(folder, command, how)
    assert ended.returncode == 6
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: standard output: cannot be written ({reason}); ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("how", [">&- 2>&-", ">/dev/full 2>/dev/full", ">&- 2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["--version", "info slide.png --mpp 0.5"])
def test_where_nothing_can_be_said_the_exit_code_says_it(folder: Path, command: str, how: str) -> None:
    assert shell(folder, command, how).returncode == 6


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full", "<&-"])
@pytest.mark.parametrize("command", ["--version", "info slide.png --mpp 0.5"])
def test_errors_that_cannot_be_said_stop_nothing(folder: Path, command: str, how: str) -> None:
    ended = shell(folder, command, how)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_an_error_keeps_its_exit_code(folder: Path, how: str) -> None:
    assert shell(folder, "info absent.png", how).returncode == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_goes_away_is_no_news(folder: Path, command: str) -> None:
    ended = shell(folder, command, "| true")
    assert ended.stderr == ""
    assert ended.returncode in (0, 1)  # 0 when it was faster


def test_what_is_printed_never_lands_in_a_file_that_is_opened_later(folder: Path) -> None:
    out = folder / "nowhere"
    ended = shell(folder, f"run slide.png --mpp 0.5 --workers 0 --model nuclei-he --out {out}", ">&- 2>&-")
    assert ended.returncode != 0
    for path in out.rglob("*.json"):
        assert path.read_bytes().lstrip()[:1] in (b"{", b"[")

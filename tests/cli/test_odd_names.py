"""Names that are not UTF-8, or that would steer a terminal, in every place where a command takes one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BAD = b"caf\xe9"


def run(*words: str | bytes, folder: Path) -> subprocess.CompletedProcess[bytes]:
    command = [os.fsencode(sys.executable), b"-c", b"from wsipsm.cli.main import main; main()"]
    return subprocess.run([*command, *map(os.fsencode, words)], cwd=folder, capture_output=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, an ROI and a manifest under names that are not UTF-8, and one picture under a plain name."""
    picture = tmp_path / "plain.png"
    Image.fromarray(np.full((64, 80, 3), 240, np.uint8)).save(picture)
    for suffix in (b".png", b".geojson", b".csv"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + BAD + suffix)).write_bytes(picture.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("run", BAD + b".png", "--mpp", "0.5"),
        ("run", "plain.png", "--mpp", "0.5", "--out", BAD),
        ("run", "plain.png", "--mpp", "0.5", "--roi", BAD + b".geojson"),
        ("run", "plain.png", "--mpp", "0.5", "--stain-from", BAD + b".png"),
        ("cohort", BAD + b".csv", "--out", "out"),
        ("cohort", "plain.png", "--out", BAD),
        ("score", BAD),
        ("info", BAD + b".png"),
        ("check", BAD + b".geojson"),
    ],
    ids=lambda words: " ".join(os.fsdecode(word).replace("\udce9", "?") for word in words),
)
def test_a_name_that_is_not_utf8_is_refused_before_any_work(folder: Path, words: tuple[str | bytes, ...]) -> None:
    before = sorted(os.listdir(folder))
    ended = run(*words, folder=folder)

    assert ended.returncode == 2
    assert ended.stdout == b""
    lines = ended.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: caf\\xe9")
    assert "not UTF-8" in lines[0]
    assert sorted(os.listdir(folder)) == before


def test_one_in_a_folder_is_told_with_the_others_problems(folder: Path) -> None:
    ended = run("cohort", ".", "--out", "out", "--mpp", "0.5", folder=folder)

    assert ended.returncode == 2
    said = ended.stderr.decode()
    assert "1 of 2 slides cannot be used" in said
    assert r"caf\xe9.png" in said
    assert "not UTF-8" in said


def test_what_lies_in_a_folder_of_such_a_name_is_refused(tmp_path: Path) -> None:
    inner = os.fsdecode(os.fsencode(tmp_path) + b"/" + BAD)
    os.mkdir(inner)
    Image.fromarray(np.full((64, 80, 3), 240, np.uint8)).save(Path(inner) / "a.png")
    ended = run("run", "a.png", "--mpp", "0.5", folder=Path(inner))

    assert ended.returncode in (2, 3)
    assert b"not UTF-8" in ended.stderr
    assert os.listdir(inner) == ["a.png"]


def test_a_name_that_would_steer_the_terminal_is_shown_escaped(tmp_path: Path) -> None:
    name = "\x1b[31mred\u202egnp.png"
    Image.fromarray(np.full((64, 80, 3), 240, np.uint8)).save(tmp_path / name)
    shown = run("info", name, folder=tmp_path)
    as_json = run("info", name, "--json", folder=tmp_path)
    refused = run("run", name, folder=tmp_path)

    for ended in (shown, as_json, refused):
        said = (ended.stdout + ended.stderr).decode()
        assert not set(said) & {"\x1b", "\u202e"}
        assert "[31mred" in said
    assert json.loads(as_json.stdout)["path"] == r"\x1b[31mred\u202egnp.png"


def test_a_command_that_touches_no_file_works_in_a_folder_of_such_a_name(tmp_path: Path) -> None:
    inner = os.fsdecode(os.fsencode(tmp_path) + b"/" + BAD)
    os.mkdir(inner)

    assert run("--version", folder=Path(inner)).returncode == 0

"""Bad input: one clear line, a non-zero exit code, nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from wsipsm.cli.main import app

RUNNER = CliRunner()


def wsipsm(command: str, *args: object) -> Result:
    # Progress is no part of what is tested here.
    quiet = ["--quiet"] if command in ("run", "cohort", "train", "demo") else []
    return RUNNER.invoke(app, [command, *(str(arg) for arg in args), *quiet])


def assert_refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert not lines[0].startswith("error: unexpected")
    for word in words:
        assert word in lines[0]
    assert result.stdout == ""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A plain image, which states no pixel size."""
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((64, 80, 3), 240, np.uint8)).save(path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_missing_slide(tmp_path: Path, out: Path) -> None:
    assert_refused(wsipsm("run", tmp_path / "case.svs", "--out", out), 3, "case.svs", "no such file")
    assert not out.exists()


def test_folder_instead_of_a_slide(tmp_path: Path, out: Path) -> None:
    assert_refused(wsipsm("run", tmp_path, "--out", out), 3, "folder")
    assert not out.exists()


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 40])
def test_file_that_is_no_slide(tmp_path: Path, out: Path, content: bytes) -> None:
    slide = tmp_path / "case.svs"
    slide.write_bytes(content)
    assert_refused(wsipsm("run", slide, "--out", out), 3, "case.svs")
    assert_refused(wsipsm("info", slide), 3, "case.svs")
    assert not out.exists()


def test_image_without_pixel_size(image: Path, out: Path) -> None:
    assert_refused(wsipsm("run", image, "--out", out), 3, "no pixel size", "--mpp")
    assert not out.exists()


@pytest.mark.parametrize("mpp", ["0", "-1", "50", "nan", "inf", "-inf"])
@pytest.mark.parametrize("command", ["run", "cohort", "info", "train"])
def test_impossible_pixel_size(command: str, mpp: str, image: Path, out: Path) -> None:
    arguments = {"info": [], "train": ["--out", out / "model.safetensors"]}.get(command, ["--out", out])
    assert_refused(wsipsm(command, image, "--mpp", mpp, *arguments), 2, "--mpp")
    assert not out.exists()


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--workers", "-1"),
        ("--tile-px", "0"),
        ("--block-px", "5"),
        ("--backend", "abacus"),
        ("--model", "no-such-model"),
    ],
)
def test_impossible_options(flag: str, value: str, image: Path, out: Path) -> None:
    assert_refused(wsipsm("run", image, "--mpp", "0.25", "--out", out, flag, value), 2, value)


def test_scheduler_and_workers_exclude_each_other(image: Path, out: Path) -> None:
    result = wsipsm("run", image, "--mpp", "0.25", "--out", out, "--workers", "2", "--scheduler", "tcp://localhost:1")
    assert_refused(result, 2, "--scheduler", "--workers")


@pytest.mark.parametrize("text", [None, "", "{", '{"type": "FeatureCollection", "features": []}'])
def test_roi_that_cannot_be_used(text: str | None, image: Path, out: Path, tmp_path: Path) -> None:
    roi = tmp_path / "roi.geojson"
    if text is not None:
        roi.write_text(text)
    assert_refused(wsipsm("run", image, "--mpp", "0.25", "--out", out, "--roi", roi), 2, "roi.geojson")


def test_folder_of_results_is_a_file(image: Path, out: Path) -> None:
    out.write_text("in the way")
    assert_refused(wsipsm("run", image, "--mpp", "0.25", "--out", out), 6, "--out")
    assert_refused(wsipsm("demo", "--no-open", "--out", out), 6, "--out")
    assert out.read_text() == "in the way"


def test_weights_need_their_suffix(image: Path, tmp_path: Path) -> None:
    assert_refused(wsipsm("train", image, "--mpp", "0.25", "--out", tmp_path / "model.pt"), 2, ".safetensors")


def test_check_of_what_is_no_file(tmp_path: Path) -> None:
    assert_refused(wsipsm("check", tmp_path / "none.geojson"), 2, "no such file")
    assert_refused(wsipsm("check", tmp_path), 2, "folder")


def test_check_tells_problems_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "cells.geojson"
    path.write_text('{"type": "FeatureCollection"')
    result = wsipsm("check", path)
    assert result.exit_code == 1
    assert result.stdout.count(str(path)) >= 1
    told = json.loads(wsipsm("check", path, "--json").stdout)
    assert told["ok"] is False
    assert told["problems"]


def test_cohort_of_nothing(tmp_path: Path, out: Path) -> None:
    assert wsipsm("cohort", tmp_path / "none", "--out", out).exit_code == 2
    assert wsipsm("cohort", tmp_path / "none", "--out", out, "--skip-bad").exit_code == 5


def test_a_real_process_ends_the_same_way(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from wsipsm.cli.main import main; main()", "run", "none.svs"]
    environment = {name: value for name, value in os.environ.items() if name != "WSIPSM_DEBUG"}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []

"""The paper's engine as rows of a table; labels, right, wrong or absent, teach it nothing."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wsipsm.benchmark.bench import open_set
from wsipsm.benchmark.names import SetName
from wsipsm.benchmark.paper_rows import train_methods
from wsipsm.cli.main import app
from wsipsm.config import read_paper_options
from wsipsm.demo.draw import draw_array
from wsipsm.errors import UsageError
from wsipsm.keys import NucleusClass, Stain
from wsipsm.paper.engine import train_paper

SIDE = 128


@pytest.fixture
def config(tmp_path: Path, tiny_engine: str) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(f"seed = 2\n{tiny_engine}")
    return path


@pytest.fixture
def monuseg(tmp_path: Path) -> Path:
    folder = tmp_path / "monuseg"
    (folder / "images").mkdir(parents=True)
    (folder / "labels_png").mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        rgb, truth = draw_array(seed=seed, size=(SIDE, SIDE), n_nuclei=12, stain=Stain.HE)
        Image.fromarray(rgb).save(folder / "images" / f"{name}.tif")
        labels = np.zeros((SIDE, SIDE), np.uint16)
        for i, (x, y) in enumerate(truth.centroids_px0.astype(int), start=1):
            labels[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = i
        Image.fromarray(labels).save(folder / "labels_png" / f"{name}.png")
    return folder


@pytest.fixture
def bcdata(tmp_path: Path) -> Path:
    folder = tmp_path / "bcdata"
    (folder / "images" / "test").mkdir(parents=True)
    rgb, truth = draw_array(seed=3, size=(160, 160), n_nuclei=20, positive_fraction=0.5)
    Image.fromarray(rgb).save(folder / "images" / "test" / "0.png")
    for kind in (NucleusClass.POSITIVE, NucleusClass.NEGATIVE):
        place = folder / "annotations" / "test" / kind.value.lower()
        place.mkdir(parents=True)
        with h5py.File(place / "0.h5", "w") as file:
            file["coordinates"] = truth.centroids_px0[truth.classes == kind.value].astype(int)
    return folder


def spoil_labels(folder: Path) -> None:
    for path in (folder / "labels_png").glob("*.png"):
        wrong = np.zeros((SIDE, SIDE), np.uint16)
        wrong[:9, :9], wrong[40:, 100:] = 1, 2
        Image.fromarray(wrong).save(path)


def spoil_points(folder: Path) -> None:
    for path in folder.rglob("*.h5"):
        with h5py.File(path, "w") as file:
            file["coordinates"] = np.array([[1, 1]])


def digests(folder: Path) -> dict[str, str]:
    """Name the checkpoints of a training by content, and remove them: they are large."""
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.checkpoint"))}
    shutil.rmtree(folder)
    return found


def bench(name: str, folder: Path, config: Path, out: Path) -> list[dict[str, str]]:
    arguments = ["bench", name, folder, "--methods", "floor", "--train", "--config", config, "--out", out, "--seed", 2]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "trained on these images' pixels alone" in result.stdout
    assert "detector: step 1 of 1, loss" in result.stderr
    return list(csv.DictReader((out / f"{name}-whole.csv").read_text().splitlines()))


def assert_blind(
    name: str, folder: Path, config: Path, out: Path, spoil: Callable[[Path], None], stain: Stain
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Train with the labels, with wrong ones, and on pixels alone: the bytes must be the same."""
    rows = bench(name, folder, config, out)
    right = digests(out / "training" / name)
    spoil(folder)
    spoilt = bench(name, folder, config, out)
    assert [row for row in spoilt if row["method"] == "floor"] != [row for row in rows if row["method"] == "floor"]
    assert digests(out / "training" / name) == right
    files = sorted(path for path in (folder / "images").rglob("*.*"))
    images = [np.array(Image.open(path)) for path in files]
    shutil.rmtree(folder)
    options = read_paper_options(config, stain)
    train_paper(images, options, out / "alone", lambda line: None, lambda *_: None)
    assert digests(out / "alone") == right
    return rows, right


def test_labels_of_monuseg_teach_nothing(monuseg: Path, config: Path, tmp_path: Path) -> None:
    rows, checkpoints = assert_blind("monuseg", monuseg, config, tmp_path / "out", spoil_labels, Stain.HE)
    assert list(checkpoints) == ["detector.checkpoint", "pretext.checkpoint", "segmenter.checkpoint"]
    assert {
        "floor", "psm pseudo mask", "psm pseudo mask, watershed", "psm pseudo mask, divided by detection",
        "psm segmentation",
    } <= {row["method"] for row in rows}  # fmt: skip


@pytest.mark.slow
def test_labels_of_bcdata_teach_nothing(bcdata: Path, config: Path, tmp_path: Path) -> None:
    rows, checkpoints = assert_blind("bcdata", bcdata, config, tmp_path / "out", spoil_points, Stain.IHC)
    assert list(checkpoints) == ["detector.checkpoint", "pretext.checkpoint"]
    assert {"psm pseudo mask, watershed", "psm detection"} <= {row["method"] for row in rows}


def test_another_folder_is_trained_on(monuseg: Path, config: Path, tmp_path: Path) -> None:
    opened, options = open_set(SetName.MONUSEG, monuseg), read_paper_options(config, Stain.HE)
    quiet = (lambda line: None, lambda *_: None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: holds no image"):
        train_methods(opened, options, tmp_path / "none", *quiet, train_on=tmp_path / "empty")
    other = tmp_path / "other"
    other.mkdir()
    rgb, _ = draw_array(seed=7, size=(SIDE, SIDE), n_nuclei=12, stain=Stain.HE)
    Image.fromarray(rgb).save(other / "c.png")
    methods = train_methods(opened, options, tmp_path / "kept", *quiet, train_on=other)
    assert f"the pixels of 1 images of {other} alone" in methods[0].describe()
    assert "also one that was trained on" not in methods[0].describe()
    trained = digests(tmp_path / "kept")
    train_paper([rgb], options, tmp_path / "alone", *quiet)
    assert digests(tmp_path / "alone") == trained


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--budget", "0.5"], "given without --train"),
        (["--train-on", "."], "given without --train"),
        (["--train", "--budget", "0"], "--budget 0.0: refused"),
        (["--train", "--seed", "-1"], "--seed -1: refused"),
        (["--train", "--config", "none.toml"], "none.toml: cannot be read"),
    ],
)
def test_settings_that_cannot_be_used(monuseg: Path, tmp_path: Path, arguments: list[str], told: str) -> None:
    out = ["--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["bench", "monuseg", str(monuseg), "--methods", "floor", *arguments, *out])
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

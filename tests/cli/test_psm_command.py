"""``wsipsm psm`` writes its figure, and says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from wsipsm.cli.main import app
from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain

BLOCKED = """
import sys

class Blocker:
    names = set()

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocker = Blocker()
sys.meta_path.insert(0, blocker)
from typer.testing import CliRunner
from wsipsm.cli.main import app

blocker.names = {"timm"}
result = CliRunner().invoke(app, ["psm", *sys.argv[1:], "--network", "resnet18"])
print(result.exit_code, result.stderr.strip())
"""


def psm(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["psm", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "drawn.png"
    Image.fromarray(draw_array(seed=1, size=(160, 128), n_nuclei=16, stain=Stain.HE)[0]).save(path)
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_engine: str) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(tiny_engine)
    return path


def test_the_figure_is_written(image: Path, config: Path, tmp_path: Path) -> None:
    result = psm(image, "--mpp", 0.25, "--stain", "he", "--config", config, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    picture = tmp_path / "drawn" / "psm.png"
    assert f"{picture}: " in result.stdout
    assert "pixels are nuclear" in result.stdout
    with Image.open(picture) as opened:
        shown = np.asarray(opened.convert("RGB"))
    assert min(shown.shape[:2]) > 600
    assert shown.std() > 20
    assert "pretext: step 1 of 1, loss" in result.stderr


def test_json_alone_goes_to_stdout(image: Path, config: Path, tmp_path: Path) -> None:
    result = psm(image, "--mpp", 0.25, "--config", config, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["picture"] == str(tmp_path / "drawn" / "psm.png")
    assert told["stain"] in list(Stain)
    assert 0 <= told["nuclear_share"] <= 1
    assert told["n_points"] >= 0
    assert told["collapsed"] is False
    assert result.stderr == ""


def test_a_trained_detector_gives_the_points(image: Path, config: Path, tmp_path: Path) -> None:
    result = psm(image, "--mpp", 0.25, "--stain", "ihc", "--config", config, "--out", tmp_path, "--train")
    assert result.exit_code == 0, result.output
    assert "detector: step 1 of 1, loss" in result.stderr
    (detector,) = (tmp_path / "drawn" / "training").glob("*/detector.checkpoint")
    detector.unlink()  # it is large
    assert not list((tmp_path / "drawn" / "training").glob("*/segmenter.*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--network", "torchvision:vgg"], "network 'torchvision:vgg': unknown"),
        (["--seed", "-1"], "--seed -1: refused"),
        (["--config", "none.toml"], "none.toml: cannot be read"),
        (["--mpp", "9"], "--mpp 9: not a pixel size"),
    ],
)
def test_what_cannot_be_used(image: Path, tmp_path: Path, arguments: list[str], told: str) -> None:
    result = psm(image, "--mpp", 0.25, "--out", tmp_path, "--quiet", *arguments)
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))


def test_a_missing_package_is_named(image: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BLOCKED, str(image), "--mpp", "0.25", "--out", str(tmp_path), "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    (told,) = result.stdout.splitlines()
    assert told.startswith("2 error: network: timm is not installed; it holds the CNNs of the paper.")
    assert not list(tmp_path.rglob("*.png"))

"""``wsipsm train`` tells how the model agrees with its start, and refuses a recipe before any work."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import wsipsm.training.pseudo_labels
from wsipsm.cli.main import app
from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.training.pretext_training import PretextOptions

TINY = "batch = 2\ncrop_px = 64\nrounds = []\nconsistency = []\nhold_back_every = 2\n\n[first]\nsteps = 1\n"


def train(folder: Path, *arguments: object) -> Result:
    recipe = folder / "tiny.toml"
    images = [folder / "a.png", folder / "b.png"]
    given = [*images, "--mpp", 0.25, "--recipe", recipe, "--out", folder / "mine.safetensors", *arguments]
    return CliRunner().invoke(app, ["train", *(str(argument) for argument in given)])


@pytest.fixture(autouse=True)
def _short_pretext(monkeypatch: pytest.MonkeyPatch) -> None:
    short = partial(PretextOptions, steps=2, batch=2, crop_px=64)
    monkeypatch.setattr(wsipsm.training.pseudo_labels, "PretextOptions", short)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(TINY)
    for seed, name in enumerate(("a.png", "b.png"), start=1):
        rgb, _ = draw_array(seed=seed, size=(200, 160), n_nuclei=20, stain=Stain.HE)
        Image.fromarray(rgb).save(tmp_path / name)
    return tmp_path


def test_a_spoiled_model_is_warned_of_in_the_last_line(folder: Path) -> None:
    result = train(folder, "--init", "random")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "Compared with nuclei-he, without labels, on 1 image kept from training:" in lines
    assert lines[-1].startswith("WARNING: it finds ")
    card = json.loads((folder / "mine.json").read_text())
    assert card["training"]["compared_doubts"] in lines[-1]
    assert card["training"]["compared_on_held_back"]
    assert [source["n_images"] for source in card["data"]] == [1]


@pytest.mark.parametrize(("option", "stream"), [("--quiet", "stderr"), ("--json", "stdout")])
def test_the_warning_comes_out_whatever_else_is_silent(folder: Path, option: str, stream: str) -> None:
    result = train(folder, "--init", "random", option)
    assert result.exit_code == 0
    if option == "--json":
        assert json.loads(result.stdout)["doubts"]
        assert result.stderr == ""
    else:
        assert result.stdout == ""
        assert getattr(result, stream).startswith("WARNING: it finds ")


def test_a_recipe_is_refused_before_any_work(folder: Path) -> None:
    (folder / "tiny.toml").write_text(TINY.replace("steps", "stepz"))
    result = train(folder)
    assert result.exit_code == 2
    assert "tiny.toml for he: first.stepz = 1" in result.stderr
    assert not list(folder.glob("mine*"))
    assert not list(folder.glob(".mine*"))

"""The trainings of a recipe: a killed chain goes on to the same weights, and the model says what it was made by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from wsipsm.demo.draw import draw_array
from wsipsm.errors import ModelError, UsageError
from wsipsm.keys import Stain
from wsipsm.models.registry import resolve_model
from wsipsm.models.unet import NucleusUnet
from wsipsm.training import student
from wsipsm.training.start import load_compared, load_start
from wsipsm.training.train import TrainedModel, TrainRequest, follow_recipe

TINY = """
stain = "he"
batch = 2
crop_px = 64
{more}
[[sources]]
files = ["*.png"]
mpp = 0.25
whole = true
name = "drawn"
terms = "none"

[[sources]]
files = ["other/*.png"]
mpp = 0.5
whole = true
part = "consistency"
name = "drawn, other"
"""
ROUNDS = """
first = { steps = 1 }
rounds = [{ steps = 1 }, { steps = 1 }]
consistency = [{ steps = 1, batch = 2, crop_px = 64 }, { steps = 1, batch = 2, crop_px = 64, seed = 2 }]
"""
DISTIL = """
first = { steps = 0 }
rounds = []
consistency = []
distil = { steps = 1, batch = 2, crop_px = 64 }
distilled_min_distance = 0.3
"""


class Killed(BaseException):
    """Ends a training as a signal does."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "other").mkdir()
    rgb: NDArray[np.uint8] = draw_array(seed=4, size=(256, 256), n_nuclei=60, stain=Stain.HE)[0]
    Image.fromarray(rgb).save(folder / "image.png")
    Image.fromarray(rgb[:96, :96]).save(folder / "other" / "image.png")
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the shipped model's encoder alone."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    state = load_file(resolve_model("nuclei-he")[0])
    save_file({name: value for name, value in state.items() if name.startswith("encoder.")}, path)
    return path


def follow(data: Path, out: Path, more: str, init: str = "nuclei-he", seed: int | None = 3) -> TrainedModel:
    out.parent.mkdir(exist_ok=True)
    recipe = out.with_suffix(".toml")
    recipe.write_text(TINY.format(more=more))
    request = TrainRequest(recipe=recipe, data=data, init=init, seed=seed, work=out.with_suffix(".work"))
    return follow_recipe(request, out, lambda line: None)


@pytest.mark.slow
def test_a_killed_recipe_goes_on_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = follow(data, tmp_path / "whole" / "model.safetensors", ROUNDS)
    trained: list[int] = []
    train = student.train_student

    def killed_in_the_third(*args: object, **kwargs: object) -> NucleusUnet:
        trained.append(1)
        if len(trained) == 3:
            raise Killed
        return train(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("wsipsm.training.chain.train_student", killed_in_the_third)
    out = tmp_path / "killed" / "model.safetensors"
    with pytest.raises(Killed):
        follow(data, out, ROUNDS)
    again = follow(data, out, ROUNDS)
    assert len(trained) == 4  # the first two were kept
    first, second = load_file(tmp_path / "whole" / "model.safetensors"), load_file(out)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.card.sha256 == whole.card.sha256
    assert again.card.training["seed"] == 3
    assert again.card.training["round_steps"] == again.card.training["consistency_steps"] == "1, 1"
    assert [(source.name, source.n_images) for source in again.card.data] == [("drawn", 1), ("drawn, other", 1)]
    follow(data, out, ROUNDS, seed=4)
    assert len(trained) == 7  # another seed is another model
    follow(data, out, ROUNDS.replace("{ steps = 1 }]", "{ steps = 2 }]"))
    assert len(trained) == 8  # what comes before the change is kept


def test_distilling_alone_makes_a_faster_model_of_its_start(data: Path, tmp_path: Path) -> None:
    made, (_, teacher) = follow(data, tmp_path / "fast.safetensors", DISTIL), resolve_model("nuclei-he")
    card = resolve_model(tmp_path / "fast.safetensors")[1]
    assert card == made.card
    assert (card.architecture, card.mpp) == ("nucleus-unet-fine", 0.5)
    assert card.decode.foreground == teacher.decode.foreground
    assert card.decode.peak_radius_px == teacher.decode.peak_radius_px / 2
    assert card.decode.min_distance == 0.3
    assert card.data[: len(teacher.data)] == teacher.data
    assert card.training["init_sha256"] == teacher.sha256[:12]
    assert made.comparison.start == "nuclei-he"
    assert not made.comparison.held_back
    # One step of a copy that begins as its teacher: at half the pixels it still finds most of the same nuclei.
    assert made.comparison.n_new > 0


def test_what_is_left_out_needs_a_model_to_go_on_with(data: Path, encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    for init in (str(encoder), "random", "ki67-ihc", "nuclei-he-fast"):
        with pytest.raises(UsageError, match=r"a model for he at 0\.25 um/px is needed"):
            follow(data, out, DISTIL, init)
    assert not out.exists()


def test_a_stain_told_by_the_pixels_decides_what_may_be_left_out(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "a.toml"
    recipe.write_text("first = { steps = 0 }\nrounds = []\nconsistency = [{ steps = 1, batch = 2, crop_px = 64 }]\n")
    request = TrainRequest(sources=[data / "image.png"], mpp=0.25, recipe=recipe, init="ki67-ihc")
    with pytest.raises(UsageError, match=r"for ihc at 0\.25 um/px; without a first round a model for he"):
        follow_recipe(request, tmp_path / "a.safetensors", lambda line: None)
    made = follow_recipe(replace(request, init="auto"), tmp_path / "a.safetensors", lambda line: None)
    assert made.card.training["init"] == "nuclei-he"


def test_an_encoder_needs_no_card_and_a_model_does(encoder: Path, tmp_path: Path) -> None:
    start = load_start(str(encoder), Stain.HE)
    assert start is not None
    assert (start.name, start.card) == ("encoder.safetensors", None)
    assert start.weights.keys() == load_file(encoder).keys()
    assert load_compared(start, Stain.HE).name == "nuclei-he"
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(resolve_model("nuclei-he")[0]), bare)
    with pytest.raises(ModelError, match="card must lie beside"):
        load_start(str(bare), Stain.HE)
    other = tmp_path / "other.safetensors"
    save_file({"encoder.strange": torch.zeros(3)}, other)
    with pytest.raises(ModelError, match="no weights of this network's encoder"):
        load_start(str(other), Stain.HE)
    empty = tmp_path / "empty.safetensors"
    save_file({}, empty)
    with pytest.raises(ModelError):
        load_start(str(empty), Stain.HE)


def test_auto_waits_for_the_stain() -> None:
    assert load_start("auto", None) is None
    start = load_start("auto", Stain.IHC)
    assert start is not None
    assert start.name == load_compared(start, Stain.IHC).name == "ki67-ihc"
    assert load_compared(start, Stain.HE).name == "nuclei-he"


def test_images_are_named_once(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "a.toml"
    recipe.write_text(TINY.format(more=ROUNDS))
    out, image = tmp_path / "a.safetensors", data / "image.png"
    for changes, told in (
        ({"data": data, "sources": [image]}, "one of them is needed"),
        ({}, "Name it with --data"),
        ({"data": data, "mpp": 0.25}, "sources of a recipe state their own"),
        ({"data": data, "stain": Stain.IHC}, "one stain is needed"),
        ({"data": tmp_path}, r"no file matches \*\.png"),
    ):
        with pytest.raises(UsageError, match=told):
            follow_recipe(TrainRequest(recipe=recipe, **changes), out, lambda line: None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no slide or image was given"):
        follow_recipe(TrainRequest(data=data), out, lambda line: None)

"""What the recipes share: a run that goes on, and makes the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nuclei_he import SETTLE, make_recipe
from numpy.typing import NDArray
from PIL import Image
from recipe import Round, Source, make_model
from safetensors.torch import load_file, save_file

from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.models.registry import read_card, resolve_model
from wsipsm.models.unet import NucleusUnet
from wsipsm.training import loop


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return draw_array(seed=4, size=(256, 256), n_nuclei=60, stain=Stain.HE)[0]


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    # The shipped weights, so that one step finds nuclei to teach a further round with.
    weights, _ = resolve_model("nuclei-he")
    path = tmp_path / "encoder.safetensors"
    save_file(load_file(weights), path)
    return path


@pytest.mark.slow
def test_a_killed_recipe_goes_on_to_the_same_weights(
    pixels: NDArray[np.uint8], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(pixels).save(tmp_path / "image.png")
    source, settle = Source(tmp_path / "image.png", 0.25), replace(SETTLE, steps=1)
    recipe = replace(make_recipe([], 3), sources=[source], steps=1, rounds=(Round(1),) * 2, settle=(settle, settle))
    whole = make_model(recipe, encoder, tmp_path / "whole" / "model.safetensors")

    class Killed(BaseException):
        pass

    trained: list[int] = []
    train = loop.train_student

    def killed_in_the_third(*args: object, **kwargs: object) -> NucleusUnet:
        trained.append(1)
        if len(trained) == 3:
            raise Killed
        return train(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("recipe.train_student", killed_in_the_third)
    out = tmp_path / "killed" / "model.safetensors"
    with pytest.raises(Killed):
        make_model(recipe, encoder, out)
    make_model(recipe, encoder, out)
    assert len(trained) == 4  # the first two were kept
    first, second = load_file(tmp_path / "whole" / "model.safetensors"), load_file(out)
    assert all(torch.equal(first[name], second[name]) for name in first)
    card = read_card(out.with_suffix(".json"))
    assert card.sha256 == whole.sha256
    assert card.training["seed"] == 3
    assert card.training["round_steps"] == card.training["settle_steps"] == "1, 1"
    make_model(replace(recipe, seed=4), encoder, out)
    assert len(trained) == 7  # another seed is another model

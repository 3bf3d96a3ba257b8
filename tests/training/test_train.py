"""A model from one drawn image; what lies beside the image teaches nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import wsipsm.training.pseudo_labels
import wsipsm.training.train
from wsipsm.demo.draw import draw_array
from wsipsm.errors import UsageError
from wsipsm.keys import Stain
from wsipsm.models.card import ModelCard
from wsipsm.models.registry import resolve_model
from wsipsm.models.unet import ENCODER_STRIDE, NucleusUnet
from wsipsm.models.weights import measure_reach
from wsipsm.training.pretext_training import PretextOptions
from wsipsm.training.train import NETWORK_REACH_PX, NETWORK_STRIDE, train_model

KILLED = Path(__file__).with_name("killed_training.py")
TINY = Path(__file__).with_name("tiny.toml")
Trainer = Callable[[Path, Path], ModelCard]


def train_tiny(images: Sequence[Path], out: Path, steps: int | None = None, init: str = "random") -> ModelCard:
    return train_model(
        images, out, stain=None, steps=steps, seed=3, mpp=0.25, init=init, report=lambda line: None, recipe=TINY
    )


@pytest.fixture(scope="module")
def trainer() -> Iterator[Trainer]:
    """Training of two small steps, seeded."""
    with pytest.MonkeyPatch.context() as patch:
        short = partial(PretextOptions, steps=2, batch=2, crop_px=64)
        patch.setattr(wsipsm.training.pseudo_labels, "PretextOptions", short)
        yield lambda image, out: train_tiny([image], out)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "drawn.png"
    rgb, _ = draw_array(seed=7, size=(200, 200), n_nuclei=20)
    Image.fromarray(rgb).save(path)
    return path


@pytest.fixture(scope="module")
def weights(trainer: Trainer, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "mine.safetensors"
    trainer(image, out)
    return out


def test_the_registry_reads_a_trained_model_back(weights: Path) -> None:
    path, card = resolve_model(weights)
    assert path == weights
    assert (card.name, card.stain, card.mpp) == ("mine", Stain.IHC, 0.25)
    assert card.outputs == ("nucleus", "distance", "positive")
    assert card.training["seed"] == 3
    assert card.training["steps"] == 2


def test_a_spoiled_model_is_warned_of(weights: Path) -> None:
    # Two steps from random weights: nothing that finds nuclei.
    _, card = resolve_model(weights)
    assert card.training["compared_with"] == "ki67-ihc"
    assert card.training["compared_on_held_back"] is False  # there is one image
    assert card.training["compared_doubts"]


def test_constants_are_those_of_the_network(weights: Path) -> None:
    _, card = resolve_model(weights)
    assert NETWORK_STRIDE == ENCODER_STRIDE == card.stride
    assert measure_reach(NucleusUnet(len(card.outputs))) == NETWORK_REACH_PX == card.reach_px


def test_labels_beside_an_image_are_not_read(trainer: Trainer, image: Path, weights: Path, tmp_path: Path) -> None:
    beside = tmp_path / image.name
    beside.write_bytes(image.read_bytes())
    for suffix in (".json", ".truth.json", ".geojson", ".xml", ".csv", ".npy"):
        beside.with_suffix(suffix).write_text("labels that are all wrong")
    for folder in ("labels", "masks", "annotations"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((200, 200), 1, np.uint8)).save(tmp_path / folder / image.name)
    trainer(beside, tmp_path / "mine.safetensors")
    left, right = load_file(weights), load_file(tmp_path / "mine.safetensors")
    assert left.keys() == right.keys()
    assert all(np.array_equal(left[name], right[name]) for name in left)


def test_no_source_is_told(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no slide or image was given"):
        train_tiny([], tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_image_too_small_for_a_map_is_told(trainer: Trainer, image: Path, tmp_path: Path) -> None:
    Image.open(image).crop((0, 0, 200, 30)).save(tmp_path / "slim.png")
    with pytest.raises(UsageError, match=r"slim\.png: 200x30 px"):
        trainer(tmp_path / "slim.png", tmp_path / "a.safetensors")


def start(image: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(KILLED), str(image), str(out), "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_weights(image: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    process = start(image, killed)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "step 4\n":
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    assert not killed.exists()
    assert (tmp_path / ".killed.training").is_dir()
    again, _ = start(image, killed).communicate()
    # The state after step 3, or after 4 where the kill came late.
    assert again.splitlines()[0] in ("step 4", "step 5")
    assert again.splitlines()[-1] == "step 7"
    uninterrupted, _ = start(image, whole).communicate()
    assert uninterrupted.splitlines() == [f"step {n}" for n in range(8)]
    left, right = load_file(whole), load_file(killed)
    assert left.keys() == right.keys()
    assert all(np.array_equal(left[name], right[name]) for name in left)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "killed.json", "killed.safetensors", "whole.json", "whole.safetensors",
    ]  # fmt: skip


def test_what_other_settings_left_behind_is_not_taken(
    trainer: Trainer, image: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wsipsm.training.train, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_tiny([image], out, steps=1)
    assert len(list((tmp_path / ".mine.training").glob("*.safetensors"))) == 1
    trainer(image, out)
    left, right = load_file(weights), load_file(out)
    assert all(np.array_equal(left[name], right[name]) for name in left)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "mine.safetensors"]

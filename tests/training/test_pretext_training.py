"""Every pretext task trains, and what is not trained stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from wsipsm.demo.draw import draw_array
from wsipsm.errors import ModelError
from wsipsm.keys import Stain
from wsipsm.psm.backbone import ActivationNetwork
from wsipsm.psm.pretext import Pretext
from wsipsm.training.pretext_training import PretextOptions, train_pretext

QUICK = PretextOptions(steps=2, batch=3, crop_px=48, embedding_size=8)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    return [draw_array(seed=seed, size=(96, 80), n_nuclei=8, stain=Stain.HE)[0] for seed in (1, 2)]


@pytest.mark.parametrize("task", [Pretext.CONTRAST, Pretext.ROTATION, Pretext.SIMSIAM])
def test_tasks_change_the_trunk(images: list[NDArray[np.uint8]], task: Pretext) -> None:
    network, log = train_pretext(images, replace(QUICK, pretext=task))
    start = ActivationNetwork(QUICK.network, QUICK.seed, QUICK.embedding_size)
    assert not torch.equal(network.trunk.layer1[0].conv1.weight, start.trunk.layer1[0].conv1.weight)
    assert np.isfinite(log.losses).all()
    assert len(log.losses) == 2
    assert not log.collapsed


def test_none_fits_norms_and_changes_no_weight(images: list[NDArray[np.uint8]]) -> None:
    network, log = train_pretext(images, replace(QUICK, pretext=Pretext.NONE))
    start = ActivationNetwork(QUICK.network, QUICK.seed, QUICK.embedding_size).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, start[name]) != name.endswith(STATISTICS), name
    assert int(network.state_dict()["trunk.bn1.num_batches_tracked"]) == QUICK.steps
    assert log.losses == (0.0, 0.0)
    assert log.spread > 0


def test_imagenet_needs_weights_of_its_network(images: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    options = replace(QUICK, pretext=Pretext.IMAGENET)
    with pytest.raises(ModelError, match="no weights were given"):
        train_pretext(images, options)
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ModelError, match=r"weights\.safetensors: cannot be read"):
        train_pretext(images, replace(options, weights=path))
    path.write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match=r"weights\.safetensors: cannot be read as safetensors"):
        train_pretext(images, replace(options, weights=path))
    safetensors.torch.save_file({"conv1.weight": torch.zeros(64, 3, 5, 5)}, path)
    with pytest.raises(ModelError, match=r"made for another network \(conv1\.weight and \d+ more"):
        train_pretext(images, replace(options, weights=path))


def test_weights_of_imagenet_stay_as_they_are(images: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    donor = ActivationNetwork(QUICK.network, seed=99).trunk.state_dict()
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({**donor, "fc.weight": torch.zeros(2)}, path)
    network, log = train_pretext(images, replace(QUICK, pretext=Pretext.IMAGENET, weights=path))
    assert all(torch.equal(value, donor[name]) for name, value in network.trunk.state_dict().items())
    assert log.losses == ()
    assert log.spread > 0


def test_interrupted_it_ends_the_same_with_the_same_log(images: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    whole, log = train_pretext(images, QUICK)
    train_pretext(images, QUICK, keep=tmp_path / "pretext")
    again, same = train_pretext(images, QUICK, keep=tmp_path / "pretext")
    assert same == log
    left, right = whole.state_dict(), again.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    # Another image of the same size is another training.
    with pytest.raises(ModelError, match="other images or settings"):
        train_pretext([images[0], images[0]], QUICK, keep=tmp_path / "pretext")

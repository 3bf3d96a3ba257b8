"""A patch is described by the statistics of a network's own maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.models.describe import Describer, open_describer
from wsipsm.models.predict import open_predictor
from wsipsm.models.registry import resolve_model
from wsipsm.models.shipped import DEFAULT_MODELS


@pytest.fixture(scope="module", params=list(Stain))
def stain(request: pytest.FixtureRequest) -> Stain:
    return Stain(request.param)


@pytest.fixture(scope="module")
def describer(stain: Stain) -> Describer:
    return open_describer(*resolve_model(DEFAULT_MODELS[stain]))


def drawn(stain: Stain, width: int, height: int) -> np.ndarray:
    return draw_array(seed=2, size=(width, height), n_nuclei=width * height // 900, stain=stain)[0]


def test_scores_are_those_of_the_predictor_within_the_edge(describer: Describer, stain: Stain) -> None:
    rgb = drawn(stain, 176, 128)
    scores = open_predictor(*resolve_model(DEFAULT_MODELS[stain]), backend="torch").predict(rgb)[:, 16:-16, 16:-16]
    described = describer.describe(rgb)[:, -len(scores) :]
    weights = scores[0] + 1e-3
    assert described[0] == pytest.approx(scores.mean(axis=(1, 2)), abs=1e-4)
    assert described[1] == pytest.approx(scores.std(axis=(1, 2)), abs=1e-4)
    assert described[2] == pytest.approx((scores * weights).sum(axis=(1, 2)) / weights.sum(), abs=1e-4)


def test_every_channel_of_every_map_is_described(describer: Describer) -> None:
    n_maps = 16 + 24 + 40 + 112 + 64 + 40 + 24
    described = describer.describe(np.zeros((32, 48, 3), np.uint8))
    assert described.shape == (3, n_maps + len(describer.card.outputs))
    assert np.isfinite(described).all()
    assert (described[1] >= 0).all()


def test_the_same_patch_is_described_alike(describer: Describer, stain: Stain) -> None:
    rgb = drawn(stain, 96, 96)
    before = torch.get_num_threads()
    assert np.array_equal(describer.describe(rgb), describer.describe(rgb.copy()))
    assert torch.get_num_threads() == before

"""What every shipped model keeps to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wsipsm.benchmark.scoring import centroids
from wsipsm.demo.draw import draw_array
from wsipsm.instances.decode import decode_instances
from wsipsm.keys import Stain
from wsipsm.metrics.detection import match_points
from wsipsm.models.card import ModelCard
from wsipsm.models.predict import open_predictor
from wsipsm.models.registry import list_models, resolve_model
from wsipsm.models.shipped import DEFAULT_MODELS
from wsipsm.models.weights import build_network

SIDE_PX = 256
MAX_KMAC_A_PIXEL = 20.0
MAX_BYTES = 12_000_000
CARDS = list_models()


def count_macs(network: nn.Module) -> int:
    """Multiplications of all convolutions on an image, counted as they run."""
    counted: list[int] = []

    def count(module: nn.Module, _: Any, found: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        counted.append(found.numel() * module.weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, SIDE_PX, SIDE_PX))
    return sum(counted)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: str(card.name))
def test_models_are_small(card: ModelCard) -> None:
    weights, _ = resolve_model(card.name)
    assert weights.stat().st_size < MAX_BYTES
    kmac_a_pixel = count_macs(build_network(card, weights)) / SIDE_PX**2 / 1000
    assert 1 < kmac_a_pixel * (0.25 / card.mpp) ** 2 <= MAX_KMAC_A_PIXEL


@pytest.mark.parametrize("card", CARDS, ids=lambda card: str(card.name))
def test_cards_say_where_a_model_comes_from(card: ModelCard) -> None:
    assert card.training["labels"] == "none"
    assert card.licence
    assert card.data
    assert all(source.terms and source.n_images > 0 for source in card.data)


def test_every_stain_has_its_model() -> None:
    stains = {card.name: card.stain for card in CARDS}
    assert all(stains[name] == stain for stain, name in DEFAULT_MODELS.items())


@pytest.mark.parametrize("name", ["nuclei-he", "nuclei-he-fast"])
def test_he_models_find_drawn_nuclei_at_their_pixel_size(name: str) -> None:
    weights, card = resolve_model(name)
    side_px = round(128 / card.mpp)
    rgb, truth = draw_array(seed=11, size=(side_px, side_px), n_nuclei=150, mpp=card.mpp, stain=Stain.HE)
    reach = card.reach_px
    seen = np.pad(rgb, ((reach, reach), (reach, reach), (0, 0)), "reflect")
    maps = open_predictor(weights, card, backend="torch").predict(seen)
    inside = np.ascontiguousarray(maps[:, reach:-reach, reach:-reach])
    found = centroids(decode_instances(inside, card.outputs, card.decode, card.mpp))
    assert match_points(truth.centroids_px0, found, radius=3 / card.mpp).score.f1 > 0.95


def test_the_fast_model_works_on_a_quarter_of_the_pixels() -> None:
    mpps = {card.name: card.mpp for card in CARDS}
    assert mpps["nuclei-he-fast"] == 2 * mpps["nuclei-he"]

"""Several tiles go through the network at once, in 16 bits too; memory that is short makes them fewer, not others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsipsm.errors import BudgetError
from wsipsm.models.card import ModelCard
from wsipsm.models.inference import Inference
from wsipsm.models.predict import NetworkPredictor, predict_tiled
from wsipsm.models.registry import resolve_model
from wsipsm.models.torch_backend import TorchNetwork

MARGIN, TILE = 160, 32
SIDE_PX = (TILE + 2 * MARGIN) ** 2
"""Pixels of a tile and its margin."""


@pytest.fixture(scope="module")
def model() -> tuple[Path, ModelCard]:
    return resolve_model("nuclei-he-fast")


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    """Five tiles and a narrow one, blurred noise in which the network finds something."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 27, 3), dtype=np.uint8)
    height, width = TILE + 2 * MARGIN, 5 * TILE + 16 + 2 * MARGIN
    return np.asarray(np.kron(noise, np.ones((32, 32, 1), np.uint8))[:height, :width])


class Watched(nn.Module):
    """The network, and the memory of a small device: it says how many images it got, and takes at most ``most``."""

    def __init__(self, inner: nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most, self.seen = inner, most, list[int]()

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        self.seen.append(len(rgb))
        if len(rgb) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory, says the test")
        return tuple(self.inner(rgb))


def opened(model: tuple[Path, ModelCard], precision: str = "float32", batch: int = 1, most: int = 99) -> TorchNetwork:
    network = TorchNetwork(*model, "scores", Inference("torch", "cpu", precision), threads=1)
    network.batch_px = batch * SIDE_PX
    network._network = Watched(network._network, most)
    return network


def scored(network: TorchNetwork, model: tuple[Path, ModelCard], rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return predict_tiled(NetworkPredictor(network, model[1]), rgb, MARGIN, TILE)


@pytest.fixture(scope="module")
def one_by_one(model: tuple[Path, ModelCard], rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    network = opened(model)
    maps = scored(network, model, rgb)
    assert network._network.seen == [1] * 6
    assert maps[0].std() > 0.01  # else agreement would say nothing
    return maps


@pytest.mark.parametrize(
    ("batch", "most", "seen"),
    [
        (4, 99, [4, 1, 1]),
        (9, 99, [5, 1]),  # the narrow tile has another shape
        (4, 2, [4, 2, 2, 1, 1]),
        (4, 1, [4, 2, 1, 1, 2, 1, 1, 1, 1]),
    ],
)
def test_batches_change_no_bit(
    model: tuple[Path, ModelCard],
    rgb: NDArray[np.uint8],
    one_by_one: NDArray[np.float32],
    batch: int,
    most: int,
    seen: list[int],
) -> None:
    network = opened(model, batch=batch, most=most)
    np.testing.assert_array_equal(scored(network, model, rgb), one_by_one)
    assert network._network.seen == seen


def test_a_tile_that_does_not_fit_is_said(model: tuple[Path, ModelCard], rgb: NDArray[np.uint8]) -> None:
    with pytest.raises(BudgetError, match=r"does not hold a tile of 352 x 352 px.*smaller --tile-px"):
        scored(opened(model, batch=4, most=0), model, rgb)


@pytest.mark.parametrize(("precision", "short", "near"), [("float16", "f16", 0.01), ("bfloat16", "bf16", 0.08)])
def test_sixteen_bits_are_near(
    model: tuple[Path, ModelCard],
    rgb: NDArray[np.uint8],
    one_by_one: NDArray[np.float32],
    precision: str,
    short: str,
    near: float,
) -> None:
    network = opened(model, precision, batch=2)
    maps = scored(network, model, rgb)
    assert network.backend.endswith(f" cpu {short}")
    assert maps.dtype == np.float32
    assert 0 < np.abs(maps - one_by_one).max() < near


def test_images_are_not_gathered_ahead(model: tuple[Path, ModelCard], rgb: NDArray[np.uint8]) -> None:
    asked = list[int]()

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for number in range(6):
            asked.append(number)
            yield rgb[:64, :64]

    network = opened(model)
    network.batch_px = 2 * 64 * 64
    answers = NetworkPredictor(network, model[1]).predict_many(tiles())
    next(answers)
    assert len(asked) <= 3
    assert len(list(answers)) == 5

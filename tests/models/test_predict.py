"""Predictors agree with the network and with each other, and tiles leave no trace."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wsipsm.errors import ModelError
from wsipsm.keys import Stain
from wsipsm.models.card import ModelCard
from wsipsm.models.inference import choose_inference
from wsipsm.models.predict import Predictor, open_inner_predictor, open_predictor, predict_tiled
from wsipsm.models.smooth import smooth_image
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import save_model

MARGIN = 160
OUTPUTS = ("nucleus", "distance", "positive")


@dataclass(frozen=True)
class Model:
    network: NucleusUnet
    weights: Path
    card: ModelCard


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Random weights, with norms and head such that scores spread over 0..1 as a trained network's do."""
    torch.manual_seed(1)
    network = NucleusUnet(len(OUTPUTS))
    with torch.no_grad():
        network.train()
        for _ in range(20):
            network(torch.rand(2, 3, 96, 96) * 255)
        network.eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.2)
        logits = network(torch.rand(1, 3, 256, 256) * 255)
        gain = 3 / logits.std(dim=(0, 2, 3))
        network.head.weight *= gain[:, None, None, None]
        network.head.bias.copy_((network.head.bias - logits.mean(dim=(0, 2, 3))) * gain)
    weights = tmp_path_factory.mktemp("model") / "random.safetensors"
    card = ModelCard(name="random", stain=Stain.IHC, mpp=0.5, stride=16, reach_px=MARGIN, outputs=OUTPUTS, sha256="")
    return Model(network, weights, save_model(weights, network.state_dict(), card))


@pytest.fixture(scope="module")
def open_once(model: Model) -> Callable[[str, int], Predictor]:
    opened: dict[tuple[str, int], Predictor] = {}

    def open_one(backend: str, threads: int) -> Predictor:
        if backend == "openvino":
            pytest.importorskip("openvino")
        if (backend, threads) not in opened:
            opened[backend, threads] = open_predictor(model.weights, model.card, backend, threads)
        return opened[backend, threads]

    return open_one


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (512, 496, 3), dtype=np.uint8)


def scored_by_hand(network: NucleusUnet, rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Reference: the network in float64, no tiles, no layout tricks."""
    image = torch.from_numpy(rgb.astype(np.float64).transpose(2, 0, 1))[None]
    double = NucleusUnet(len(OUTPUTS)).double().eval()
    double.load_state_dict(network.state_dict())
    with torch.inference_mode():
        return torch.sigmoid(double(image))[0].numpy()


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_predictor_gives_the_networks_scores(
    open_once: Callable[[str, int], Predictor], model: Model, rgb: NDArray[np.uint8], backend: str
) -> None:
    predictor = open_once(backend, 1)
    image = rgb[:208, :256]
    maps = predictor.predict(image)
    assert maps.dtype == np.float32
    assert maps.shape == (3, 208, 256)
    assert maps.std(axis=(1, 2)).min() > 0.1  # else agreement would say nothing
    np.testing.assert_allclose(maps, scored_by_hand(model.network, image), atol=1e-4)
    assert predictor.backend.startswith(backend)
    assert predictor.backend.endswith("f32")


@pytest.mark.parametrize(("backend", "threads"), [("torch", 1), ("openvino", 1), ("openvino", 2)])
def test_tile_size_leaves_no_trace(
    open_once: Callable[[str, int], Predictor], rgb: NDArray[np.uint8], backend: str, threads: int
) -> None:
    predictor = open_once(backend, threads)
    by_tile = {tile: predict_tiled(predictor, rgb, MARGIN, tile) for tile in (64, 96, 512)}
    whole = predictor.predict(rgb)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    for tile, maps in by_tile.items():
        assert maps.shape == (3, 192, 176)
        difference = np.abs(maps - whole).max()
        assert difference < 1e-5, f"tile of {tile} px: {difference}"


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_inner_scores_are_those_of_the_whole(
    open_once: Callable[[str, int], Predictor], model: Model, rgb: NDArray[np.uint8], backend: str
) -> None:
    whole = open_once(backend, 1).predict(rgb)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    inner = open_inner_predictor(model.weights, model.card, choose_inference(backend, "cpu"), 1)
    assert inner.margin_px == MARGIN
    np.testing.assert_allclose(inner.predict(rgb), whole, rtol=0, atol=1e-5)
    for tile in (48, 512):
        np.testing.assert_allclose(predict_tiled(inner, rgb, MARGIN, tile), whole, rtol=0, atol=1e-5)
    wider = MARGIN + 16
    within = predict_tiled(inner, rgb, wider, 64)
    np.testing.assert_allclose(within, whole[:, 16:-16, 16:-16], rtol=0, atol=1e-5)


def test_a_margin_is_not_decoded(model: Model) -> None:
    network = NucleusUnet(len(OUTPUTS)).to("meta")
    image = torch.empty((1, 3, 1024, 1024), device="meta")
    n = {margin: n_multiplied(network, image, margin) for margin in (0, 32, MARGIN)}
    assert n[MARGIN] < 0.7 * n[0]
    assert n[MARGIN] < n[32] < n[0]
    assert network(image, MARGIN).shape == (1, len(OUTPUTS), 1024 - 2 * MARGIN, 1024 - 2 * MARGIN)


def n_multiplied(network: NucleusUnet, image: torch.Tensor, margin_px: int) -> int:
    with FlopCounterMode(display=False) as counter:
        network(image, margin_px)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("margin_px", [-16, 16, 40])
def test_margins_that_do_not_fit_the_network_are_refused(model: Model, margin_px: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16 of at least 32"):
        model.network(torch.zeros(1, 3, 256, 256), margin_px)


def test_threads_leave_no_trace(open_once: Callable[[str, int], Predictor], rgb: NDArray[np.uint8]) -> None:
    one, two = (predict_tiled(open_once("openvino", n), rgb, MARGIN, 128) for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system tells no thread's processors")
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_workers_are_not_bound_to_one_processor(
    open_once: Callable[[str, int], Predictor], rgb: NDArray[np.uint8], backend: str
) -> None:
    predictor = open_once(backend, 1)
    allowed = os.sched_getaffinity(0)
    if len(allowed) == 1:
        pytest.skip("this process has one processor")
    started, seen = threading.Event(), list[set[int]]()

    def predict() -> None:
        started.set()
        for _ in range(5):
            predictor.predict(rgb)

    thread = threading.Thread(target=predict)
    thread.start()
    started.wait()
    while thread.is_alive():
        with suppress(OSError):  # it ended meanwhile
            seen.append(os.sched_getaffinity(thread.native_id or 0))
        time.sleep(0.001)
    # Bound, the first processor serves all workers of a machine and the others idle.
    assert len(seen) > 20
    assert all(processors == allowed for processors in seen)


def test_backends_agree(open_once: Callable[[str, int], Predictor], rgb: NDArray[np.uint8]) -> None:
    ours, theirs = (predict_tiled(open_once(name, 1), rgb, MARGIN, 128) for name in ("openvino", "torch"))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (37, 100), (64, 64), (65, 63)])
def test_odd_sizes_are_cut_out_of_the_whole(
    open_once: Callable[[str, int], Predictor], rgb: NDArray[np.uint8], height: int, width: int
) -> None:
    predictor = open_once("torch", 1)
    whole = predictor.predict(rgb)
    part = predict_tiled(predictor, rgb[: height + 2 * MARGIN, : width + 2 * MARGIN], MARGIN, 64)
    expected = whole[:, MARGIN : MARGIN + height, MARGIN : MARGIN + width]
    np.testing.assert_allclose(part, expected, rtol=0, atol=1e-5)


def test_what_lies_beyond_the_reach_is_not_felt(
    open_once: Callable[[str, int], Predictor], rgb: NDArray[np.uint8]
) -> None:
    predictor = open_once("torch", 1)
    changed = rgb.copy()
    changed[:, :96] = 0
    before, after = predictor.predict(rgb), predictor.predict(changed)
    np.testing.assert_array_equal(before[..., 96 + MARGIN :], after[..., 96 + MARGIN :])
    assert not np.array_equal(before, after)


def test_torch_threads_are_put_back(open_once: Callable[[str, int], Predictor], rgb: NDArray[np.uint8]) -> None:
    before = torch.get_num_threads()
    open_once("torch", before + 1).predict(rgb[:64, :64])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("margin", "tile", "told"),
    [(144, 64, "at least 160"), (168, 64, "multiple of 16"), (160, 0, "positive multiple"), (160, 40, "of 16"),
     (256, 64, "nothing is left")],
)  # fmt: skip
def test_tiles_that_would_leave_traces_are_refused(
    open_once: Callable[[str, int], Predictor], rgb: NDArray[np.uint8], margin: int, tile: int, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        predict_tiled(open_once("torch", 1), rgb, margin, tile)


def test_images_of_other_shape_are_refused(open_once: Callable[[str, int], Predictor]) -> None:
    for image in (np.zeros((64, 60, 3), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8 with h and w multiples of 16"):
            open_once("torch", 1).predict(image)


def test_unknown_backend(model: Model) -> None:
    with pytest.raises(ModelError, match="'onnx': unknown; auto, openvino, torch"):
        open_predictor(model.weights, model.card, "onnx")


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_tiles_of_a_smoothed_input_leave_no_trace(model: Model, rgb: NDArray[np.uint8], backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    card = model.card.model_copy(update={"input_sigma_px": 3.0})
    predictor = open_predictor(model.weights, card, backend, 1)
    whole = predictor.predict(rgb)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    for tile in (64, 96):
        np.testing.assert_allclose(predict_tiled(predictor, rgb, MARGIN, tile), whole, rtol=0, atol=1e-5)
    plain = open_predictor(model.weights, model.card, backend, 1).predict(smooth_image(rgb, 3.0))
    np.testing.assert_array_equal(plain[:, MARGIN:-MARGIN, MARGIN:-MARGIN], whole)

"""Self-activation maps against Eq. 3 and 4 written out, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.psm.activation import activation_weights, fit_map_scale, self_activation_map, self_activation_maps
from wsipsm.psm.backbone import ActivationNetwork


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    return draw_array(seed=1, size=(320, 320), n_nuclei=40, stain=Stain.HE)[0]


@pytest.fixture(scope="module")
def network(tissue: NDArray[np.uint8]) -> ActivationNetwork:
    """Random weights with fitted norms, else feature maps of all stages look alike."""
    network = ActivationNetwork(embedding_size=3).train()
    with torch.no_grad():
        for _ in range(5):
            network(batch_of(tissue))
    return network.eval()


def batch_of(rgb: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()


def blocks_by_hand(network: ActivationNetwork, image: Tensor) -> tuple[list[Tensor], Tensor]:
    """First stage of ResNet-18, block by block, and z."""
    trunk = network.trunk
    y = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(image / 127.5 - 1))))
    first = trunk.layer1[0](y)
    second = trunk.layer1[1](first)
    y = trunk.layer4(trunk.layer3(trunk.layer2(second)))
    return [first, second], network.embed(y.mean(dim=(2, 3)))


def weights_by_hand(network: ActivationNetwork, patches: list[NDArray[np.uint8]]) -> list[NDArray[np.float64]]:
    totals = [np.zeros(64), np.zeros(64)]
    for patch in patches:
        maps, z = blocks_by_hand(network, batch_of(patch))
        for block in range(2):
            for component in z[0]:  # the gradient of each component of z, one by one
                (gradient,) = torch.autograd.grad(component, maps[block], retain_graph=True)
                for channel in range(64):
                    totals[block][channel] += gradient[0, channel].double().mean().item()
    return [total / np.linalg.norm(total) for total in totals]


def test_weights_are_equation_4(network: ActivationNetwork, tissue: NDArray[np.uint8]) -> None:
    patches = [tissue[:64, :64], tissue[64:160, 32:128]]
    for n in (1, 2):
        found = activation_weights(network, patches[:n])
        for left, right in zip(found, weights_by_hand(network, patches[:n]), strict=True):
            np.testing.assert_allclose(left.numpy(), right, atol=2e-5)
    assert not any(weight.requires_grad for weight in found)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_map_is_equation_3(network: ActivationNetwork, tissue: NDArray[np.uint8]) -> None:
    rgb = tissue[:96, :64]
    weights = activation_weights(network, [rgb])
    with torch.no_grad():
        maps, _ = blocks_by_hand(network, batch_of(np.pad(rgb, ((32, 32), (32, 32), (0, 0)), mode="reflect")))
        expected = np.zeros((160, 128))
        for block, weight in zip(maps, weights, strict=True):
            for channel in range(64):
                plane = functional.interpolate(block[:, channel : channel + 1], scale_factor=4, mode="bilinear")
                expected += weight[channel].item() * plane[0, 0].double().numpy()
    found = self_activation_map(network, weights, rgb)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[32:-32, 32:-32] / 2, atol=1e-4)


@pytest.mark.parametrize(("stage", "rim"), [(1, 32), (2, 64)])
def test_a_tile_has_the_map_of_the_image(
    network: ActivationNetwork, tissue: NDArray[np.uint8], stage: int, rim: int
) -> None:
    weights = activation_weights(network, [tissue[:128, :128]], stage)
    whole = self_activation_map(network, weights, tissue, stage)
    tile = self_activation_map(network, weights, tissue[64:256, 40:232], stage)
    inner = slice(rim, 192 - rim)
    assert whole.std() > 1e-3
    expected = whole[64:256, 40:232][inner, inner]
    np.testing.assert_allclose(tile[inner, inner], expected, atol=1e-4 * np.abs(whole).max())


def test_a_side_that_is_no_multiple_of_the_stride(network: ActivationNetwork, tissue: NDArray[np.uint8]) -> None:
    weights = activation_weights(network, [tissue[:101, :103]])
    whole = self_activation_map(network, weights, tissue[:128, :128])
    part = self_activation_map(network, weights, tissue[:101, :103])
    assert part.shape == (101, 103)
    np.testing.assert_allclose(part[:64, :64], whole[:64, :64], atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (2, 37), (19, 5)])
@pytest.mark.parametrize("stage", [1, 4])
def test_images_smaller_than_the_rim(
    network: ActivationNetwork, tissue: NDArray[np.uint8], shape: tuple[int, int], stage: int
) -> None:
    weights = activation_weights(network, [tissue[:64, :64]], stage)
    found = self_activation_map(network, weights, tissue[: shape[0], : shape[1]], stage)
    assert found.shape == shape
    assert np.isfinite(found).all()


def test_a_batch_gives_what_single_images_give(network: ActivationNetwork, tissue: NDArray[np.uint8]) -> None:
    images = [tissue[:64, :64], tissue[64:128, :64], tissue[:64, 128:192], tissue[:40, :72], tissue[:64, :64]]
    weights = activation_weights(network, images[:1])
    single = [self_activation_map(network, weights, image) for image in images]
    together = list(self_activation_maps(network, weights, images, batch=2))
    assert [plane.shape for plane in together] == [image.shape[:2] for image in images]
    for left, right in zip(single, together, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5 * np.abs(left).max())


def test_flat_maps_have_a_scale() -> None:
    flat = np.full((20, 20), 3.0, np.float32)
    scaled = fit_map_scale([flat], [flat]).apply(flat)
    assert np.isfinite(scaled).all()
    assert scaled.max() <= 1


def test_scale_is_one_for_the_set() -> None:
    rng = np.random.default_rng(0)
    dim, bright = rng.random((2, 70, 70)).astype(np.float32) * np.array([[[0.2]], [[1.0]]], np.float32)
    scale = fit_map_scale([dim, bright], [dim, bright])
    assert scale.apply(dim).max() < 0.3 < 0.9 < scale.apply(bright).max()


def test_rectified_blocks_are_equation_3() -> None:
    """ReLU of each block's weighted sum, then the mean over blocks: against explicit loops."""
    rgb = np.random.default_rng(3).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    network = ActivationNetwork(seed=1).eval()
    weights = activation_weights(network, [rgb])
    for sign in (1.0, -1.0):
        found = self_activation_map(network, weights, rgb, rectified_sign=sign)
        assert found.min() >= 0
        padded = np.pad(rgb, ((32, 32), (32, 32), (0, 0)), mode="reflect")
        batch = torch.from_numpy(padded).permute(2, 0, 1)[None].float()
        expected = np.zeros((128, 128), np.float64)
        with torch.no_grad():
            for maps, weight in zip(network.features(batch, 1), weights, strict=True):
                total = sum(float(w) * m for w, m in zip(weight, maps[0], strict=True))
                block = torch.relu(sign * torch.as_tensor(total))[None, None]
                grown = torch.nn.functional.interpolate(block, size=(128, 128), mode="bilinear", align_corners=False)
                expected += grown[0, 0].numpy() / len(weights)
        np.testing.assert_allclose(found, expected[32:96, 32:96], atol=1e-4)

"""The activation network: stages of any CNN, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wsipsm.errors import UsageError
from wsipsm.psm.backbone import PAPER_NETWORK, SMALL_NETWORK, ActivationNetwork

N_BLOCKS = {SMALL_NETWORK: [2, 2, 2, 2], PAPER_NETWORK: [3, 4, 23, 3]}


@pytest.fixture(scope="module")
def small() -> ActivationNetwork:
    return ActivationNetwork().eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(3)).float()


@pytest.mark.parametrize("name", [SMALL_NETWORK, PAPER_NETWORK])
def test_stopping_early_changes_nothing(name: str, image: Tensor) -> None:
    if name == PAPER_NETWORK:
        pytest.importorskip("timm")
    network = ActivationNetwork(name).eval()
    with torch.inference_mode():
        for stage in (1, 2, 3, 4):
            alone = network.features(image, stage)
            whole, embedding = network(image, stage)
            assert len(alone) == len(whole) == N_BLOCKS[name][stage - 1]
            for left, right in zip(alone, whole, strict=True):
                stride = 2 ** (stage + 1)
                assert left.shape[2:] == (64 // stride, 96 // stride)
                assert torch.equal(left, right)
            assert embedding.shape == (2, 128)


def test_nothing_behind_the_stage_runs_and_no_hook_stays(small: ActivationNetwork, image: Tensor) -> None:
    ran: list[str] = []
    hooks = [
        small.trunk.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
        for name in ("layer1", "layer2.0", "layer2.1", "layer3", "layer4")
    ]
    try:
        small.features(image, 2)
    finally:
        for hook in hooks:
            hook.remove()
    # The last block raises from its own hook, which runs before later ones of the same block.
    assert set(ran) <= {"layer1", "layer2.0", "layer2.1"}
    assert not any(module._forward_hooks for module in small.modules())


def test_an_error_in_the_network_leaves_no_hook(small: ActivationNetwork) -> None:
    with pytest.raises(RuntimeError):
        small.features(torch.zeros(1, 5, 64, 64), 1)
    assert not any(module._forward_hooks for module in small.modules())


def test_weights_are_seeded_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (ActivationNetwork(seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embed.weight"], other["embed.weight"])


@pytest.mark.parametrize("stage", [0, 5])
def test_a_stage_that_is_none(small: ActivationNetwork, image: Tensor, stage: int) -> None:
    with pytest.raises(UsageError, match=f"stage {stage}: there is none; 1 to 4"):
        small.features(image, stage)


@pytest.mark.parametrize("name", ["torchvision:resnet", "torchvision:resnet19", "torchvision:vgg11", "torchvision:"])
def test_a_name_that_torchvision_does_not_have(name: str) -> None:
    with pytest.raises(UsageError, match="unknown; torchvision:resnet18 to resnet152"):
        ActivationNetwork(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet9000", "resnet9000.*CNN in timm is needed"),
        ("hf-hub:somebody/model", "names a place"),
        ("vit_tiny_patch16_224", r"has stages at strides \[16\]; a CNN with \[4, 8, 16, 32\]"),
    ],
)
def test_a_name_that_is_no_cnn_of_timm(name: str, told: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=told):
        ActivationNetwork(name)


def test_a_stage_with_a_downsampling_step_gives_its_blocks(image: Tensor) -> None:
    pytest.importorskip("timm")
    network = ActivationNetwork("convnext_atto").eval()
    with torch.inference_mode():
        assert [maps.shape[2] for maps in network.features(image, 2)] == [8, 8]

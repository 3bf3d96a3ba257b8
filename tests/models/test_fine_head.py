"""The fine head tells the four pixels under each of its own apart, and starts as nothing beside the plain one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wsipsm.errors import ModelError
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, ModelCard
from wsipsm.models.predict import open_predictor
from wsipsm.models.unet import NucleusUnet, refine_head
from wsipsm.models.weights import build_network, measure_reach, save_model

N_OUTPUTS = 3
CARD = ModelCard(
    name="fine",
    architecture="nucleus-unet-fine",
    stain=Stain.IHC,
    mpp=0.5,
    stride=16,
    reach_px=160,
    outputs=OUTPUTS[Stain.IHC],
    sha256="",
)


@pytest.fixture(scope="module")
def plain() -> NucleusUnet:
    torch.manual_seed(5)
    return NucleusUnet(N_OUTPUTS).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def fine() -> NucleusUnet:
    """Its second head says something else of each of the four pixels."""
    torch.manual_seed(6)
    return NucleusUnet(N_OUTPUTS, fine=True).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(7)) * 255


def test_it_starts_as_the_plain_network(plain: NucleusUnet, image: Tensor) -> None:
    refined = refine_head(plain)
    assert torch.equal(refined(image), plain(image))
    assert not refined.training
    assert refined.detail is not None


def test_a_fine_network_stays_as_it_is(fine: NucleusUnet, image: Tensor) -> None:
    assert torch.equal(refine_head(fine)(image), fine(image))


def test_each_pixel_is_given_a_value_of_its_own(fine: NucleusUnet, image: Tensor) -> None:
    assert fine.detail is not None
    said: list[Tensor] = []
    hook = fine.detail.register_forward_hook(lambda *told: said.append(told[-1]))
    logits = fine(image)
    hook.remove()
    without = NucleusUnet(N_OUTPUTS).eval()
    without.load_state_dict({name: value for name, value in fine.state_dict().items() if "detail" not in name})
    added = logits - without(image)
    assert logits.shape == (1, N_OUTPUTS, *image.shape[2:])
    for output, row, column in np.ndindex(N_OUTPUTS, 2, 2):
        wanted = said[0][0, 4 * output + 2 * row + column]
        torch.testing.assert_close(added[0, output, row::2, column::2], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_it_is_written_read_and_run(fine: NucleusUnet, image: Tensor, tmp_path: Path, backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    weights = tmp_path / "fine.safetensors"
    card = save_model(weights, fine.state_dict(), CARD)
    assert torch.equal(build_network(card, weights)(image), fine(image))
    rgb = image[0].permute(1, 2, 0).round().to(torch.uint8)
    wanted = torch.sigmoid(fine(rgb.permute(2, 0, 1)[None].float()))[0]
    found = open_predictor(weights, card, backend).predict(rgb.numpy())
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


def test_a_card_of_the_other_head_is_refused(fine: NucleusUnet, plain: NucleusUnet, tmp_path: Path) -> None:
    weights = tmp_path / "fine.safetensors"
    with pytest.raises(ModelError, match=r"weights of nucleus-unet with outputs .* are needed"):
        save_model(weights, fine.state_dict(), CARD.model_copy(update={"architecture": "nucleus-unet"}))
    with pytest.raises(ModelError, match=r"weights of nucleus-unet-fine with outputs .* are needed"):
        save_model(weights, plain.state_dict(), CARD)
    assert list(tmp_path.iterdir()) == []


def test_it_reaches_no_farther(fine: NucleusUnet, plain: NucleusUnet) -> None:
    assert measure_reach(fine) <= measure_reach(plain)

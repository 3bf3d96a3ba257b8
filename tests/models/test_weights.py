"""Weights on disk: what is written is read back; what cannot be used is refused with the reason."""

from __future__ import annotations

import copy
import hashlib
import pickle
from pathlib import Path

import orjson
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from wsipsm.errors import ModelError
from wsipsm.keys import Stain
from wsipsm.models import registry
from wsipsm.models.card import ModelCard
from wsipsm.models.registry import read_card, resolve_model
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import build_network, load_weights, measure_reach, save_model

OUTPUTS = ("nucleus", "distance")


def card_of(outputs: tuple[str, ...] = OUTPUTS, **changes: object) -> ModelCard:
    card = ModelCard(name="own", stain=Stain.HE, mpp=0.5, stride=16, reach_px=160, outputs=outputs, sha256="")
    return card.model_copy(update=changes)


def write_raw(path: Path, state: dict[str, Tensor], card: ModelCard | None = None) -> ModelCard:
    """Write any state with a card whose checksum agrees."""
    content = safetensors.torch.save(state)
    path.write_bytes(content)
    return (card or card_of()).model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})


@pytest.fixture(scope="module")
def network() -> NucleusUnet:
    torch.manual_seed(3)
    return NucleusUnet(len(OUTPUTS)).eval()


@pytest.fixture
def state(network: NucleusUnet) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.fixture
def saved(tmp_path: Path, network: NucleusUnet) -> tuple[Path, ModelCard]:
    path = tmp_path / "own.safetensors"
    return path, save_model(path, network.state_dict(), card_of())


def test_saved_model_comes_back_the_same(saved: tuple[Path, ModelCard], network: NucleusUnet) -> None:
    path, card = saved
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert resolve_model(path) == resolve_model(str(path)) == (path, card)
    loaded = build_network(card, path)
    assert not loaded.training
    image = torch.rand(1, 3, 64, 48) * 255
    assert torch.equal(loaded(image), network(image))
    assert sorted(file.name for file in path.parent.iterdir()) == ["own.json", "own.safetensors"]


def test_saving_twice_gives_the_same_bytes(saved: tuple[Path, ModelCard], network: NucleusUnet) -> None:
    path, card = saved
    before = path.read_bytes()
    assert save_model(path, network.state_dict(), card) == card
    assert path.read_bytes() == before


def test_a_state_that_does_not_fit_is_not_written(tmp_path: Path, network: NucleusUnet) -> None:
    path = tmp_path / "own.safetensors"
    with pytest.raises(ModelError, match="another architecture"):
        save_model(path, network.state_dict(), card_of((*OUTPUTS, "positive")))
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told_with_both_digests(saved: tuple[Path, ModelCard]) -> None:
    path, card = saved
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    for refuse in (lambda: load_weights(path, card), lambda: resolve_model(path)):
        with pytest.raises(ModelError) as caught:
            refuse()
        assert found in str(caught.value)
        assert card.sha256 in str(caught.value)


def test_other_architecture_names_what_differs(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "own.safetensors"
    state["head.weight"] = torch.zeros(5, 24, 1, 1)
    del state["head.bias"]
    state["tail.bias"] = torch.zeros(2)
    state["encoder.stem.conv.weight"] = state["encoder.stem.conv.weight"].half()
    card = write_raw(path, state)
    with pytest.raises(ModelError, match="made for another architecture") as caught:
        load_weights(path, card)
    assert "head.bias is missing" in str(caught.value)
    assert "tail.bias is unknown" in str(caught.value)
    assert "and 1 more differ" in str(caught.value)


def test_other_number_of_outputs_names_both_shapes(saved: tuple[Path, ModelCard]) -> None:
    path, card = saved
    with pytest.raises(ModelError, match=r"head.weight is float32\(2, 24, 1, 1\) and not float32\(3, 24, 1, 1\)"):
        load_weights(path, card.model_copy(update={"outputs": (*OUTPUTS, "positive")}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_must_be_finite(tmp_path: Path, state: dict[str, Tensor], value: float) -> None:
    path = tmp_path / "own.safetensors"
    state["head.bias"][1] = value
    card = write_raw(path, state)
    with pytest.raises(ModelError, match=r"not finite \(first head.bias\)"):
        load_weights(path, card)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, (1 << 40).to_bytes(8, "little") + b"{}", b"\x02" + b"\0" * 7 + b"{}"]
)
def test_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(content)
    card = card_of(sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ModelError, match=r"own.safetensors"):
        load_weights(path, card)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl"])
def test_pickles_are_never_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"own{suffix}"
    marker = tmp_path / "was-run"
    path.write_bytes(pickle.dumps(_RunsWhenLoaded(marker)))
    for refuse in (
        lambda: load_weights(path, card_of()),
        lambda: resolve_model(path),
        lambda: save_model(path, {}, card_of()),
    ):
        with pytest.raises(ModelError, match=r"\.safetensors file .* is needed"):
            refuse()
    assert not marker.exists()


class _RunsWhenLoaded:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (self.marker,)  # type: ignore[return-value]


def test_a_stride_that_the_network_does_not_have(saved: tuple[Path, ModelCard]) -> None:
    path, card = saved
    with pytest.raises(ModelError, match="stride is 8; a multiple of 16"):
        load_weights(path, card.model_copy(update={"stride": 8}))


def test_too_large_a_file_is_not_read(saved: tuple[Path, ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    path, card = saved
    monkeypatch.setattr(registry, "MAX_WEIGHTS_BYTES", 1000)
    with pytest.raises(ModelError, match="are read"):
        load_weights(path, card)


def test_card_is_readable_json_with_every_field(saved: tuple[Path, ModelCard]) -> None:
    path, card = saved
    stored = orjson.loads(path.with_suffix(".json").read_bytes())
    assert stored == card.model_dump(mode="json")
    assert read_card(path.with_suffix(".json")) == card


def test_reach_bounds_what_a_pixel_changes(network: NucleusUnet) -> None:
    """Independent check: change one pixel of random images, with random weights, and see how far that is felt.

    In double precision: far from the pixel the change is so small that float32 rounds it away on some CPUs.
    """
    reach = measure_reach(network)
    assert reach % 16 == 0
    precise = copy.deepcopy(network).double()
    generator = torch.Generator().manual_seed(0)
    farthest = 0
    for x in (256, 261, 266, 271):
        image = torch.rand(1, 3, 16, 512, generator=generator, dtype=torch.float64) * 255
        changed = image.clone()
        changed[..., x] = 255 - changed[..., x]
        with torch.inference_mode():
            felt = (precise(image) != precise(changed))[0].any(dim=0).any(dim=0).nonzero()
        farthest = max(farthest, int((felt - x).abs().max()))
    assert reach - 48 < farthest <= reach


@pytest.mark.parametrize("name", [card.name for card in registry.list_models()])
def test_shipped_models_are_small_and_fast(name: str) -> None:
    weights, card = resolve_model(name)
    assert weights.stat().st_size < 12e6
    network = build_network(card, weights)
    side = 256
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, side, side))
    multiplications_per_px = counter.get_total_flops() / 2 / side**2
    assert 1_000 < multiplications_per_px <= 20_000

"""What is told of a new model beside its start: nothing of one that is the same, a warning of one that is spoiled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.models.card import OUTPUTS, DecodeSettings, ModelCard
from wsipsm.models.registry import resolve_model
from wsipsm.models.unet import NucleusUnet
from wsipsm.models.weights import build_network
from wsipsm.stain import fit_stain_profile
from wsipsm.training.compare import Comparison, compare_models, hold_back
from wsipsm.training.pseudo_labels import StainedImage
from wsipsm.training.sources import SourceImage

SAME = Comparison("old", 2, True, 100, 100, 90, 40.0, 40.0, 0.9, 0.9)


class _Darker(NucleusUnet):
    """Finds what is darker than a grey level, so that what it finds is known."""

    def __init__(self, level: int) -> None:
        super().__init__(2)
        self.level = level

    def forward(self, rgb: Tensor) -> Tensor:
        nucleus = (self.level - rgb[:, 0]) / 4
        return torch.stack([nucleus, nucleus - 1], dim=1)


def card(name: str, mpp: float = 0.25) -> ModelCard:
    decode = DecodeSettings(max_area_um2=2000.0)
    return ModelCard(
        name=name, stain=Stain.HE, mpp=mpp, stride=16, reach_px=160, outputs=OUTPUTS[Stain.HE], decode=decode, sha256=""
    )


@pytest.fixture(scope="module")
def discs() -> NDArray[np.uint8]:
    """Four dark discs of radius 12, and two pale ones."""
    rgb = np.full((160, 240, 3), 240, np.uint8)
    rows, columns = np.indices(rgb.shape[:2])
    for k in range(6):
        away = np.hypot(columns - (40 + 80 * (k % 3)), rows - (40 + 80 * (k // 3)))
        rgb[away < 12] = 60 if k < 4 else 150
    return rgb


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_nuclei_are_counted_measured_and_matched(discs: NDArray[np.uint8], mpp: float) -> None:
    found = compare_models((_Darker(100), card("old")), (_Darker(200), card("new", mpp)), [discs, discs], True)
    assert (found.n_start, found.n_new, found.n_matched) == (8, 12, 8)
    assert found.area_start_um2 == pytest.approx(np.pi * 9, rel=0.1)
    assert found.area_new_um2 == pytest.approx(np.pi * 9, rel=0.25 if mpp > 0.25 else 0.1)
    assert found.found_again == (1.0, 8 / 12)
    assert found.recurrence_start == found.recurrence_new == 1.0
    assert found.doubts() == []
    assert found.lines()[0] == "Compared with old, without labels, on 2 images kept from training:"
    assert all(ModelCard.model_validate(card("x").model_dump() | {"training": found.record()}).training)


def test_where_nothing_is_found(discs: NDArray[np.uint8]) -> None:
    nothing, all_of_it = (_Darker(-100), card("nothing")), (_Darker(200), card("all"))
    assert compare_models(all_of_it, nothing, [discs], True).doubts() == ["it finds no nucleus"]
    only_now = compare_models(nothing, all_of_it, [discs], False)
    assert only_now.doubts() == ["it finds 6 nuclei where nothing finds 0"]
    assert "TRAINED ON" in only_now.lines()[0]
    assert all(np.isfinite(value) for value in only_now.record().values() if isinstance(value, float))


def test_an_unchanged_model_is_not_warned_of_and_a_random_one_is() -> None:
    rgb, _ = draw_array(seed=11, size=(320, 320), n_nuclei=60, stain=Stain.HE)
    weights, shipped = resolve_model("nuclei-he")
    network = build_network(shipped, weights)
    same = compare_models((network, shipped), (network, shipped), [rgb], True)
    assert same.n_new > 10
    assert same.n_matched == same.n_start == same.n_new
    assert same.doubts() == []
    assert not same.lines()[-1].startswith("WARNING")
    torch.manual_seed(0)
    spoiled = compare_models((network, shipped), (NucleusUnet(2).eval(), shipped), [rgb], True)
    assert spoiled.doubts()
    assert spoiled.lines()[-1].startswith("WARNING: it finds ")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n_new": 160}, "160 nuclei where old finds 100"),
        ({"n_new": 60, "n_matched": 60}, "60 nuclei where old finds 100"),
        ({"area_new_um2": 51.0}, "1.27 times as large"),
        ({"area_new_um2": 31.0}, "0.78 times as large"),
        ({"n_matched": 40}, "only 40% of the nuclei are the same"),
        ({"recurrence_new": 0.8}, "80% of its nuclei are found again"),
        ({"n_new": 0, "n_matched": 0, "area_new_um2": 0.0, "recurrence_new": 0.0}, "it finds no nucleus"),
    ],
)
def test_each_doubt_is_told_alone_in_the_last_line(changes: dict[str, float], told: str) -> None:
    found = replace(SAME, **changes)  # type: ignore[arg-type]
    (doubt,) = found.doubts()
    assert told in doubt
    assert told in found.lines()[-1]
    assert "chosen, not fitted" in found.lines()[-1]
    assert found.record()["compared_doubts"] == doubt


@pytest.mark.parametrize(("n_images", "told"), [(1, "1 image is few"), (4, "4 images are few"), (5, None)])
def test_few_images_are_said_to_be_few(n_images: int, told: str | None) -> None:
    last = replace(SAME, n_images=n_images).lines()[-1]
    assert last.startswith(told) if told else "few" not in last


def test_what_differs_a_little_is_no_doubt() -> None:
    little = replace(SAME, n_new=140, area_new_um2=33.0, n_matched=75, recurrence_new=0.86)
    assert little.doubts() == []


def images(*n_of_each: int) -> list[SourceImage]:
    rgb = np.full((40, 40, 3), 200, np.uint8)
    image = StainedImage(rgb, fit_stain_profile(rgb.reshape(-1, 3), Stain.HE, 0))
    return [SourceImage(image, Path(f"{k}.svs"), "x", "y") for k, n in enumerate(n_of_each) for _ in range(n)]


@pytest.mark.parametrize(
    ("n_of_each", "every", "held"),
    [
        ((1,) * 5, 5, [4]),
        ((1,) * 12, 5, [4, 9]),
        ((2,) * 5, 5, [8, 9]),  # a file as a whole
        ((8, 8), 5, [4, 9, 14]),  # of few files, patches
        ((1,) * 4, 5, []),
        ((1,) * 12, 0, []),
    ],
)
def test_every_nth_file_is_held_back(n_of_each: tuple[int, ...], every: int, held: list[int]) -> None:
    given = images(*n_of_each)
    split = hold_back(given, every)
    assert [k for k, one in enumerate(given) if any(one is other for other in split.held_back)] == held
    assert len(split.trained) + len(split.held_back) == len(given)
    assert not any(one is other for one in split.trained for other in split.held_back)
    assert len(split.compared) == (len(held) or min(len(given), len(split.compared)))
    assert ("too few" in split.note) == (not held and every > 0)

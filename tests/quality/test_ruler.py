"""The ruler reads octaves off what a network's maps are like, and is tied to the network's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.models.describe import open_describer
from wsipsm.models.registry import resolve_model
from wsipsm.quality.picture_size import RULED_MODEL
from wsipsm.quality.ruler import Ruler, read_ruler, show_nuclei


def test_the_ruler_is_fitted_for_the_shipped_weights() -> None:
    weights, card = resolve_model(RULED_MODEL)
    described = open_describer(weights, card).describe(np.zeros((32, 32, 3), np.uint8))
    ruler = read_ruler()
    assert ruler.sha256 == card.sha256
    assert ruler.mean.shape == ruler.spread.shape == ruler.slopes.shape == (described.size,)
    assert (ruler.spread > 0).all()


def test_octaves_are_the_slopes_of_what_is_standardised() -> None:
    ruler = Ruler("", np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([0.5, -1.0]), 0.25)
    described = np.array([[[1.0, 2.0]], [[3.0, 2.0]], [[1.0, 3.0]]])
    assert ruler.octaves(described).tolist() == [0.25, 0.75, -0.75]


def test_a_channel_far_off_does_not_decide_alone() -> None:
    ruler = Ruler("", np.zeros(2), np.ones(2), np.array([0.1, 0.0]), 0.0)
    assert ruler.octaves(np.array([[[1e6, 0.0]]])) == pytest.approx(0.6)


def test_a_ruler_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ruler = Ruler("ab", rng.normal(size=9), rng.uniform(1, 2, 9), rng.normal(size=9), 0.123)
    (tmp_path / "ruler.json").write_bytes(ruler.to_json())
    again = read_ruler(tmp_path / "ruler.json")
    described = rng.normal(size=(4, 3, 3))
    assert again.sha256 == "ab"
    assert again.octaves(described) == pytest.approx(ruler.octaves(described), abs=1e-3)


def test_eosin_is_hardly_shown_and_both_nuclei_are() -> None:
    blue, brown, pink, glass = (88, 98, 156), (110, 74, 50), (230, 150, 190), (243, 242, 239)
    rgb = np.repeat(np.array([[blue, brown, pink, glass]], np.uint8), 4, axis=0).repeat(8, axis=1)
    shown = show_nuclei(rgb).astype(int)[0, ::8]
    assert shown[0].max() < 130
    assert shown[1].max() < 170
    assert shown[2].min() > 200
    assert shown[3].min() > 220


@pytest.mark.parametrize("gain", [0.4, 0.7, 1.5])
def test_strength_of_a_stain_is_evened_out(gain: float) -> None:
    rgb, _ = draw_array(seed=1, size=(128, 128), n_nuclei=10, stain=Stain.HE)
    paler = (255 * (np.maximum(rgb, 1) / 255.0) ** gain).round().astype(np.uint8)
    difference = show_nuclei(paler).astype(int) - show_nuclei(rgb).astype(int)
    assert np.abs(difference).mean() < 3


def test_a_blank_patch_stays_pale() -> None:
    noise = np.random.default_rng(0).integers(-3, 4, (64, 64, 3))
    assert show_nuclei((240 + noise).astype(np.uint8)).min() > 170

"""Decoding by shortcuts gives the labels of decoding without any, pixel for pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plain_decode import decode_plainly
from scipy import ndimage

from wsipsm.instances.decode import decode
from wsipsm.models.card import DecodeSettings

WAYS = (
    DecodeSettings(),
    DecodeSettings(opening_share=0.18, min_distance=0.3),
    DecodeSettings(opening_share=0.3, foreground=0.4, saddle_share=0.6, peak_radius_px=3, min_area_um2=2.0),
    DecodeSettings(foreground=0.3, saddle_share=0.95, max_area_um2=40.0, min_mean_probability=0.6),
)


def random_maps(seed: int, grain: float, height: int, width: int) -> NDArray[np.float32]:
    """Blobs of a size, with holes, bridges and plateaus of saturated scores."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), grain)
    noise /= noise.std()
    nucleus = 1 / (1 + np.exp(-4 * (noise - 0.2)))
    nucleus[rng.random((height, width)) < 0.01] = 0
    distance = np.clip(noise / 2.2 + 0.1 * ndimage.gaussian_filter(rng.normal(size=(height, width)), 1), 0, 1)
    return np.stack([nucleus, distance]).astype(np.float32)


@pytest.mark.parametrize("way", WAYS, ids=range(len(WAYS)))
@given(
    seed=st.integers(0, 2**32 - 1),
    grain=st.floats(1.0, 7.0),
    height=st.integers(20, 160),
    width=st.integers(20, 160),
)
@settings(max_examples=25, deadline=None)
def test_labels_are_the_same(way: DecodeSettings, seed: int, grain: float, height: int, width: int) -> None:
    maps = random_maps(seed, grain, height, width)
    found, expected = decode(maps, ("nucleus", "distance"), way, 0.5), decode_plainly(maps, way, 0.5)
    assert np.array_equal(found.labels, expected.labels)
    assert found.labels.dtype == np.int32
    assert np.array_equal(found.too_large_xy_px, expected.too_large_xy_px)

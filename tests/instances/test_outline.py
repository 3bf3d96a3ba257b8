"""Opening of outlines: burrs and tails go, nuclei stay, and where the array was cut does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import disk

from wsipsm.instances.outline import open_outlines


def ellipse(height: int, width: int, row: float, column: float, a: float, b: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(((rows - row) / a) ** 2 + ((columns - column) / b) ** 2 <= 1)


def test_a_tail_goes_and_the_nucleus_stays() -> None:
    nucleus = ellipse(60, 80, 30, 30, 12, 16)
    labels = nucleus.astype(np.int32)
    labels[29:32, 46:75] = 1
    open_outlines(labels, 0.18)
    assert labels[:, 50:].max() == 0
    assert np.mean(labels[nucleus]) > 0.97


def test_of_two_parts_on_a_bridge_the_larger_stays() -> None:
    labels = (ellipse(60, 90, 30, 22, 14, 14) | ellipse(60, 90, 30, 65, 9, 9)).astype(np.int32)
    labels[29:31, 30:60] = 1
    open_outlines(labels, 0.18)
    assert labels[30, 22] == 1
    assert labels[30, 65] == 0


def test_what_is_thin_all_over_is_left() -> None:
    labels = np.zeros((20, 90), np.int32)
    labels[10:12, 5:85] = 3
    before = labels.copy()
    open_outlines(labels, 0.18)
    assert np.array_equal(labels, before)


@given(st.integers(0, 2**31 - 1), st.floats(0.05, 0.4))
@settings(max_examples=40, deadline=None)
def test_labels_only_lose_pixels_and_stay_in_one_part(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(90, 90)), 3)
    before = ndimage.label(noise > 0.02)[0].astype(np.int32)
    labels = before.copy()
    open_outlines(labels, share)
    assert np.all((labels == before) | (labels == 0))
    assert set(np.unique(labels)) == set(np.unique(before))
    for label in np.unique(labels)[1:]:
        assert ndimage.label(labels == label)[1] == 1


@given(st.integers(0, 2**31 - 1), st.integers(0, 15), st.integers(0, 15))
@settings(max_examples=40, deadline=None)
def test_a_whole_label_comes_out_the_same_wherever_the_array_was_cut(seed: int, down: int, right: int) -> None:
    rng = np.random.default_rng(seed)
    whole = np.zeros((80, 80), np.int32)
    whole[16:64, 16:64] = ndimage.label(ndimage.gaussian_filter(rng.normal(size=(48, 48)), 3) > 0)[0]
    cut = whole[down:, right:].copy()
    open_outlines(whole, 0.18)
    open_outlines(cut, 0.18)
    assert np.array_equal(whole[down:, right:], cut)


@pytest.mark.parametrize("radius", [1, 2, 4, 7])
def test_a_disc_survives_its_own_opening(radius: int) -> None:
    # An independent disc, of scikit-image, is wide enough for one of OpenCV of half its radius.
    labels = np.pad(disk(2 * radius), 3).astype(np.int32)
    before = np.count_nonzero(labels)
    open_outlines(labels, radius / np.sqrt(before))
    assert np.count_nonzero(labels) > 0.95 * before


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize(("width", "stays"), [(6, False), (7, True)])
def test_a_tail_narrower_than_the_disc_goes_whichever_way_it_points(turns: int, width: int, stays: bool) -> None:
    """The disc has a radius of 3 pixels here, so that it is 7 wide."""
    labels = ellipse(90, 90, 45, 30, 16, 16).astype(np.int32)
    labels[42 : 42 + width, 30:85] = 1
    labels = np.rot90(labels, turns).copy()
    open_outlines(labels, 3 / np.sqrt(np.count_nonzero(labels)))
    tail = np.rot90(labels, -turns)[42 : 42 + width, 50:80]
    assert tail.all() if stays else not tail.any()

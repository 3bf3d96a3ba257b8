"""Pasted nuclei: their pixels, labels and looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.psm.pseudo_label import IGNORED
from wsipsm.training.paste import Canvas, Cutout, PasteOptions, cut_out, paste_nuclei, to_density, to_rgb

PALE, DARK = (230, 200, 220), (90, 60, 150)
PLAIN = PasteOptions(share=1.0, most=20, touching=0.5, vesicular=0.0, clumped=0.0, pale=0.0)


def draw(masks: list[NDArray[np.bool_]]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    rgb = np.full((*masks[0].shape, 3), PALE, np.uint8)
    instances = np.zeros(masks[0].shape, np.int32)
    for number, mask in enumerate(masks, start=1):
        rgb[mask], instances[mask] = DARK, number
    return rgb, instances


def disc(x: int, y: int, radius: float, side: int = 160, stretch: float = 1.0) -> NDArray[np.bool_]:
    rows, columns = np.indices((side, side))
    return np.hypot((columns - x) / stretch, rows - y) < radius


@pytest.fixture(scope="module")
def cutouts() -> tuple[Cutout, ...]:
    masks = [disc(20 + 30 * (k % 4), 20 + 30 * (k // 4), 9) for k in range(8)]
    rgb, instances = draw(masks)
    return cut_out(rgb, instances, np.where(instances > 0, 1, IGNORED).astype(np.uint8))


def empty(side: int = 160) -> Canvas:
    return Canvas(
        to_density(np.full((side, side, 3), PALE, np.uint8)),
        np.full((side, side), IGNORED, np.uint8),
        np.zeros((side, side), np.int32),
        np.full((side, side), IGNORED, np.uint8),
    )


def test_only_plain_whole_nuclei_are_cut_out() -> None:
    ring = disc(40, 40, 15) & ~disc(40, 40, 9)
    bent = disc(110, 40, 16) & ~disc(116, 40, 13)
    whole, long, at_border, tiny = disc(40, 110, 10), disc(110, 110, 8, stretch=2.0), disc(0, 80, 9), disc(80, 80, 3)
    rgb, instances = draw([ring, bent, whole, long, at_border, tiny])
    found = cut_out(rgb, instances, np.zeros(instances.shape, np.uint8))
    assert [int(c.mask.sum()) for c in found] == [int(whole.sum()), int(long.sum())]
    assert found[0].positive == 0
    inside = found[0].mask > 0
    np.testing.assert_allclose(to_rgb(found[0].od)[inside], np.tile(DARK, (inside.sum(), 1)), atol=1)
    np.testing.assert_allclose(to_rgb(found[0].od)[~inside], np.tile(PALE, ((~inside).sum(), 1)), atol=1)


@given(st.integers(0, 10_000), st.floats(0.5, 1.6))
@settings(max_examples=25, deadline=None)
def test_labels_lie_where_the_pixels_changed(cutouts: tuple[Cutout, ...], seed: int, scale: float) -> None:
    canvas = empty()
    before = canvas.od.copy()
    paste_nuclei(canvas, cutouts, scale, PLAIN, np.random.default_rng(seed))
    pasted = canvas.instances > 0
    assert (canvas.nucleus[pasted] == 1).all()
    assert (canvas.positive == np.where(pasted, 1, IGNORED)).all()
    assert set(np.unique(canvas.nucleus[~pasted])) <= {0, IGNORED}
    if not pasted.any():
        return
    changed = np.abs(canvas.od - before).max(axis=2)
    assert np.median(changed[pasted]) > 0.1
    far = canvas.nucleus == IGNORED  # farther than the rim of any nucleus
    assert changed[far].max(initial=0) < 0.1
    sizes = np.bincount(canvas.instances.ravel())[1:]
    assert sizes[sizes > 0].max() < 1.5 * np.pi * (9 * scale * np.exp(0.5 + 0.2)) ** 2


def test_nobody_is_hidden_and_many_touch(cutouts: tuple[Cutout, ...]) -> None:
    own = disc(80, 80, 14)
    touching = hidden = 0
    for seed in range(40):
        canvas = empty()
        canvas.instances[own], canvas.nucleus[own] = 1, 1
        paste_nuclei(canvas, cutouts, 1.0, PasteOptions(share=1.0, most=4, touching=1.0), np.random.default_rng(seed))
        left = canvas.instances == 1
        hidden += left.sum() < 0.4 * own.sum()
        others = canvas.instances > 1
        touching += bool((ndimage.binary_dilation(left) & others).any())
    assert hidden == 0
    assert touching > 15


def test_vesicular_nuclei_are_hollow_and_pale_ones_pale(cutouts: tuple[Cutout, ...]) -> None:
    def depth(options: PasteOptions, inner: bool) -> float:
        values = []
        for seed in range(30):
            canvas = empty()
            paste_nuclei(canvas, cutouts, 1.5, options, np.random.default_rng(seed))
            distance = ndimage.distance_transform_edt(canvas.instances > 0)
            values.append(canvas.od[..., 0][distance > 6 if inner else (distance > 1) & (distance < 2)])
        return float(np.median(np.concatenate(values)))

    once = {"share": 1.0, "most": 1, "touching": 0.0}
    plain, hollow, pale = (
        PasteOptions(**once, vesicular=vesicular, clumped=0.0, pale=pale)
        for vesicular, pale in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    )
    assert depth(hollow, inner=True) < 0.7 * depth(hollow, inner=False)
    assert depth(plain, inner=True) > 0.95 * depth(plain, inner=False)
    assert depth(pale, inner=True) < 0.8 * depth(plain, inner=True)


def with_one(cutouts: tuple[Cutout, ...], clumped: float, scale: float, seed: int) -> Canvas:
    canvas = empty()
    options = PasteOptions(share=1.0, most=1, touching=0.0, vesicular=0.0, clumped=clumped, pale=0.0)
    paste_nuclei(canvas, cutouts, scale, options, np.random.default_rng(seed))
    return canvas


def test_clumped_nuclei_are_light_and_dark_within(cutouts: tuple[Cutout, ...]) -> None:
    def spread(clumped: float) -> float:
        values = []
        for seed in range(20):
            canvas = with_one(cutouts, clumped, 1.5, seed)
            inner = ndimage.distance_transform_edt(canvas.instances > 0) > 3
            if inner.any():
                values.append(float(canvas.od[..., 0][inner].std()))
        return float(np.median(values))

    assert spread(1.0) > 5 * spread(0.0)


def test_open_nuclei_are_larger(cutouts: tuple[Cutout, ...]) -> None:
    def area(clumped: float) -> float:
        areas = []
        for seed in range(30):
            areas.append(np.count_nonzero(with_one(cutouts, clumped, 1.0, seed).instances))
        return float(np.median([a for a in areas if a]))

    assert area(1.0) > 1.3 * area(0.0)


def test_seeded_and_left_alone_without_enough_cutouts(cutouts: tuple[Cutout, ...]) -> None:
    first, second, few = empty(), empty(), empty()
    paste_nuclei(first, cutouts, 1.0, PLAIN, np.random.default_rng(1))
    paste_nuclei(second, cutouts, 1.0, PLAIN, np.random.default_rng(1))
    paste_nuclei(few, cutouts[:4], 1.0, PLAIN, np.random.default_rng(1))
    assert np.array_equal(first.od, second.od)
    assert first.instances.any()
    assert not few.instances.any()


@given(st.lists(st.integers(1, 255), min_size=3, max_size=3))
def test_colours_survive_to_density(colour: list[int]) -> None:
    rgb = np.array([[colour]], np.uint8)
    assert np.array_equal(to_rgb(to_density(rgb)), rgb)

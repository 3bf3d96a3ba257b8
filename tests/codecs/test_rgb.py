"""Pixels of other layouts, turned into RGB: beside Pillow's conversion and Porter and Duff's equation."""

from __future__ import annotations

import numpy as np
from PIL import Image

from wsipsm.codecs.rgb import compose_over_white, compose_premultiplied_over_white, ycbcr_to_rgb

RGBA = np.random.default_rng(3).integers(0, 256, (40, 50, 4), np.uint8)


def test_ycbcr_is_converted_as_pillow_converts_it() -> None:
    ycbcr = RGBA[..., :3]
    expected = np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB"), np.int16)
    assert np.abs(ycbcr_to_rgb(ycbcr) - expected).max() <= 2


def test_straight_alpha_weighs_the_colour_against_white() -> None:
    alpha = RGBA[..., 3:] / 255.0
    expected = RGBA[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(compose_over_white(RGBA) - expected).max() <= 0.5
    opaque = np.dstack((RGBA[..., :3], np.full((40, 50), 255, np.uint8)))
    assert (compose_over_white(opaque) == RGBA[..., :3]).all()


def test_premultiplied_colours_are_laid_over_white() -> None:
    alpha = RGBA[..., 3:].astype(np.int16)
    colour = np.minimum(RGBA[..., :3].astype(np.int16), alpha)
    laid = compose_premultiplied_over_white(np.dstack((colour, alpha)).astype(np.uint8))
    assert (laid == colour + 255 - alpha).all()


def test_a_colour_above_its_alpha_ends_at_white() -> None:
    assert (compose_premultiplied_over_white(np.array([[[200, 10, 0, 100]]], np.uint8)) == (255, 165, 155)).all()


def test_transparent_is_white() -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 128, 255)
    assert compose_over_white(rgba)[0, :, 0].tolist() == [255, 127, 0]

"""What a network sees beyond a slide's edge: the slide mirrored, however blocks are cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsipsm.geometry import Box
from wsipsm.stages.block import mirrored_outside

STRIDE = 16


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    corner=st.tuples(st.integers(0, 89), st.integers(0, 89)),
    side=st.integers(1, 64),
    margin=st.integers(0, 40),
    context=st.integers(0, 20),
)
def test_a_block_sees_what_the_whole_slide_mirrored_would_show(
    size: tuple[int, int], corner: tuple[int, int], side: int, margin: int, context: int
) -> None:
    width, height = size
    slide = Box(0, 0, width, height)
    x, y = corner[0] % width, corner[1] % height
    core = Box(x, y, side, side).intersect(slide)
    whole_strides = Box(x, y, -(-core.width // STRIDE) * STRIDE, -(-core.height // STRIDE) * STRIDE)
    decoded = whole_strides.expand(context)
    box = decoded.expand(margin)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rim = margin + context + STRIDE + side
    white = np.pad(image, ((rim, rim), (rim, rim), (0, 0)), constant_values=255)
    mirrored = np.pad(image, ((rim, rim), (rim, rim), (0, 0)), mode="reflect")

    def part(of: NDArray[np.uint8], where: Box) -> NDArray[np.uint8]:
        return of[where.y + rim : where.bottom + rim, where.x + rim : where.right + rim]

    found = mirrored_outside(part(white, box), box, slide)
    assert found.shape == (box.height, box.width, 3)
    # What is decoded on the slide feels pixels as far as the margin.
    felt = decoded.intersect(slide).expand(margin)
    y0, x0 = felt.y - box.y, felt.x - box.x
    np.testing.assert_array_equal(found[y0 : y0 + felt.height, x0 : x0 + felt.width], part(mirrored, felt))


def test_inside_nothing_changes() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    assert mirrored_outside(rgb, Box(4, 4, 8, 8), Box(0, 0, 100, 100)) is rgb

"""Blocks: cores partition the plane whatever the sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsipsm.geometry import Box, Size, WorkingGrid
from wsipsm.tiling import BlockGrid, blocks_in_region, round_up

SIDES = st.integers(1, 300)


@settings(deadline=None, max_examples=50)
@given(width=SIDES, height=SIDES, block_px=st.integers(9, 200), stride=st.sampled_from([1, 4, 16, 32]))
def test_every_working_pixel_has_one_core(width: int, height: int, block_px: int, stride: int) -> None:
    grid = BlockGrid(Size(width, height), block_px, stride)
    owners = np.zeros((height, width), dtype=int)
    blocks = list(grid.blocks())
    for block in blocks:
        core = block.core
        assert core.x % stride == core.y % stride == 0
        assert core.area > 0
        owners[core.y : core.bottom, core.x : core.right] += 1
    assert (owners == 1).all()
    assert [block.index for block in blocks] == list(range(grid.n_rows * grid.n_columns))
    assert [(block.row, block.column) for block in blocks] == sorted((block.row, block.column) for block in blocks)


@given(value=st.floats(0, 1e6), step=st.integers(1, 512))
def test_rounding_up(value: float, step: int) -> None:
    rounded = round_up(value, step)
    assert rounded % step == 0
    assert value <= rounded < value + step + 1e-9


def test_blocks_outside_the_grid_do_not_exist() -> None:
    grid = BlockGrid(Size(100, 100), 64, 16)
    with pytest.raises(IndexError, match="row 2"):
        grid.block(2, 0)
    with pytest.raises(ValueError, match="stride 0"):
        BlockGrid(Size(1, 1), 64, 0)


@dataclass
class Square:
    """A region that is one level-0 box."""

    box: Box
    name: str = "square"
    asked: list[Box] = field(default_factory=list)

    def touches(self, box_px0: Box) -> bool:
        self.asked.append(box_px0)
        return self.box.intersect(box_px0).area > 0

    def contains(self, xy_px0: NDArray[np.float64]) -> NDArray[np.bool_]:
        raise NotImplementedError

    def area_px0(self) -> float:
        return float(self.box.area)

    def to_dict(self) -> dict[str, Any]:
        return {}


def test_only_blocks_that_the_region_touches_are_planned() -> None:
    working = WorkingGrid(Size(1000, 800), slide_mpp=0.25, mpp=0.5)
    grid = BlockGrid(working.size_px, 128, 16)
    # Level-0 blocks are 256 px: columns 1 and 2, rows 0 and 1.
    blocks = blocks_in_region(grid, working, Square(Box(300, 250, 300, 100)))
    assert [(block.row, block.column) for block in blocks] == [(0, 1), (0, 2), (1, 1), (1, 2)]

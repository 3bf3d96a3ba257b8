"""Blocks: cores partition the plane whatever the sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsipsm.geometry import Box, Size, WorkingGrid, round_up
from wsipsm.tiling import BlockGeometry, BlockSides

SIDES = st.integers(1, 300)


def cut(
    grid: WorkingGrid, block_px: int, stride: int = 16, tile_px: int = 64, reach_px: int = 20, max_area_um2: float = 100
) -> BlockGeometry:
    sides = BlockSides(block_px, tile_px)
    return BlockGeometry.of_network(grid, sides, stride=stride, reach_px=reach_px, max_area_um2=max_area_um2)


def plane(width: int, height: int) -> WorkingGrid:
    """Give a grid whose working pixels are those of level 0, at 0.5 um/px."""
    return WorkingGrid(Size(width, height), slide_mpp=0.5, mpp=0.5)


@settings(deadline=None, max_examples=50)
@given(width=SIDES, height=SIDES, block_px=st.integers(9, 200), stride=st.sampled_from([1, 4, 16, 32]))
def test_every_working_pixel_has_one_core(width: int, height: int, block_px: int, stride: int) -> None:
    grid = cut(plane(width, height), block_px, stride)
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
    grid = cut(plane(100, 100), 64)
    with pytest.raises(IndexError, match="row 2"):
        grid.block(2, 0)
    with pytest.raises(ValueError, match="stride 0"):
        cut(plane(1, 1), 64, stride=0)


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
    # Level-0 blocks are 256 px: columns 1 and 2, rows 0 and 1.
    blocks = cut(working, 128).blocks_in(Square(Box(300, 250, 300, 100)))
    assert [(block.row, block.column) for block in blocks] == [(0, 1), (0, 2), (1, 1), (1, 2)]


@settings(deadline=None, max_examples=100)
@given(
    block_px=st.integers(16, 400),
    tile_px=st.integers(16, 400),
    stride=st.sampled_from([1, 8, 16, 32]),
    reach_px=st.integers(0, 200),
    max_area_um2=st.floats(1, 1000),
    mpp=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_what_lies_around_a_core_holds_what_the_network_and_a_nucleus_need(
    block_px: int, tile_px: int, stride: int, reach_px: int, max_area_um2: float, mpp: float
) -> None:
    geometry = cut(WorkingGrid(Size(900, 700), 0.5, mpp), block_px, stride, tile_px, reach_px, max_area_um2)
    diameter_px = 2 * np.sqrt(max_area_um2 / np.pi) / mpp
    for core in (block.core for block in geometry.blocks()):
        decoded, read = geometry.decoded_box(core), geometry.read_box(core)
        assert decoded.width % stride == decoded.height % stride == read.x % stride == read.y % stride == 0
        # A nucleus whose centroid lies in the strip is decoded whole, and the network sees beyond all of it.
        assert core.x - decoded.x >= geometry.strip_px + diameter_px
        assert decoded.right - core.right >= geometry.strip_px + diameter_px
        assert decoded.x - read.x == read.bottom - decoded.bottom >= reach_px
        assert core.x - read.x == geometry.halo_px


@given(width=st.integers(16, 3000), height=st.integers(16, 3000), tile_px=st.integers(16, 1024))
def test_even_tiles_cover_a_decoded_box_and_are_at_most_a_quarter_larger(width: int, height: int, tile_px: int) -> None:
    geometry = cut(plane(width, height), 4096, tile_px=tile_px)
    core = geometry.block(0, 0).core
    side, decoded = geometry.even_tile_px(core), geometry.decoded_box(core)
    assert side % geometry.stride == 0
    assert side <= geometry.tile_px * 1.25 + geometry.stride
    across, down = (len(range(0, length, side)) for length in (decoded.width, decoded.height))
    assert geometry.count_tiles(core) == across * down


def test_the_box_of_the_slide_leaves_out_a_last_pixel_that_is_only_partly_on_it() -> None:
    assert cut(WorkingGrid(Size(1001, 800), 0.25, 0.5), 128).slide_box == Box(0, 0, 500, 400)

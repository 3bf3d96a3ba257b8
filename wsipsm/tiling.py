"""Blocks: how the working grid of a slide is cut into tasks.

A *core* is the half-open square of the working grid that a block answers for. Cores start at multiples of the
network's stride, are anchored at the slide's origin and cover every working pixel exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsipsm.geometry import Box, Size, WorkingGrid
from wsipsm.region import Region


@dataclass(frozen=True, slots=True)
class Block:
    """One task: a core and where it stands in the grid."""

    index: int
    """Position in row-major order over the whole grid, planned or not."""
    row: int
    column: int
    core: Box
    """Working pixels it owns, clipped to the slide."""


def round_up(value: float, step: int) -> int:
    """Smallest multiple of ``step`` that is not below ``value``."""
    whole = int(value)
    if whole < value:
        whole += 1
    return -(-whole // step) * step


class BlockGrid:
    """Cores over a slide's working grid.

    Parameters
    ----------
    size_px
        Size of the working grid, working pixels.
    block_px
        Wanted side of a core, working pixels; rounded up to the stride.
    stride
        Stride of the network, working pixels.
    """

    def __init__(self, size_px: Size, block_px: int, stride: int) -> None:
        if block_px < 1 or stride < 1:
            raise ValueError(f"blocks: side {block_px} px, stride {stride} px; both must be 1 or more.")
        self.size_px = size_px
        self.block_px = round_up(block_px, stride)
        self.n_rows = -(-size_px.height // self.block_px)
        self.n_columns = -(-size_px.width // self.block_px)

    def block(self, row: int, column: int) -> Block:
        """Block at a place of the grid; IndexError outside it."""
        if not (0 <= row < self.n_rows and 0 <= column < self.n_columns):
            raise IndexError(f"block: row {row}, column {column} outside a grid of {self.n_rows} x {self.n_columns}.")
        left, top = column * self.block_px, row * self.block_px
        core = Box.from_edges(
            left,
            top,
            min(left + self.block_px, self.size_px.width),
            min(top + self.block_px, self.size_px.height),
        )
        return Block(index=row * self.n_columns + column, row=row, column=column, core=core)

    def blocks(self) -> Iterator[Block]:
        """Every block in row-major order."""
        for row in range(self.n_rows):
            for column in range(self.n_columns):
                yield self.block(row, column)


def blocks_in_region(grid: BlockGrid, working: WorkingGrid, region: Region) -> list[Block]:
    """Blocks whose core the region touches, in row-major order."""
    return [block for block in grid.blocks() if region.touches(working.box_px0(block.core))]

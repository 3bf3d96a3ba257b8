"""Blocks: the division of a slide's working grid into tasks, and every length and box around a core.

A *core* is the half-open square of the working grid whose nuclei a block owns. Cores start at multiples of the
network's stride, from the origin of the working grid, and cover every working pixel exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from wsipsm.geometry import Box, WorkingGrid, round_up
from wsipsm.region import Region

STRIP_UM = 8.0
"""Width, in um, of the strip around a core in which centroids make candidates. Where two blocks divide a clump in
different ways, the centroids of the pieces move by up to the radius of a nucleus, 4 to 8 um."""


@dataclass(frozen=True, slots=True)
class BlockSides:
    """Wanted sides of a core, and of the part of a tile that is kept, working pixels."""

    block_px: int
    tile_px: int


USUAL_SIDES = BlockSides(2048, 1024)
"""The network infers 2.1 pixels for each pixel of a core at 0.25 um/px; a worker needs 1.8 GiB."""
LARGE_SIDES = BlockSides(4096, 2048)
"""The network infers 1.5 pixels for each pixel of a core at 0.25 um/px; a worker needs 4 GiB."""


@dataclass(frozen=True, slots=True)
class Block:
    """One task: a core and its place in the grid of blocks."""

    index: int
    """Position in row-major order over the whole grid, also over blocks that the region does not touch."""
    row: int
    column: int
    core: Box
    """Working pixels that the block owns, clipped to the grid."""


@dataclass(frozen=True, slots=True)
class BlockGeometry:
    """Every length and box of a slide's blocks, in working pixels; it is small, since each task carries it.

    From the middle outwards lie the core, which a block owns; the strip, whose nuclei are also candidates for the seam
    step; the context, which is decoded so that nuclei of the strip are whole; and the margin, which is read for the
    network only. Context and margin together are the halo.
    """

    grid: WorkingGrid
    stride: int
    """Stride of the network: cores, tiles and margins are whole multiples of it."""
    block_px: int
    """Side of a core."""
    tile_px: int
    """Wanted side of the part of a tile that is kept; :meth:`even_tile_px` gives the side that is used."""
    margin_px: int
    """Margin around the part of the network's output that is kept: the network's reach, in whole strides."""
    context_px: int
    """Width around a core that is decoded: the strip and the largest nucleus, in whole strides."""
    strip_px: int
    """Width of the strip around a core in which centroids make candidates for the seam step, working pixels."""

    @classmethod
    def of_network(
        cls, grid: WorkingGrid, sides: BlockSides, *, stride: int, reach_px: int, max_area_um2: float
    ) -> Self:
        """Make the geometry of blocks for a network.

        Parameters
        ----------
        grid
            Working grid of the slide, at the network's pixel size.
        sides
            Wanted sides of a core and of a tile; rounded up to the stride.
        stride, reach_px, max_area_um2
            Values of the network's card; the last is the area of the largest nucleus that is kept.
        """
        if sides.block_px < 1 or stride < 1:
            raise ValueError(f"blocks: side {sides.block_px} px, stride {stride} px; both must be 1 or more.")
        strip_px = math.ceil(STRIP_UM / grid.mpp)
        diameter_px = math.ceil(2 * math.sqrt(max_area_um2 / math.pi) / grid.mpp)
        return cls(
            grid=grid,
            stride=stride,
            block_px=round_up(sides.block_px, stride),
            tile_px=round_up(sides.tile_px, stride),
            margin_px=round_up(reach_px, stride),
            context_px=round_up(strip_px + diameter_px, stride),
            strip_px=strip_px,
        )

    @property
    def halo_px(self) -> int:
        """Width around a core that is read: context and margin."""
        return self.context_px + self.margin_px

    @property
    def n_rows(self) -> int:
        """Rows of blocks over the whole grid."""
        return -(-self.grid.size_px.height // self.block_px)

    @property
    def n_columns(self) -> int:
        """Columns of blocks over the whole grid."""
        return -(-self.grid.size_px.width // self.block_px)

    @property
    def slide_box(self) -> Box:
        """Working pixels that lie wholly on the slide; nothing outside is decoded."""
        size, scale = self.grid.slide_size, self.grid.scale
        # The tolerance keeps a size that divides evenly from losing a row to float error.
        return Box(0, 0, int(size.width / scale + 1e-6), int(size.height / scale + 1e-6))

    def block(self, row: int, column: int) -> Block:
        """Return the block at a place of the grid.

        Raises
        ------
        IndexError
            When the place is outside the grid.
        """
        if not (0 <= row < self.n_rows and 0 <= column < self.n_columns):
            raise IndexError(f"block: row {row}, column {column} outside a grid of {self.n_rows} x {self.n_columns}.")
        size_px = self.grid.size_px
        whole = Box(column * self.block_px, row * self.block_px, self.block_px, self.block_px)
        core = whole.intersect(Box(0, 0, size_px.width, size_px.height))
        return Block(index=row * self.n_columns + column, row=row, column=column, core=core)

    def blocks(self) -> Iterator[Block]:
        """Yield every block in row-major order."""
        for row in range(self.n_rows):
            for column in range(self.n_columns):
                yield self.block(row, column)

    def blocks_in(self, region: Region) -> Iterator[Block]:
        """Yield the blocks whose core a region touches, in row-major order."""
        return (block for block in self.blocks() if region.touches(self.grid.box_px0(block.core)))

    def decoded_box(self, core: Box) -> Box:
        """Return the box of working pixels that are decoded for a core: whole strides, and the context."""
        whole = Box(core.x, core.y, round_up(core.width, self.stride), round_up(core.height, self.stride))
        return whole.expand(self.context_px)

    def read_box(self, core: Box) -> Box:
        """Return the box of working pixels that are read for a core: the decoded box and the network's margin."""
        return self.decoded_box(core).expand(self.margin_px)

    def even_tile_px(self, core: Box) -> int:
        """Compute the side of the equal tiles into which a core's decoded box is divided.

        It is at most a quarter above the wanted side, before it is rounded up to the stride. Tiles are equal because a
        narrow last one would cost its margins for little, and a network is compiled for one shape.
        """
        box = self.decoded_box(core)
        longer = max(box.width, box.height)
        n_tiles = max(1, math.ceil(longer / self.tile_px - 0.25))
        return round_up(longer / n_tiles, self.stride)

    def count_tiles(self, core: Box) -> int:
        """Count the tiles that the network sees for a core."""
        box, tile_px = self.decoded_box(core), self.even_tile_px(core)
        return -(-box.width // tile_px) * -(-box.height // tile_px)

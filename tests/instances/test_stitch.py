"""Seams: of nuclei that several blocks found one is kept, in whatever order blocks come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsipsm.instances.stitch import MAX_OVERLAP, SeamRow, resolve_seams

CORE = 100
STRIP = 20


def seam_row(row: int, nuclei: Sequence[tuple[int, shapely.Polygon]], n_columns: int = 3) -> SeamRow:
    """Nuclei of one row of square blocks; ``nuclei`` are pairs of block column and outline."""
    block, owned, depth, wkb = [], [], [], []
    for column, polygon in nuclei:
        left, top = column * CORE, row * CORE
        x, y = polygon.centroid.x, polygon.centroid.y
        block.append(row * n_columns + column)
        depth.append(min(x - left, left + CORE - x, y - top, top + CORE - y))
        owned.append(left <= x < left + CORE and top <= y < top + CORE)
        wkb.append(shapely.to_wkb(polygon))
    return SeamRow(
        row=row,
        block=np.array(block, dtype=np.int64),
        owned=np.array(owned, dtype=bool),
        border_px=np.array(depth, dtype=np.float64),
        wkb=np.array(wkb, dtype=object) if wkb else np.empty(0, dtype=object),
    )


def kept_outlines(rows: Sequence[SeamRow], reach_rows: int = 1) -> list[bytes]:
    masks = list(resolve_seams(iter(rows), reach_rows))
    assert [len(mask) for mask in masks] == [len(row.wkb) for row in rows]
    return sorted(wkb for row, mask in zip(rows, masks, strict=True) for wkb in row.wkb[mask])


def square(x: float, y: float, side: float = 10) -> shapely.Polygon:
    return shapely.box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def shuffled(row: SeamRow, order: NDArray[np.intp]) -> SeamRow:
    return SeamRow(row.row, row.block[order], row.owned[order], row.border_px[order], row.wkb[order])


def test_the_same_nucleus_from_two_blocks_is_kept_once() -> None:
    nucleus = square(98, 50)
    (mask,) = resolve_seams([seam_row(0, [(0, nucleus), (1, nucleus)])])
    assert mask.tolist() == [True, False], "its owner's is kept"


def test_four_blocks_at_a_corner() -> None:
    nucleus = square(99, 99)
    rows = [seam_row(0, [(0, nucleus), (1, nucleus)]), seam_row(1, [(0, nucleus), (1, nucleus)])]
    assert len(kept_outlines(rows)) == 1


def test_a_nucleus_that_nobody_owns_is_not_lost() -> None:
    # Each block sees its centroid on the other side.
    left_view, right_view = square(101, 50), square(99, 50)
    row = seam_row(0, [(0, left_view), (1, right_view)])
    assert not row.owned.any()
    assert len(kept_outlines([row])) == 1


def test_a_nucleus_that_both_own_is_not_doubled() -> None:
    row = seam_row(0, [(0, square(97, 50)), (1, square(101, 50))])
    assert row.owned.all()
    (mask,) = resolve_seams([row])
    assert mask.tolist() == [True, False], "the one deeper in its own core is kept"


def test_one_large_against_two_small_ones_that_are_owned() -> None:
    whole = square(104, 50, 20)
    halves = [shapely.box(94, 40, 103.9, 60).buffer(0), shapely.box(104.1, 40, 114, 60)]
    row = seam_row(0, [(0, whole), (1, halves[0]), (1, halves[1])])
    outlines = kept_outlines([row])
    for first, second in pairwise(shapely.from_wkb(outlines)):
        assert first.intersection(second).area <= MAX_OVERLAP * min(first.area, second.area)


@pytest.mark.parametrize(("shift", "n_kept"), [(6, 2), (5, 2), (4, 1)])
def test_half_of_the_smaller_in_common_is_not_yet_one(shift: int, n_kept: int) -> None:
    small = shapely.box(90 + shift, 45, 100 + shift, 55)
    assert len(kept_outlines([seam_row(0, [(0, shapely.box(80, 40, 100, 60)), (1, small)])])) == n_kept


def test_neighbours_in_one_block_are_left_alone() -> None:
    nuclei = [(0, square(50 + 6 * step, 50)) for step in range(5)]
    (mask,) = resolve_seams([seam_row(0, nuclei)])
    assert mask.all()


def test_no_rows_and_empty_rows() -> None:
    assert list(resolve_seams([])) == []
    masks = list(resolve_seams([seam_row(0, []), seam_row(5, [])]))
    assert [len(mask) for mask in masks] == [0, 0]


@pytest.mark.parametrize("reach_rows", [None, 1, 2, 3])
def test_rows_are_released_as_the_stream_goes_on(reach_rows: int | None) -> None:
    """Nuclei of two rows that are one are held until the last row was read that the lower may meet, and no longer."""
    pulled: list[int] = []

    def rows() -> Iterator[SeamRow]:
        for row in range(50):
            pulled.append(row)
            yield seam_row(row, [(0, square(50, row * CORE + 99)), (0, square(50, row * CORE + 1))])

    masks = resolve_seams(rows()) if reach_rows is None else resolve_seams(rows(), reach_rows)
    held, n_kept = [], 0
    for position, mask in enumerate(masks):
        held.append(len(pulled) - position)
        n_kept += int(mask.sum())
    reach = 1 if reach_rows is None else reach_rows
    assert held[: 49 - reach] == [reach + 2] * (49 - reach)
    assert (len(held), n_kept) == (50, 51)


NUCLEI = st.lists(
    st.tuples(
        st.integers(0, 11),
        st.integers(2, 100 * 3 - 2),
        st.integers(2, 100 * 4 - 2),
        st.integers(6, 24),
        st.integers(6, 24),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(drawn=NUCLEI, seed=st.integers(0, 2**32 - 1))
def test_no_doubles_no_loss_no_order(drawn: list[tuple[int, int, int, int, int]], seed: int) -> None:
    members: list[list[tuple[int, shapely.Polygon]]] = [[] for _ in range(4)]
    for block, x, y, width, height in drawn:
        row, column = divmod(block, 3)
        # Only where that block decodes: its core and the halo around.
        left, top = column * CORE - STRIP + x % (CORE + 2 * STRIP), row * CORE - STRIP + y % (CORE + 2 * STRIP)
        polygon = shapely.box(left, top, left + width, top + height)
        # Nuclei of one block never overlap: a label image cannot hold such.
        if all(block_of != column or polygon.intersection(other).area == 0 for block_of, other in members[row]):
            members[row].append((column, polygon))
    rows = [seam_row(row, nuclei) for row, nuclei in enumerate(members)]
    kept = kept_outlines(rows)
    polygons = shapely.from_wkb(kept)

    # No doubles: what is kept overlaps nothing of another block that is kept.
    blocks = {(wkb, block) for row in rows for wkb, block in zip(row.wkb, row.block, strict=True)}
    tree = shapely.STRtree(polygons)
    for first, second in tree.query(polygons, predicate="intersects").T:
        if first < second:
            common = polygons[first].intersection(polygons[second]).area
            same_block = any((kept[first], block) in blocks and (kept[second], block) in blocks for block in range(12))
            assert same_block or common <= MAX_OVERLAP * min(polygons[first].area, polygons[second].area)

    # No loss: whatever is dropped overlaps something that is kept.
    masks = list(resolve_seams(rows))
    for row, mask in zip(rows, masks, strict=True):
        for wkb in row.wkb[~mask]:
            lost = shapely.from_wkb(wkb)
            common = shapely.area(shapely.intersection(polygons, lost))
            assert (common > MAX_OVERLAP * np.minimum(shapely.area(polygons), lost.area)).any()

    # No order: neither that of nuclei in a row, nor how many rows are seen at once.
    rng = np.random.default_rng(seed)
    mixed = [shuffled(row, rng.permutation(len(row.wkb))) for row in rows]
    assert kept_outlines(mixed) == kept
    assert kept_outlines(rows, reach_rows=3) == kept


@pytest.mark.parametrize("gap", [1, 2])
def test_rows_without_planned_blocks_between(gap: int) -> None:
    nucleus = square(50, 150)
    rows = [seam_row(0, [(0, nucleus)]), seam_row(gap, [(0, nucleus)])]
    assert len(kept_outlines(rows, reach_rows=gap)) == 1

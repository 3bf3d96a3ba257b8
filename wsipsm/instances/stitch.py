"""Seams between blocks: of the nuclei that several blocks found in one place, one is kept.

Blocks overlap by their halos, so a nucleus near a border is found several times: mostly with the same outline,
sometimes with another one. Nuclei of different blocks that overlap are linked. In each connected component of that
graph, only properties of the nuclei decide which are kept, never the order in which blocks were finished or read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.instances.labels import least_of_linked

MAX_OVERLAP = 0.5
"""Two nuclei are one when their common part is more than this share of the smaller; an IoU above it implies this."""
_ROUNDING = 1e-9
"""Far more than the relative error of an area in float64."""


@dataclass(frozen=True, slots=True)
class SeamRow:
    """Nuclei of one row of blocks that nuclei of other blocks may overlap; every array has shape (n,)."""

    row: int
    """Row of the block in the block grid."""
    block: NDArray[np.int64]
    """Index of the block that found each nucleus."""
    owned: NDArray[np.bool_]
    """Whether that block's core holds the centroid."""
    border_px: NDArray[np.float64]
    """Distance of the centroid from the border of that core, working pixels; negative outside."""
    wkb: NDArray[np.object_]
    """Outlines as WKB bytes, level-0 pixels."""


@dataclass(slots=True)
class _Pending:
    """A row of which nuclei may still be linked to nuclei of later rows."""

    nuclei: SeamRow
    polygons: NDArray[np.object_]
    areas: NDArray[np.float64]
    bounds: NDArray[np.float64]
    """Left, top, right and bottom of each, shape (n, 4)."""
    tree: shapely.STRtree
    kept: NDArray[np.bool_]
    decided: NDArray[np.bool_]
    offset: int = 0


@dataclass(slots=True)
class _Seams:
    """Pending rows and the links between their nuclei."""

    rows: list[_Pending] = field(default_factory=list)
    links: list[NDArray[np.int64]] = field(default_factory=list)
    """Pairs of linked nuclei, by their positions among all nuclei that were ever added, arrays of shape (n, 2)."""
    n_added: int = 0


def resolve_seams(rows: Iterable[SeamRow], reach_rows: int = 1) -> Iterator[NDArray[np.bool_]]:
    """Choose, for each nucleus at a seam, whether it is kept.

    In a component, nuclei are taken in a fixed order (owned before not owned, far inside the core before near its
    border, then by outline), and each is kept unless it overlaps one that is kept. A nucleus that overlaps none is
    kept: a nucleus that only one block found is not lost because another block owns the place.

    Parameters
    ----------
    rows
        Rows of blocks from top to bottom; they are read one at a time.
    reach_rows
        Number of rows below its own whose nuclei a nucleus may overlap; more than 1 only when blocks are smaller than
        halos.

    Yields
    ------
    For each row in order, which of its nuclei are kept, shape (n,), bool. Only rows whose components are not yet
    complete are in memory.
    """
    seams = _Seams()
    for nuclei in rows:
        _add(seams, nuclei, reach_rows)
        yield from _finished(seams, nuclei.row - reach_rows)
    yield from _finished(seams, None)


def _add(seams: _Seams, nuclei: SeamRow, reach_rows: int) -> None:
    """Add a row, and link its nuclei to those of pending rows and among themselves."""
    polygons = np.asarray(shapely.from_wkb(nuclei.wkb), dtype=object)
    n = len(polygons)
    added = _Pending(
        nuclei=nuclei,
        polygons=polygons,
        areas=shapely.area(polygons),
        bounds=shapely.bounds(polygons),
        tree=shapely.STRtree(polygons),
        kept=np.zeros(n, dtype=bool),
        decided=np.zeros(n, dtype=bool),
        offset=seams.n_added,
    )
    seams.n_added += n
    seams.rows.append(added)
    for other in seams.rows:
        if nuclei.row - other.nuclei.row <= reach_rows:
            seams.links.append(_overlaps(added, other))


def _overlaps(first: _Pending, second: _Pending) -> NDArray[np.int64]:
    """Find the pairs of nuclei of different blocks that count as one."""
    left, right = second.tree.query(first.polygons)
    different = first.nuclei.block[left] != second.nuclei.block[right]
    if first is second:
        different &= left < right
    left, right = left[different], right[different]
    smaller = np.minimum(first.areas[left], second.areas[right])
    # Most pairs are one outline that two blocks found, which then is their common part, too.
    common = np.where(first.nuclei.wkb[left] == second.nuclei.wkb[right], smaller, -1.0)
    # Neighbours mostly touch: where even their boxes share too little, the outlines need not be cut with each other.
    shared = _box_areas(first.bounds[left], second.bounds[right])
    others = np.flatnonzero((common < 0) & (shared > MAX_OVERLAP * smaller * (1 - _ROUNDING)))
    common[others] = shapely.area(shapely.intersection(first.polygons[left[others]], second.polygons[right[others]]))
    linked = common > MAX_OVERLAP * smaller
    return np.column_stack([left[linked] + first.offset, right[linked] + second.offset]).astype(np.int64)


def _box_areas(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the area that two boxes share, for pairs of left, top, right and bottom, shape (n, 4)."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    return np.asarray(np.maximum(sides, 0.0).prod(axis=1))


def _finished(seams: _Seams, last_row: int | None) -> Iterator[NDArray[np.bool_]]:
    """Decide components that end at ``last_row`` or above (None: all), then release rows that are decided."""
    if not seams.rows:
        return
    start = seams.rows[0].offset
    links = np.concatenate([*seams.links, np.empty((0, 2), np.int64)])
    links = links[links.min(axis=1, initial=np.iinfo(np.int64).max) >= start]
    n = seams.n_added - start
    component = least_of_linked(n, links[:, 0] - start, links[:, 1] - start)
    row_of = np.concatenate([np.full(len(row.kept), row.nuclei.row) for row in seams.rows])
    lowest = np.full(n, -1)
    np.maximum.at(lowest, component, row_of)
    complete = np.ones(n, dtype=bool) if last_row is None else lowest[component] <= last_row
    _decide(seams.rows, links - start, complete)
    while seams.rows and seams.rows[0].decided.all():
        done = seams.rows[0]
        if last_row is not None and done.nuclei.row > last_row:
            break
        seams.rows.pop(0)
        yield done.kept
    kept_from = seams.rows[0].offset if seams.rows else seams.n_added
    seams.links = [links[(links >= kept_from).all(axis=1)]]


def _decide(rows: list[_Pending], links: NDArray[np.int64], complete: NDArray[np.bool_]) -> None:
    """Decide every nucleus of complete components, in place; positions count from the first pending row."""
    kept = np.concatenate([row.kept for row in rows])
    open_before = complete & ~np.concatenate([row.decided for row in rows])
    linked = np.zeros(len(kept), dtype=bool)
    linked[links.ravel()] = True
    kept[open_before & ~linked] = True
    neighbours: dict[int, list[int]] = {}
    for left, right in _without_pairs(rows, links[open_before[links[:, 0]]], kept).tolist():
        neighbours.setdefault(left, []).append(right)
        neighbours.setdefault(right, []).append(left)
    order = _intrinsic_order(rows, np.array(sorted(neighbours), dtype=np.int64))
    for position in order:
        kept[position] = not any(kept[other] for other in neighbours[position])
    start = 0
    for row in rows:
        stop = start + len(row.kept)
        row.kept[:] = kept[start:stop]
        row.decided |= open_before[start:stop]
        start = stop


def _without_pairs(rows: list[_Pending], links: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Decide, in place, the components of two nuclei, which are nearly all; gives the links of the others."""
    owned = np.concatenate([row.nuclei.owned for row in rows])
    border = np.concatenate([row.nuclei.border_px for row in rows])
    is_pair = (np.bincount(links.ravel(), minlength=len(kept))[links] == 1).all(axis=1)
    left, right = links.T
    by_border = owned[left] == owned[right]
    is_pair &= ~by_border | (border[left] != border[right])
    left_first = np.where(by_border, border[left] > border[right], owned[left])
    kept[np.where(left_first, left, right)[is_pair]] = True
    return np.asarray(links[~is_pair])


def _intrinsic_order(rows: list[_Pending], positions: NDArray[np.int64]) -> list[int]:
    """Order nuclei by their own properties: owned first, then far inside the core, then by outline, then by block."""
    owned = np.concatenate([row.nuclei.owned for row in rows])
    border = np.concatenate([row.nuclei.border_px for row in rows])
    block = np.concatenate([row.nuclei.block for row in rows])
    wkb = np.concatenate([row.nuclei.wkb for row in rows])

    def rank(position: int) -> tuple[bool, float, bytes, int]:
        return not owned[position], -border[position], wkb[position], block[position]

    return sorted(positions.tolist(), key=rank)

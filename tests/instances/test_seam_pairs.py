"""Pairs of nuclei that count as one, by a short way and by a look at every pair."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsipsm.instances.stitch import MAX_OVERLAP, SeamRow, resolve_seams


def random_row(rng: np.random.Generator, row: int, n: int) -> SeamRow:
    """Nuclei in a crowd, a part of them found again by another block: as the same outline, or moved a little."""
    corners = rng.integers(0, 60, (n, 2))
    sides = rng.integers(3, 12, (n, 2))
    again = rng.random(n) < 0.5
    corners[again] = corners[0] + rng.integers(0, 2, (int(again.sum()), 2)) * 2
    sides[again] = sides[0]
    boxes = shapely.box(*corners.T, *(corners + sides).T)
    return SeamRow(
        row=row,
        block=(row * 3 + rng.integers(0, 3, n)).astype(np.int64),
        owned=rng.random(n) < 0.5,
        border_px=rng.integers(-3, 4, n).astype(np.float64),
        wkb=np.asarray(shapely.to_wkb(boxes), dtype=object),
    )


def plainly_kept(rows: list[SeamRow]) -> NDArray[np.bool_]:
    """Keep nuclei in order of rank unless one that is kept overlaps them; every pair is looked at."""
    block, owned, border = (
        np.concatenate([getattr(row, name) for row in rows]) for name in ("block", "owned", "border_px")
    )
    wkb = np.concatenate([row.wkb for row in rows])
    polygons = shapely.from_wkb(wkb)
    order = sorted(range(len(wkb)), key=lambda one: (not owned[one], -border[one], wkb[one], block[one]))
    kept = np.zeros(len(wkb), dtype=bool)
    for one in order:
        common = shapely.area(shapely.intersection(polygons[one], polygons))
        smaller = np.minimum(shapely.area(polygons[one]), shapely.area(polygons))
        rivals = (common > MAX_OVERLAP * smaller) & (block != block[one])
        kept[one] = not (rivals & kept).any()
    return kept


@given(seed=st.integers(0, 2**32 - 1), n_rows=st.integers(1, 3), n=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_the_same_nuclei_are_kept_as_by_a_look_at_every_pair(seed: int, n_rows: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [random_row(rng, row, n) for row in range(n_rows)]
    found = np.concatenate(list(resolve_seams(iter(rows), reach_rows=3)))
    assert np.array_equal(found, plainly_kept(rows))

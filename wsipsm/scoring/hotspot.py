"""The hot spot: the field of at least 500 nuclei with the highest index, and an interval that allows for the search."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.scoring.index import wilson_interval
from wsipsm.scoring.spatial import Lattice, check_nuclei, count_cells, merge_cells

CELL_UM = 50.0
"""Side of a lattice cell, um. Edges of candidate fields lie on the lattice, so that their counts are exact and
cheap."""
PLACE_CELLS = 2
"""Candidates' corners lie on every second lattice line: 100 um apart, a quarter of a usual field's side."""
MAX_SIDE_UM = 1500.0
"""Largest side of a field, um; a wider one is no spot, since 500 nuclei on 2.25 mm2 is sparse tissue."""
MANY_NUCLEI, FEWEST_SEARCHES = 1_000_000, 20
"""Number of nuclei from which the bootstrap makes the fewest searches, and their number: among 100,000 places the gain
of a search hardly varies."""
MAX_CELLS = 2**21
"""Largest number of lattice cells; on a wider slide the cells grow."""

_METHOD = (
    "square grown until it holds enough nuclei, highest index; interval from the lower bound after removing "
    "the gain of the search (parametric bootstrap of the whole search) to Wilson's upper bound"
)
_LEVELS = 2**16


@dataclass(frozen=True, slots=True)
class HotSpot:
    """The field with the highest index."""

    x_um: float
    y_um: float
    """Centre of the field, um from the corner of the slide's bounds."""
    side_um: float
    """Side of the field, um."""
    n: int
    n_positive: int
    index: float
    """Index as counted, a fraction; it is too high, since the search chose the highest."""
    corrected: float
    """Index less the expected gain of the search; it is too low where there is one real hot spot alone."""
    low: float
    high: float
    """Both ends of the interval that allows for the search."""
    wilson_low: float
    wilson_high: float
    """Interval of counting alone, as if the place had been chosen blindly: do not report it."""
    n_places: int
    """Candidate fields that were compared."""
    method: str


@dataclass(frozen=True, slots=True)
class HotSpotSearch:
    """A hot spot, or why there is none."""

    spot: HotSpot | None
    reason: str | None
    """Reason in plain words; None when there is a spot."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Candidate fields on a lattice: first row, first column, side in cells, and number of nuclei; shapes (n,)."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    side: NDArray[np.int64]
    n: NDArray[np.float64]


def find_hot_spot(
    xy_um: NDArray[np.float64],
    positive: NDArray[np.bool_],
    *,
    min_nuclei: int = DEFAULT_MARKER.min_nuclei,
    max_side_um: float = MAX_SIDE_UM,
    n_resamples: int = 40,
    confidence: float = 0.95,
    seed: int = 0,
) -> HotSpotSearch:
    """Find the field of at least ``min_nuclei`` nuclei with the highest index.

    A square at every 100 um is grown in steps of 50 um until it holds enough nuclei. The hot-spot score of the
    International Ki67 in Breast Cancer Working Group is one field of 500 cells that a person chose by eye (Leung et
    al. 2016, npj Breast Cancer 2:16014); here every place is tried. Fields are squares and not discs because the edges
    of squares lie on a lattice, so that all counts, also of bootstrap resamples, are exact sums of a table (Crow 1984).

    The interval is that of the expected index at the chosen place, which is the mean over its nuclei of their
    probability of being positive. The highest of many counts is high partly by chance. This gain of the search is
    estimated by a bootstrap: classes are drawn at random from a smoothed map of this slide, the search is repeated on
    them, and the index of the field that it finds is compared with the mean of the map there. The map shrinks local
    indices towards the slide's just so far that they vary as the tissue does without counting noise (Louis 1984, J Am
    Stat Assoc 79:393). A single real hot spot is flattened by this, and the gain is then overestimated. So the lower
    bound is that of the corrected index and the upper bound is Wilson's: the interval is right both for a slide with a
    real hot spot and for one without. It is wide, and covers at least as often as it claims.

    Parameters
    ----------
    xy_um
        Centroids inside the region, shape (n, 2), um from the corner of the slide's bounds.
    positive
        Whether each nucleus is positive, shape (n,).
    min_nuclei
        Fewest nuclei of a field.
    max_side_um
        Largest side of a field, um; places that need more are no candidates.
    n_resamples
        Number of searches in the bootstrap, at least 20; 20 are made from a million nuclei on, where they differ
        little.
    confidence
        Coverage, between 0 and 1.
    seed
        Seed of the resampling.

    Returns
    -------
    The hot spot, or the reason why there is none.

    Raises
    ------
    ValueError
        When shapes differ, a position is not finite, or an option is out of range.
    """
    xy_um, positive = check_nuclei(xy_um, positive)
    if min_nuclei < 1 or not max_side_um >= CELL_UM or n_resamples < FEWEST_SEARCHES:
        raise ValueError(
            f"hot spot: {min_nuclei} nuclei, side {max_side_um} um, {n_resamples} resamples; "
            f"at least 1, {CELL_UM:g} um and {FEWEST_SEARCHES} are needed."
        )
    n = len(positive)
    if n < min_nuclei:
        return HotSpotSearch(None, f"not scorable: {n} nuclei in the region; a hot spot needs at least {min_nuclei}.")
    lattice = count_cells(xy_um, positive, CELL_UM, MAX_CELLS)
    places = _grow(lattice, min_nuclei, int(max_side_um // lattice.cell_um))
    if not len(places.n):
        return HotSpotSearch(
            None, f"not scorable: no square of {max_side_um:g} um holds {min_nuclei} nuclei; the tissue is too sparse."
        )
    counts = _count(_summed(lattice.part), places)
    # Of equal indices the smaller field is taken, since it is the denser one.
    best = int(np.lexsort((places.side, -counts / places.n))[0])
    return HotSpotSearch(_describe(lattice, places, counts, best, n_resamples, confidence, seed), None)


def _describe(
    lattice: Lattice,
    places: _Places,
    counts: NDArray[np.float64],
    best: int,
    n_resamples: int,
    confidence: float,
    seed: int,
) -> HotSpot:
    n, n_positive = int(places.n[best]), int(counts[best])
    naive = wilson_interval(n_positive, n, confidence)
    if lattice.whole.sum() >= MANY_NUCLEI:
        n_resamples = min(n_resamples, FEWEST_SEARCHES)
    gains = _search_gains(lattice, places, n_resamples, seed)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = float(logit((n_positive + 0.5) / (n + 1))) - float(gains.mean())
    low, corrected = expit(centre - z * gains.std(ddof=1)), expit(centre)
    side_um = float(places.side[best]) * lattice.cell_um
    return HotSpot(
        x_um=(float(places.left[best]) + lattice.corner[0]) * lattice.cell_um + side_um / 2,
        y_um=(float(places.top[best]) + lattice.corner[1]) * lattice.cell_um + side_um / 2,
        side_um=side_um,
        n=n,
        n_positive=n_positive,
        index=n_positive / n,
        corrected=min(float(corrected), n_positive / n),
        low=min(float(low), naive[0]),
        high=naive[1],
        wilson_low=naive[0],
        wilson_high=naive[1],
        n_places=len(places.n),
        method=_METHOD,
    )


def _grow(lattice: Lattice, min_nuclei: int, max_cells: int) -> _Places:
    """Find for each corner the smallest square that holds enough nuclei, where one of ``max_cells`` does."""
    rows, columns = lattice.whole.shape
    # Corners are counted from the slide's corner, not the region's, so that no outline moves the candidates.
    top, left = (
        axis.ravel()
        for axis in np.meshgrid(
            np.arange(-(lattice.corner[1] % PLACE_CELLS), rows, PLACE_CELLS),
            np.arange(-(lattice.corner[0] % PLACE_CELLS), columns, PLACE_CELLS),
            indexing="ij",
        )
    )
    table = _summed(lattice.whole)
    found, open_ = [], np.arange(len(top))
    for side in range(1, max_cells + 1):
        n = _count(table, _Places(top[open_], left[open_], np.full(len(open_), side), np.empty(0)))
        enough = n >= min_nuclei
        ready = open_[enough]
        found.append(_Places(top[ready], left[ready], np.full(len(ready), side), n[enough]))
        open_ = open_[~enough]
    return _Places(*(np.concatenate([getattr(part, name) for part in found]) for name in ("top", "left", "side", "n")))


def _search_gains(lattice: Lattice, places: _Places, n_resamples: int, seed: int) -> NDArray[np.float64]:
    """Compute the gain of each search: the logit of the index found less that of its expected value; (n_resamples,)."""
    share = _smooth(lattice, int(np.median(places.side)))
    expected = logit(_count(_summed(share * lattice.whole), places) / places.n)
    filled = np.flatnonzero(lattice.whole)
    n = lattice.whole.ravel()[filled].astype(np.int64)
    corners = _corners(lattice.whole.shape, places)
    starts = np.concatenate([[0], np.cumsum(n)[:-1]])
    limit = np.repeat(np.rint(share.ravel()[filled] * _LEVELS).clip(1, _LEVELS - 1).astype(np.uint16), n)
    random = np.random.default_rng(seed)
    drawn = np.zeros(lattice.whole.size)
    gains = np.empty(n_resamples)
    for k in range(n_resamples):
        classes = random.integers(0, _LEVELS, len(limit), dtype=np.uint16) < limit
        drawn[filled] = np.add.reduceat(classes, starts, dtype=np.int64)
        counts = _difference(_summed(drawn.reshape(lattice.whole.shape)), corners)
        best = int(np.argmax(counts / places.n))
        gains[k] = logit((counts[best] + 0.5) / (places.n[best] + 1)) - expected[best]
    return gains


def _smooth(lattice: Lattice, side: int) -> NDArray[np.float64]:
    """Smooth the index around each cell and shrink it towards the slide's, so that it varies as the tissue does."""
    total = lattice.whole.sum()
    share = float(np.clip(lattice.part.sum() / total, 0.5 / total, 1 - 0.5 / total))
    fields = merge_cells(lattice, side)
    excess = ((fields.part - share * fields.whole) ** 2).sum() - share * (1 - share) * total
    between = max(0.0, float(excess / max(1.0, (fields.whole * (fields.whole - 1)).sum())))
    rows, columns = lattice.whole.shape
    top, left = (axis.ravel() - side // 2 for axis in np.indices((rows, columns)))
    around = _Places(top, left, np.full(len(top), side), np.empty(0))
    n = np.maximum(_count(_summed(lattice.whole), around), 1)
    local = _count(_summed(lattice.part), around) / n
    kept = np.sqrt(between / (between + share * (1 - share) / n))
    smooth = np.clip(share + kept * (local - share), 1 / _LEVELS, 1 - 1 / _LEVELS)
    return np.asarray(smooth.reshape(rows, columns), np.float64)


def _summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the summed-area table of values, with a row and column of zeros in front."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    np.cumsum(values, axis=0, out=table[1:, 1:])
    np.cumsum(table[1:, 1:], axis=1, out=table[1:, 1:])
    return table


def _count(table: NDArray[np.float64], places: _Places) -> NDArray[np.float64]:
    """Sum over squares by a summed-area table, shape (n,); parts outside the lattice count 0."""
    return _difference(table, _corners((table.shape[0] - 1, table.shape[1] - 1), places))


def _corners(shape: tuple[int, ...], places: _Places) -> NDArray[np.int64]:
    """Find where a square's four corners lie in the flat table of a lattice, shape (4, n)."""
    rows, columns = shape
    top, bottom = (np.clip(edge, 0, rows) * (columns + 1) for edge in (places.top, places.top + places.side))
    left, right = (np.clip(edge, 0, columns) for edge in (places.left, places.left + places.side))
    return np.stack([bottom + right, top + right, bottom + left, top + left])


def _difference(table: NDArray[np.float64], corners: NDArray[np.int64]) -> NDArray[np.float64]:
    flat = table.ravel()
    sums: NDArray[np.float64] = flat[corners[0]]
    for corner, sign in zip(corners[1:], (-1, -1, 1), strict=True):
        sums += sign * flat[corner]
    return sums

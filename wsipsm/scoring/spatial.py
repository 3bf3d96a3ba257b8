"""Interval of the labelling index that allows for neighbouring nuclei being alike.

Positive nuclei come in clusters, so 50,000 of them say less about a tumour than 50,000 independent nuclei would. The
standard error here therefore includes, beside every nucleus, every pair of nuclei that are near enough to be alike;
that distance is estimated from the slide itself. A bootstrap of blocks of that size, drawn with replacement, gives the
shape of the estimate's distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

from wsipsm.scoring.index import wilson_interval

MIN_CELL_UM = 25.0
"""Smallest side of the squares (cells) that nuclei are counted in, um; distances within a cell count as 0."""
NUCLEI_A_CELL = 4
"""Number of nuclei that a cell is made large enough to hold on average."""
MAX_CELLS = 2**18
"""Largest number of cells; on a wider slide the cells grow instead."""
MIN_BLOCKS, MAX_BLOCKS = 20, 300
"""Bounds of the number of blocks that the occupied area is cut into; a ragged outline gives some more."""
FEWEST_BLOCKS = 6
"""Fewest blocks that an interval is made from; fewer do not show how alike neighbours are."""
FEWEST_OF_A_KIND = 5
"""Fewest positive, and fewest negative, nuclei that are resampled; fewer show no clusters."""
MAX_PAIR_SHARE = 0.35
"""Share of all pairs of nuclei that may lie within reach; with more, too few pairs are left to compare with."""
RING_GROWTH = 1.3
"""Outer over inner radius of a ring of distances."""
FEW_AREAS = 5
"""Number of independent areas below which the interval is flagged."""
SMALL_MM2 = 1.0
"""Occupied area below which the interval is flagged, mm2: clusters wider than the region cannot be seen in it."""

_WILSON = "Wilson score interval"
_BOOTSTRAP = "studentised spatial-block bootstrap of the logit; standard error over pairs of nuclei within reach"
_QUANTILE_LIMIT = 12.0
"""Largest quantile of the studentised ratio that is used; tiny samples give absurd ones."""


@dataclass(frozen=True, slots=True)
class SpatialInterval:
    """Interval of a share, and how it was found."""

    low: float
    high: float
    n_blocks: int
    """Number of blocks that hold nuclei; 0 where nothing was resampled."""
    block_um: float
    """Side of a block, um; 0 where nothing was resampled."""
    reach_um: float
    """Distance up to which nuclei were found to be alike, um; 0 where they were not, or count as independent."""
    method: str
    flags: tuple[str, ...]
    """Sentences on what limits the use of the interval; empty when nothing does."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Numerator and denominator of a ratio, summed over square cells."""

    part: NDArray[np.float64]
    """Positive nuclei of each cell, or weight times index, shape (rows, columns)."""
    whole: NDArray[np.float64]
    """All nuclei of each cell, or the weight, shape (rows, columns); 0 in an empty cell."""
    cell_um: float
    """Side of a cell, um."""
    corner: tuple[int, int]
    """Column and row of the first cell, counted from the corner of the slide's bounds."""


@dataclass(frozen=True, slots=True)
class StandardError:
    """Standard error of a ratio over a lattice."""

    value: float
    freedom: float
    """Degrees of freedom: about the number of areas that are independent of each other."""
    reach_um: float
    """Distance up to which pairs of nuclei were included, um."""


def block_bootstrap_interval(
    xy_um: NDArray[np.float64],
    positive: NDArray[np.bool_],
    *,
    block_um: float | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> SpatialInterval:
    """Compute the interval of the global index, positive / all, that allows for clusters.

    The interval is that of the expected index of tissue like this, E[density x probability] / E[density] of the random
    process that placed the nuclei and made them positive. It answers "what would another piece of this tumour give",
    not "how many of these nuclei are positive", which is known. Clusters wider than the region cannot be seen from
    inside it. No method has its stated coverage then, and this one adds a flag where few independent areas or a small
    region show the danger.

    1. Residuals e = positive - index x all are summed in cells. Their products over pairs of cells are added up, ring
       by ring of distance, until the first ring whose sum is not positive (initial positive sequence: Geyer 1992,
       Statistical Science 7:473; as a spatial covariance estimate: Conley 1999, J Econometrics 92:1). The sum is
       divided by 1 - s, where s is the share of all pairs within reach, since subtracting the slide's own index lowers
       it by that share. With few independent areas Student's t with 1 / s degrees of freedom widens the interval.
    2. Square blocks as wide as the reach, between 20 and about 300 of them, are drawn with replacement; quantiles of
       the studentised ratio on the logit scale (Hall 1992, The Bootstrap and Edgeworth Expansion; Lahiri 2003,
       Resampling Methods for Dependent Data) take the place of the normal ones.
    3. The interval is never narrower than Wilson's, which takes nuclei as independent.

    Parameters
    ----------
    xy_um
        Centroids, shape (n, 2), um from the corner of the slide's bounds.
    positive
        Whether each nucleus is positive, shape (n,).
    block_um
        Reach, um, which the side of a block follows; estimated from the slide when None.
    n_resamples
        Number of resamples, at least 100.
    confidence
        Coverage, between 0 and 1.
    seed
        Seed of the resampling; the same input and seed give the same interval.

    Returns
    -------
    The interval. It is Wilson's, with a flag, where there are too few nuclei of a class or too few blocks.

    Raises
    ------
    ValueError
        When shapes differ, a position is not finite, or an option is out of range.
    """
    xy_um, positive = check_nuclei(xy_um, positive)
    if block_um is not None and not (math.isfinite(block_um) and block_um > 0):
        raise ValueError(f"block: {block_um} um; a positive length is needed, such as 500.")
    if n_resamples < 100:
        raise ValueError(f"resamples: {n_resamples}; at least 100 are needed, 2000 are usual.")
    n, n_positive = len(positive), int(positive.sum())
    wilson = wilson_interval(n_positive, n, confidence)
    if min(n_positive, n - n_positive) < FEWEST_OF_A_KIND:
        kind = f"only {n_positive} positive and {n - n_positive} negative nuclei"
        return _fallback(wilson, f"{kind}: too few to see clusters; the interval takes nuclei as independent.")
    lattice = _lay_lattice(xy_um, positive)
    found = ratio_interval(lattice, reach_um=block_um, n_resamples=n_resamples, confidence=confidence, seed=seed)
    if found is None:
        return _fallback(
            wilson, "the region is too small to be cut into blocks; the interval takes nuclei as independent."
        )
    return SpatialInterval(
        low=min(found.low, wilson[0]),
        high=max(found.high, wilson[1]),
        n_blocks=found.n_blocks,
        block_um=found.block_um,
        reach_um=found.reach_um,
        method=found.method,
        flags=found.flags,
    )


def check_nuclei(
    xy_um: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Check positions and classes of nuclei, and return them as float64 and bool arrays.

    Raises
    ------
    ValueError
        When shapes differ or a position is not finite.
    """
    xy_um, positive = np.asarray(xy_um, np.float64), np.asarray(positive, bool)
    if xy_um.ndim != 2 or xy_um.shape[1] != 2 or positive.shape != (len(xy_um),):
        raise ValueError(
            f"nuclei: positions of shape {xy_um.shape}, classes of shape {positive.shape}; (n, 2) and (n,) are needed."
        )
    if not np.isfinite(xy_um).all():
        raise ValueError("nuclei: a position is not finite; centroids in um are needed.")
    return xy_um, positive


def count_cells(
    xy_um: NDArray[np.float64],
    positive: NDArray[np.bool_],
    cell_um: float = MIN_CELL_UM,
    max_cells: int = MAX_CELLS,
) -> Lattice:
    """Count nuclei in square cells on a grid that starts at the origin of the positions.

    Parameters
    ----------
    xy_um
        Centroids, shape (n, 2), n >= 1, um.
    positive
        Whether each nucleus is positive, shape (n,).
    cell_um
        Side of a cell, um; doubled until the extent needs no more than ``max_cells`` cells.
    max_cells
        Largest number of cells, which bounds the memory.
    """
    x, y = xy_um[:, 0], xy_um[:, 1]
    left, top, right, bottom = float(x.min()), float(y.min()), float(x.max()), float(y.max())
    while ((right - left) / cell_um + 2) * ((bottom - top) / cell_um + 2) > max_cells:
        cell_um *= 2
    corner = (math.floor(left / cell_um), math.floor(top / cell_um))
    columns = math.floor(right / cell_um) - corner[0] + 1
    rows = math.floor(bottom / cell_um) - corner[1] + 1
    index = np.floor(y / cell_um).astype(np.int64)
    index -= corner[1]
    index *= columns
    index += np.floor(x / cell_um).astype(np.int64)
    index -= corner[0]
    whole = np.bincount(index, minlength=rows * columns).reshape(rows, columns).astype(np.float64)
    part = np.bincount(index[positive], minlength=rows * columns).reshape(rows, columns).astype(np.float64)
    return Lattice(part, whole, float(cell_um), corner)


def merge_cells(lattice: Lattice, cells: int) -> Lattice:
    """Sum squares of ``cells`` x ``cells`` cells into one, on a grid that starts at the origin of the positions."""
    if cells == 1:
        return lattice
    starts = []
    for first, size in zip(reversed(lattice.corner), lattice.whole.shape, strict=True):
        offset = first % cells
        starts.append(np.unique(np.maximum(np.arange(0, offset + size, cells) - offset, 0)))
    part, whole = (
        np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
        for values in (lattice.part, lattice.whole)
    )
    corner = (lattice.corner[0] // cells, lattice.corner[1] // cells)
    return Lattice(part, whole, lattice.cell_um * cells, corner)


def ratio_interval(
    lattice: Lattice,
    *,
    reach_um: float | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> SpatialInterval | None:
    """Compute the interval of sum(part) / sum(whole), a share; see :func:`block_bootstrap_interval`.

    Returns
    -------
    The interval; None when there are fewer than ``FEWEST_BLOCKS`` blocks, or the share is 0 or 1.
    """
    share = float(lattice.part.sum() / lattice.whole.sum())
    error = standard_error(lattice, reach_um)
    area_um2 = np.count_nonzero(lattice.whole) * lattice.cell_um**2
    side_um = min(max(error.reach_um, math.sqrt(area_um2 / MAX_BLOCKS)), math.sqrt(area_um2 / MIN_BLOCKS))
    cells = max(1, round(side_um / lattice.cell_um))
    blocks = merge_cells(lattice, cells)
    kept = blocks.whole > 0
    part, whole = blocks.part[kept], blocks.whole[kept]
    if len(whole) < FEWEST_BLOCKS or not 0 < share < 1:
        return None
    tail = (1 - confidence) / 2
    below, above = _studentised_quantiles(part, whole, (tail, 1 - tail), n_resamples, seed)
    # With few independent areas the standard error itself is uncertain, and the blocks do not show that.
    wider = float(stdtrit(error.freedom, 1 - tail)) / NormalDist().inv_cdf(1 - tail)
    steps = np.clip(np.array([above, below]) * wider, -_QUANTILE_LIMIT, _QUANTILE_LIMIT)
    low, high = expit(logit(share) - steps * error.value / (share * (1 - share)))
    flags = []
    if area_um2 < SMALL_MM2 * 1e6:
        flags.append(
            f"nuclei cover {area_um2 / 1e6:.2f} mm2 only; clusters wider than that cannot be seen, "
            "so the interval may be too narrow for the tumour as a whole."
        )
    if error.freedom < FEW_AREAS:
        flags.append(
            f"nuclei are alike over {error.reach_um:.0f} um, which leaves about {error.freedom:.0f} independent areas; "
            "the interval is a rough one."
        )
    return SpatialInterval(
        float(low), float(high), len(whole), cells * lattice.cell_um, error.reach_um, _BOOTSTRAP, tuple(flags)
    )


def standard_error(lattice: Lattice, reach_um: float | None = None) -> StandardError:
    """Estimate the standard error of sum(part) / sum(whole), from products over all pairs of cells within reach.

    Parameters
    ----------
    lattice
        Lattice with at least one cell that is not empty.
    reach_um
        Largest distance of a pair, um; estimated from the lattice when None.
    """
    total = lattice.whole.sum()
    share = lattice.part.sum() / total
    products, pairs = _by_distance(lattice.part - share * lattice.whole, lattice.whole)
    variance, within = np.cumsum(products) / total**2, np.cumsum(pairs) / total**2
    corrected = np.maximum(variance, 0) / np.maximum(1 - within, 1e-3)
    longest = max(0, min(int(np.searchsorted(within, MAX_PAIR_SHARE)), len(within) - 1))
    if reach_um is None:
        ring = 0
        # Rings widen with distance: in a thin ring a likeness that falls off slowly is smaller than the noise.
        while ring < longest:
            wider = min(longest, max(ring + 1, math.ceil(ring * RING_GROWTH)))
            # Subtracting the slide's own index lowered every product; the second term adds the expected loss again.
            gain = variance[wider] - variance[ring] + (within[wider] - within[ring]) * corrected[ring]
            if gain <= 0:
                break
            ring = wider
    else:
        ring = min(longest, round(reach_um / lattice.cell_um))
    return StandardError(
        value=math.sqrt(corrected[ring]),
        freedom=max(1.0, 1 / float(within[ring])),
        reach_um=ring * lattice.cell_um,
    )


def _lay_lattice(xy_um: NDArray[np.float64], positive: NDArray[np.bool_]) -> Lattice:
    """Count nuclei in cells of 25 um, or of a multiple where nuclei are sparse."""
    fine = count_cells(xy_um, positive)
    density = len(xy_um) / (np.count_nonzero(merge_cells(fine, 2).whole) * (2 * fine.cell_um) ** 2)
    return merge_cells(fine, max(1, round(math.sqrt(NUCLEI_A_CELL / density) / fine.cell_um)))


def _by_distance(
    residual: NDArray[np.float64], whole: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum products of ``residual``, and of ``whole``, over all ordered pairs of cells, by distance in whole cells."""
    shape = [2 * size for size in residual.shape]
    steps = [np.minimum(np.arange(size), size - np.arange(size)) for size in shape]
    ring = np.rint(np.hypot(steps[0][:, None], steps[1][None, :])).astype(np.intp).ravel()
    n_rings = math.ceil(math.hypot(*residual.shape)) + 1

    def add_up(values: NDArray[np.float64]) -> NDArray[np.float64]:
        spectrum = np.fft.rfft2(values, shape)
        products = np.fft.irfft2(spectrum.real**2 + spectrum.imag**2, shape).ravel()
        return np.bincount(ring, weights=products, minlength=n_rings)[:n_rings].astype(np.float64)

    return add_up(residual), add_up(whole)


def _studentised_quantiles(
    part: NDArray[np.float64], whole: NDArray[np.float64], tails: tuple[float, float], n_resamples: int, seed: int
) -> tuple[float, float]:
    """Compute the quantiles of (logit of a resampled ratio - logit of the ratio) / its standard error."""
    n = len(whole)
    chosen = np.random.default_rng(seed).integers(0, n, (n_resamples, n))
    chosen += np.arange(n_resamples)[:, None] * n
    times = np.bincount(chosen.ravel(), minlength=n_resamples * n).reshape(n_resamples, n).astype(np.float64)
    sums = times @ np.stack([part, whole, part * part, part * whole, whole * whole], 1)
    share = sums[:, 0] / sums[:, 1]
    squares = sums[:, 2] - 2 * share * sums[:, 3] + share**2 * sums[:, 4]
    error = np.sqrt(np.maximum(squares, 0) * n / (n - 1)) / sums[:, 1]
    usable = (share > 0) & (share < 1) & (error > 0)
    normal = (NormalDist().inv_cdf(tails[0]), NormalDist().inv_cdf(tails[1]))
    if np.count_nonzero(usable) < n_resamples // 2:
        return normal
    share, error = share[usable], error[usable]
    moved = (logit(share) - logit(part.sum() / whole.sum())) * share * (1 - share) / error
    below, above = np.quantile(moved, tails)
    return float(below), float(above)


def _fallback(wilson: tuple[float, float], flag: str) -> SpatialInterval:
    return SpatialInterval(*wilson, n_blocks=0, block_um=0.0, reach_um=0.0, method=_WILSON, flags=(flag,))

"""The interval and all that it is made of, written once more with plain loops, agree on lattices of every kind."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from wsipsm.scoring.index import wilson_interval
from wsipsm.scoring.spatial import (
    Lattice,
    SpatialInterval,
    StandardError,
    block_bootstrap_interval,
    count_cells,
    ratio_interval,
    standard_error,
)


def drawn_lattice(seed: int, shape: tuple[int, int], filled: float, tile: int, cell_um: float) -> Lattice:
    """Shares that are alike in tiles; cells without nuclei; a corner anywhere."""
    random = np.random.default_rng(seed)
    whole = random.integers(1, 9, shape) * (random.random(shape) < filled)
    whole[0, 0], whole[-1, -1] = 3, 4
    chance = np.kron(random.beta(0.6, 1.4, [-(-size // tile) for size in shape]), np.ones((tile, tile)))
    part = random.binomial(whole, chance[: shape[0], : shape[1]])
    corner = random.integers(-9, 9, 2)
    return Lattice(part.astype(float), whole.astype(float), cell_um, (int(corner[0]), int(corner[1])))


def error_by_loops(lattice: Lattice, reach_um: float | None) -> StandardError:
    cells = list(np.ndindex(lattice.whole.shape))
    total = lattice.whole.sum()
    share = lattice.part.sum() / total
    residual = lattice.part - share * lattice.whole
    products: dict[int, float] = defaultdict(float)
    pairs: dict[int, float] = defaultdict(float)
    for one, other in itertools.product(cells, cells):
        distance = round(math.hypot(one[0] - other[0], one[1] - other[1]))
        products[distance] += residual[one] * residual[other] / total**2
        pairs[distance] += lattice.whole[one] * lattice.whole[other] / total**2
    last = max(pairs)
    variance = [sum(products[ring] for ring in range(end + 1)) for end in range(last + 1)]
    within = [sum(pairs[ring] for ring in range(end + 1)) for end in range(last + 1)]
    # The longest is the first by which 35 % of all pairs are passed.
    longest = next((ring for ring in range(last + 1) if within[ring] >= 0.35), last)

    def corrected(ring: int) -> float:
        return max(variance[ring], 0) / max(1 - within[ring], 0.001)

    ring = 0
    while reach_um is None and ring < longest:
        outer = min(longest, max(ring + 1, math.ceil(1.3 * ring)))
        if variance[outer] - variance[ring] + (within[outer] - within[ring]) * corrected(ring) <= 0:
            break
        ring = outer
    if reach_um is not None:
        ring = min(longest, round(reach_um / lattice.cell_um))
    return StandardError(math.sqrt(corrected(ring)), max(1.0, 1 / within[ring]), ring * lattice.cell_um)


def blocks_by_loops(lattice: Lattice, cells: int) -> NDArray[np.float64]:
    """Part and whole of blocks that hold nuclei, row by row, on lines that count from the slide's corner."""
    sums: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row, column in np.ndindex(lattice.whole.shape):
        block = sums[(row + lattice.corner[1]) // cells, (column + lattice.corner[0]) // cells]
        block[0] += lattice.part[row, column]
        block[1] += lattice.whole[row, column]
    return np.array([sums[key] for key in sorted(sums) if sums[key][1] > 0])


def quantiles_by_loops(
    blocks: NDArray[np.float64], tails: tuple[float, float], n_resamples: int, seed: int
) -> tuple[float, float]:
    n, moved = len(blocks), []
    share = blocks[:, 0].sum() / blocks[:, 1].sum()
    for chosen in np.random.default_rng(seed).integers(0, n, (n_resamples, n)):
        part, whole = blocks[chosen].T
        own = part.sum() / whole.sum()
        squares = ((part - own * whole) ** 2).sum()
        if 0 < own < 1 and squares > 1e-9:
            error = math.sqrt(squares * n / (n - 1)) / whole.sum()
            moved.append((logit(own) - logit(share)) * own * (1 - own) / error)
    if len(moved) < n_resamples // 2:
        return stats.norm.ppf(tails[0]), stats.norm.ppf(tails[1])
    return np.quantile(moved, tails[0]), np.quantile(moved, tails[1])


def interval_by_loops(
    lattice: Lattice, error: StandardError, n_resamples: int, confidence: float, seed: int
) -> SpatialInterval | None:
    share = lattice.part.sum() / lattice.whole.sum()
    area_um2 = sum(lattice.cell_um**2 for n in lattice.whole.flat if n > 0)
    side_um = error.reach_um
    side_um = max(side_um, math.sqrt(area_um2 / 300))
    side_um = min(side_um, math.sqrt(area_um2 / 20))
    cells = max(1, round(side_um / lattice.cell_um))
    blocks = blocks_by_loops(lattice, cells)
    if len(blocks) < 6 or share in (0, 1):
        return None
    tail = (1 - confidence) / 2
    below, above = quantiles_by_loops(blocks, (tail, 1 - tail), n_resamples, seed)
    wider = stats.t.ppf(1 - tail, error.freedom) / stats.norm.ppf(1 - tail)
    step = error.value / (share * (1 - share))
    low = expit(logit(share) - min(max(above * wider, -12), 12) * step)
    high = expit(logit(share) - min(max(below * wider, -12), 12) * step)
    flags = ["mm2 only"] * bool(area_um2 < 1e6) + ["independent areas"] * bool(error.freedom < 5)
    return SpatialInterval(low, high, len(blocks), cells * lattice.cell_um, error.reach_um, "", tuple(flags))


CASES = [
    # Shape, share of cells that hold nuclei, tile of cells that are alike, side of a cell.
    *itertools.product([(9, 13), (17, 6)], [1.0, 0.4], [1, 3, 6], [25.0, 100.0]),
    *itertools.product([(16, 16)], [1.0], [2, 4, 8], [25.0, 60.0]),
    *itertools.product([(1, 40), (40, 1), (3, 3), (2, 5)], [1.0, 0.5], [1, 2], [50.0]),
]


@pytest.mark.parametrize(("shape", "filled", "tile", "cell_um"), CASES)
@pytest.mark.parametrize("reach_cells", [None, 0.0, 2.4, 30.0])
def test_interval_by_loops(
    shape: tuple[int, int], filled: float, tile: int, cell_um: float, reach_cells: float | None
) -> None:
    lattice = drawn_lattice(CASES.index((shape, filled, tile, cell_um)), shape, filled, tile, cell_um)
    reach_um = None if reach_cells is None else reach_cells * cell_um
    error, expected_error = standard_error(lattice, reach_um), error_by_loops(lattice, reach_um)
    assert (error.value, error.freedom) == pytest.approx((expected_error.value, expected_error.freedom))
    assert error.reach_um == expected_error.reach_um
    confidence = 0.8 if tile == 2 else 0.97
    found = ratio_interval(lattice, reach_um=reach_um, n_resamples=150, confidence=confidence, seed=tile)
    expected = interval_by_loops(lattice, expected_error, 150, confidence, tile)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert (found.n_blocks, found.block_um, found.reach_um) == (
        expected.n_blocks,
        expected.block_um,
        expected.reach_um,
    )
    assert len(found.flags) == len(expected.flags)
    assert all(word in flag for word, flag in zip(expected.flags, found.flags, strict=True))


@pytest.mark.parametrize(("n_cells", "is_found"), [(5, False), (6, True)])
def test_six_blocks_are_needed(n_cells: int, is_found: bool) -> None:
    lattice = Lattice(np.arange(1.0, n_cells + 1)[None], np.full((1, n_cells), 10.0), 400.0, (0, 0))
    assert (ratio_interval(lattice, reach_um=0.0, n_resamples=100) is not None) is is_found


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_all_are_alike_there_is_no_ratio_to_resample(share: float) -> None:
    assert ratio_interval(Lattice(np.full((5, 5), 4 * share), np.full((5, 5), 4.0), 400.0, (0, 0))) is None


def test_quantiles_have_a_bound() -> None:
    """Blocks that are all alike but one, so that a resample's own error is next to nothing."""
    whole = np.full((1, 12), 1e4)
    part = np.full((1, 12), 5e3)
    part[0, ::2] += np.arange(6) - 2.5
    part[0, 0] += 4000
    lattice = Lattice(part, whole, 1000.0, (0, 0))
    for seed in range(4):
        found = ratio_interval(lattice, reach_um=0.0, n_resamples=200, confidence=0.95, seed=seed)
        expected = interval_by_loops(lattice, error_by_loops(lattice, 0.0), 200, 0.95, seed)
        assert found is not None
        assert expected is not None
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    error, share = standard_error(lattice, 0.0).value, part.sum() / whole.sum()
    assert logit(found.high) - logit(share) == pytest.approx(12 * error / (share * (1 - share)))


@pytest.mark.parametrize(("side", "is_flagged"), [(4, True), (5, False), (6, False)])
def test_fewer_than_five_independent_areas_are_flagged(side: int, is_flagged: bool) -> None:
    """Cells in a row that know nothing of each other, as many as are independent."""
    whole = np.zeros((1, 10 * side))
    whole[0, ::10] = 20
    part = np.zeros_like(whole)
    part[0, ::10] = np.arange(side) + 3
    lattice = Lattice(part, whole, 1000.0, (0, 0))
    assert standard_error(lattice, 0.0).freedom == pytest.approx(side)
    found = ratio_interval(Lattice(np.vstack([part] * 2), np.vstack([whole] * 2), 1000.0, (0, 0)), reach_um=1000.0)
    assert found is not None
    assert any("independent areas" in flag for flag in found.flags) is is_flagged


@pytest.mark.parametrize("seed", range(6))
def test_nuclei_become_the_lattice_that_their_density_asks_for(seed: int) -> None:
    """Cells of 25 um, or of the multiple that holds about four nuclei where cells of 50 um are occupied."""
    random = np.random.default_rng(seed)
    side_um = (300, 700, 1500, 2600, 4200, 7000)[seed]
    xy_um = random.random((3000, 2)) * side_um + random.uniform(-900, 900, 2)
    positive = random.random(3000) < 0.3
    occupied = {(x // 50, y // 50) for x, y in xy_um.tolist()}
    density = 3000 / (len(occupied) * 2500)
    multiple = max(1, round(math.sqrt(4 / density) / 25))
    # A lattice is anchored at the corner of the slide, so that counting anew gives the same as merging.
    lattice = count_cells(xy_um, positive, 25.0 * multiple)
    found = block_bootstrap_interval(xy_um, positive, n_resamples=120, confidence=0.9, seed=seed)
    inner = ratio_interval(lattice, n_resamples=120, confidence=0.9, seed=seed)
    assert inner is not None
    wilson = wilson_interval(int(positive.sum()), 3000, 0.9)
    assert (found.low, found.high) == (min(wilson[0], inner.low), max(wilson[1], inner.high))
    assert (found.n_blocks, found.block_um, found.reach_um, found.flags) == (
        inner.n_blocks,
        inner.block_um,
        inner.reach_um,
        inner.flags,
    )


@pytest.mark.parametrize("seed", range(8))
def test_cells_count_what_lies_in_them_and_grow_by_halves_of_the_memory(seed: int) -> None:
    random = np.random.default_rng(seed)
    xy_um = random.uniform(-700, 900, (200, 2)) * (1, (0.1, 1, 5)[seed % 3])
    xy_um[:20] = np.round(xy_um[:20] / 20) * 20  # on the lines between cells
    positive = random.random(200) < 0.4
    max_cells = (40, 400, 100_000)[seed % 3]
    lattice = count_cells(xy_um, positive, 20.0, max_cells)
    spans = xy_um.max(0) - xy_um.min(0)
    doubled = next(k for k in range(40) if np.prod(spans / (20 * 2**k) + 2) <= max_cells)
    assert lattice.cell_um == 20 * 2**doubled
    rows, columns = lattice.whole.shape
    assert lattice.corner == tuple(np.floor(xy_um.min(0) / lattice.cell_um))
    assert (columns - 1, rows - 1) == tuple(np.floor(xy_um.max(0) / lattice.cell_um) - lattice.corner)
    for row, column in np.ndindex(rows, columns):
        held = (xy_um // lattice.cell_um == np.add(lattice.corner, (column, row))).all(1)
        assert lattice.whole[row, column] == held.sum()
        assert lattice.part[row, column] == positive[held].sum()


def test_what_is_not_given_is_as_documented() -> None:
    """On nuclei that are alike in places, where no interval is as wide as Wilson's, so that each option shows."""
    random = np.random.default_rng(3)
    xy_um = random.random((1500, 2)) * 1200
    positive = random.random(1500) < np.where((xy_um // 150).sum(1) % 3 == 0, 0.8, 0.05)
    lattice = count_cells(xy_um, positive, 100.0)
    given = {"n_resamples": 2000, "confidence": 0.95, "seed": 0}
    found, of_lattice = block_bootstrap_interval(xy_um, positive), ratio_interval(lattice)
    assert found == block_bootstrap_interval(xy_um, positive, block_um=None, **given)
    assert of_lattice == ratio_interval(lattice, reach_um=None, **given)
    for other in ({"n_resamples": 4000}, {"confidence": 0.9}, {"seed": 1}):
        assert found != block_bootstrap_interval(xy_um, positive, **{**given, **other})
        assert of_lattice != ratio_interval(lattice, **{**given, **other})
    assert count_cells(xy_um, positive).cell_um == 25
    # 2**18 cells of 25 um: 512 of them, and no wider, fit side by side.
    ends = np.array([[0.0, 0.0], [25.0 * 510, 25.0 * 510]])
    assert count_cells(ends, np.ones(2, bool)).cell_um == 25
    assert count_cells(ends * 1.001, np.ones(2, bool)).cell_um == 50


@pytest.mark.parametrize("block_um", [0.0, -5.0, math.nan, math.inf])
def test_a_block_has_a_length(block_um: float) -> None:
    xy_um = np.random.default_rng(0).random((50, 2)) * 500
    with pytest.raises(ValueError, match="a positive length is needed"):
        block_bootstrap_interval(xy_um, np.arange(50) < 20, block_um=block_um)


@pytest.mark.parametrize(("n_resamples", "is_refused"), [(99, True), (100, False)])
def test_100_resamples_are_enough(n_resamples: int, is_refused: bool) -> None:
    xy_um, positive = np.random.default_rng(0).random((50, 2)) * 500, np.arange(50) < 20
    if not is_refused:
        assert block_bootstrap_interval(xy_um, positive, n_resamples=n_resamples).low > 0
        return
    with pytest.raises(ValueError, match="at least 100 are needed"):
        block_bootstrap_interval(xy_um, positive, n_resamples=n_resamples)


@pytest.mark.parametrize(("n_cells", "is_small"), [(99, True), (100, False), (101, False)])
def test_just_a_square_millimetre_is_not_small(n_cells: int, is_small: bool) -> None:
    lattice = Lattice(np.arange(n_cells)[None] % 5.0, np.full((1, n_cells), 6.0), 100.0, (0, 0))
    found = ratio_interval(lattice, n_resamples=100)
    assert found is not None
    assert any("mm2 only" in flag for flag in found.flags) is is_small
    assert not is_small or found.flags[0].startswith("nuclei cover 0.99 mm2 only")

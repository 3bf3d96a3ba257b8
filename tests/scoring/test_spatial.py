"""The interval that knows of clusters: wide where neighbours are alike, Wilson's where they are not."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import fftconvolve
from scipy.special import expit, logit

from wsipsm.scoring.index import wilson_interval
from wsipsm.scoring.spatial import (
    Lattice,
    SpatialInterval,
    block_bootstrap_interval,
    count_cells,
    merge_cells,
    ratio_interval,
    standard_error,
)

Nuclei = tuple[NDArray[np.float64], NDArray[np.bool_]]


def scatter(n: int, side_um: float, index: float, seed: int = 0) -> Nuclei:
    random = np.random.default_rng(seed)
    return random.random((n, 2)) * side_um, random.random(n) < index


def checkered(seed: int, n: int = 6000, side_um: float = 3000.0, tile_um: float = 250.0, index: float = 0.2) -> Nuclei:
    """Tiles that are alike inside and independent of each other; the expected index is ``index``."""
    random = np.random.default_rng(seed)
    xy_um = random.random((n, 2)) * side_um
    tiles = round(side_um / tile_um)
    chance = random.beta(2 * index, 2 * (1 - index), (tiles, tiles))
    column, row = (xy_um // tile_um).astype(int).T
    return xy_um, random.random(n) < chance[row, column]


def width(interval: SpatialInterval) -> float:
    return interval.high - interval.low


def test_independent_nuclei_give_about_wilsons_interval() -> None:
    ratios = []
    for seed in range(20):
        xy_um, positive = scatter(8000, 1700, 0.2, seed)
        low, high = wilson_interval(int(positive.sum()), len(positive))
        ratios.append(width(block_bootstrap_interval(xy_um, positive)) / (high - low))
    assert min(ratios) >= 1
    assert np.median(ratios) < 1.15


def test_clusters_widen_the_interval_as_much_as_the_design_says() -> None:
    # A tile's mean varies with p(1 - p) / 3 under this beta, which swamps counting: sd of the index = sqrt(.. / tiles).
    expected = np.sqrt(0.2 * 0.8 / 3 / 144)
    found = [width(block_bootstrap_interval(*checkered(seed))) / 2 / 1.96 for seed in range(30)]
    assert np.median(found) == pytest.approx(expected, rel=0.2)


def test_interval_covers_where_wilsons_does_not() -> None:
    ours = wilsons = 0
    for seed in range(150):
        xy_um, positive = checkered(seed)
        found = block_bootstrap_interval(xy_um, positive, n_resamples=400)
        low, high = wilson_interval(int(positive.sum()), len(positive))
        ours += found.low <= 0.2 <= found.high
        wilsons += low <= 0.2 <= high
    assert ours >= 136  # 90.7 %: four standard errors below 95 % would be 132
    assert wilsons < 90


def test_reach_is_about_the_clusters_size() -> None:
    reach = [block_bootstrap_interval(*checkered(seed)).reach_um for seed in range(10)]
    assert 125 <= np.median(reach) <= 500


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 400), st.floats(0, 1), st.floats(10, 5000), st.integers(0, 2**32 - 1))
def test_interval_holds_the_index_and_wilsons(n: int, index: float, side_um: float, seed: int) -> None:
    xy_um, positive = scatter(n, side_um, index, seed)
    found = block_bootstrap_interval(xy_um, positive, n_resamples=100)
    low, high = wilson_interval(int(positive.sum()), n)
    assert 0 <= found.low <= low <= high <= found.high <= 1
    assert found.n_blocks > 0 or found.flags


def test_same_seed_same_interval_and_order_does_not_matter() -> None:
    xy_um, positive = checkered(3)
    first = block_bootstrap_interval(xy_um, positive, seed=5)
    turned = np.random.default_rng(0).permutation(len(positive))
    assert block_bootstrap_interval(xy_um[turned], positive[turned], seed=5) == first
    assert block_bootstrap_interval(xy_um, positive, seed=6) != first


def test_too_few_of_a_kind_or_blocks_fall_back_to_wilson_and_say_so() -> None:
    xy_um, _ = scatter(2000, 800, 0.0)
    rare = np.zeros(2000, bool)
    rare[:3] = True
    found = block_bootstrap_interval(xy_um, rare)
    assert (found.low, found.high) == wilson_interval(3, 2000)
    assert "only 3 positive" in found.flags[0]
    heap = block_bootstrap_interval(np.full((100, 2), 7.0), np.arange(100) < 50)
    assert (heap.low, heap.high) == wilson_interval(50, 100)
    assert "too small" in heap.flags[0]
    assert (heap.n_blocks, heap.block_um, heap.reach_um) == (0, 0, 0)
    assert orjson.loads(orjson.dumps(heap))["n_blocks"] == 0


def test_small_region_and_wide_clusters_are_flagged() -> None:
    small = block_bootstrap_interval(*scatter(2000, 800, 0.2))
    assert any("mm2 only" in flag for flag in small.flags)
    xy_um, _ = scatter(9000, 3000, 0.2)
    halves = block_bootstrap_interval(xy_um, (xy_um[:, 0] > 1500) & (np.arange(9000) % 2 == 0))
    assert any("independent areas" in flag for flag in halves.flags)
    assert width(halves) > 0.3


def test_given_block_is_used() -> None:
    xy_um, positive = checkered(1)
    found = block_bootstrap_interval(xy_um, positive, block_um=300)
    assert found.reach_um == pytest.approx(300, abs=13)
    assert found.block_um == pytest.approx(300, abs=13)


@pytest.mark.parametrize(("n_per_mm2", "cell_um"), [(20_000, 25), (600, 75), (250, 100)])
def test_cells_hold_about_four_nuclei_and_are_no_finer_than_25_um(n_per_mm2: int, cell_um: float) -> None:
    """Seen from the reach, which is a whole number of cells: nuclei on a lattice, so that no chance is in it."""
    step_um = 1000 / np.sqrt(n_per_mm2)
    axis = np.arange(step_um / 2, 3000, step_um)
    xy_um = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    positive = np.random.default_rng(0).random(len(xy_um)) < 0.3
    found = {block_bootstrap_interval(xy_um, positive, block_um=block).reach_um for block in range(100, 400, 5)}
    assert sorted(found) == [cell_um * n for n in range(round(100 / cell_um), round(395 / cell_um) + 1)]


@pytest.mark.parametrize("extent", [(40_000.0, 10.0), (10.0, 40_000.0), (9000.0, 9000.0)])
@pytest.mark.parametrize("corner", [(0, 0), (90_000, -70_000), (-80_000, 60_000)])
def test_cells_are_merged_until_they_fit_the_memory(extent: tuple[float, float], corner: tuple[float, float]) -> None:
    xy_um = np.random.default_rng(0).random((500, 2)) * extent + corner
    lattice = count_cells(xy_um, np.zeros(500, bool), 10.0, max_cells=1000)
    assert lattice.whole.size <= 1000
    assert lattice.whole.sum() == 500
    assert lattice.whole.size > 100, "and no coarser than needed"


def test_where_resamples_have_one_class_only_the_normal_quantiles_are_taken() -> None:
    """All positive nuclei lie in one of many cells, which a third of resamples does not draw."""
    whole = np.full((6, 6), 40.0)
    part = np.zeros((6, 6))
    part[2, 3] = 40
    found = ratio_interval(Lattice(part, whole, 200.0, (0, 0)), reach_um=0, n_resamples=400)
    assert found is not None
    assert 0 < found.low < 1 / 36 < found.high < 1


def test_a_far_away_nucleus_does_not_take_the_memory() -> None:
    xy_um, positive = checkered(1)
    far = block_bootstrap_interval(np.append(xy_um, [[3e6, 2e6]], 0), np.append(positive, True))
    assert 0 <= far.low < far.high <= 1


def test_standard_error_is_the_sum_over_near_pairs() -> None:
    random = np.random.default_rng(4)
    whole = random.integers(0, 6, (9, 12)).astype(float)
    part = random.binomial(whole.astype(int), 0.3).astype(float)
    found = standard_error(Lattice(part, whole, 10.0, (0, 0)), reach_um=20)
    share, total = part.sum() / whole.sum(), whole.sum()
    residual = (part - share * whole).ravel()
    row, column = (axis.ravel() for axis in np.indices(whole.shape))
    near = np.rint(np.hypot(row[:, None] - row, column[:, None] - column)) <= 2
    within = (np.outer(whole, whole) * near).sum() / total**2
    expected = (np.outer(residual, residual) * near).sum() / total**2 / (1 - within)
    assert found.value == pytest.approx(np.sqrt(expected))
    assert found.freedom == pytest.approx(1 / within)


def test_merged_cells_are_cells_counted_coarsely() -> None:
    random = np.random.default_rng(2)
    xy_um, positive = random.uniform(-300, 500, (500, 2)), random.random(500) < 0.4
    merged, coarse = merge_cells(count_cells(xy_um, positive, 20), 3), count_cells(xy_um, positive, 60)
    assert merged.corner == coarse.corner
    np.testing.assert_array_equal(merged.whole, coarse.whole)
    np.testing.assert_array_equal(merged.part, coarse.part)


def test_what_are_no_nuclei_is_refused() -> None:
    xy_um, positive = scatter(100, 500, 0.5)
    with pytest.raises(ValueError, match=r"shape \(100, 2\), classes of shape \(99,\)"):
        block_bootstrap_interval(xy_um, positive[1:])
    with pytest.raises(ValueError, match="not finite"):
        block_bootstrap_interval(np.where(xy_um > 499, np.nan, np.nan), positive)
    with pytest.raises(ValueError, match="block: -1"):
        block_bootstrap_interval(xy_um, positive, block_um=-1)
    with pytest.raises(ValueError, match="resamples: 5"):
        block_bootstrap_interval(xy_um, positive, n_resamples=5)


def dense(part: NDArray[np.float64], cell_um: float = 1.0) -> Lattice:
    """Four nuclei in every cell, of which a share is positive."""
    return Lattice(4 * part, np.full(part.shape, 4.0), cell_um, (0, 0))


def alike_up_to(diameter: int, seed: int, side: int = 200) -> Lattice:
    """Shares that are means of white noise over a disk: alike up to its diameter, and not at all beyond."""
    noise = np.random.default_rng(seed).normal(size=(side + diameter, side + diameter))
    disk = np.hypot(*(np.indices((diameter, diameter)) - (diameter - 1) / 2)) <= diameter / 2
    means = fftconvolve(noise, disk / np.sqrt(disk.sum()), mode="valid")[:side, :side]
    return dense(np.clip(0.4 + 0.1 * means, 0.01, 0.99))


@pytest.mark.parametrize("diameter", [9, 13, 18])
def test_reach_is_the_distance_up_to_which_shares_are_alike(diameter: int) -> None:
    """Known here from how they were made; rings of distance may overshoot it by their own width, no more."""
    reach = [standard_error(alike_up_to(diameter, seed)).reach_um for seed in range(20)]
    assert 0.75 <= np.median(reach) / diameter <= 1.5


@pytest.mark.parametrize("side", [120, 200, 333])
def test_blocks_are_as_wide_as_the_reach_where_that_leaves_20_to_300(side: int) -> None:
    random = np.random.default_rng(side)
    lattice = dense(random.binomial(4, 0.3, (side, side)) / 4, cell_um=25.0)
    extent_um = side * 25.0
    found = {}
    for share in (0, 0.01, 0.03, 0.08, 0.12, 0.16, 0.2, 0.5, 0.9):
        interval = ratio_interval(lattice, reach_um=share * extent_um, n_resamples=100)
        assert interval is not None
        found[share] = interval
        if 0.08 <= share <= 0.2:
            assert interval.block_um == pytest.approx(share * extent_um, abs=13)
    n_blocks = [interval.n_blocks for interval in found.values()]
    assert 20 <= min(n_blocks) <= 30
    assert 250 <= max(n_blocks) <= 340
    assert n_blocks == sorted(n_blocks, reverse=True)


@pytest.mark.parametrize(("area_mm2", "is_small"), [(0.8, True), (1.25, False)])
def test_a_region_is_called_small_below_one_mm2(area_mm2: float, is_small: bool) -> None:
    xy_um, positive = scatter(8000, 1000 * np.sqrt(area_mm2), 0.3)
    flags = block_bootstrap_interval(xy_um, positive, n_resamples=100).flags
    assert any("mm2 only" in flag for flag in flags) is is_small


@pytest.mark.parametrize("shape", [(40, 40), (30, 90), (8, 200)])
def test_a_trend_over_the_whole_slide_leaves_pairs_to_compare_with(shape: tuple[int, int]) -> None:
    """Alike up to the slide's end: the reach stops where about a third of all pairs are within it."""
    trend = np.add.outer(np.linspace(0, 1, shape[0]), np.linspace(0, 1, shape[1])) / 2
    error = standard_error(dense(trend))
    row, column = (axis.ravel() for axis in np.indices(shape))
    distances = np.hypot(row[:, None] - row, column[:, None] - column)
    within = np.mean(np.rint(distances) <= error.reach_um)
    assert 0.25 < within < 0.45
    assert error.freedom == pytest.approx(1 / within)
    # The index of such a slide is uncertain, if less than that of one nucleus.
    assert 0.05 < error.value < 0.5


@pytest.mark.parametrize(("n_positive", "is_resampled"), [(4, False), (5, True), (1995, True), (1996, False)])
def test_five_of_a_kind_are_resampled(n_positive: int, is_resampled: bool) -> None:
    xy_um, _ = scatter(2000, 1500, 0.0)
    found = block_bootstrap_interval(xy_um, np.arange(2000) < n_positive, n_resamples=100)
    assert (found.n_blocks > 0) is is_resampled
    assert any("too few to see clusters" in flag for flag in found.flags) is not is_resampled


@pytest.mark.parametrize("index", [0.03, 0.3, 0.9])
def test_the_interval_is_the_studentised_bootstrap_of_its_blocks(index: float) -> None:
    """Against a loop over draws, each with its own residuals."""
    random = np.random.default_rng(7)
    part = random.binomial(4, np.kron(random.beta(4 * index, 4 * (1 - index), (9, 9)), np.ones((4, 4)))) / 4
    lattice = dense(part, cell_um=25.0)
    found = ratio_interval(lattice, reach_um=100, n_resamples=300, confidence=0.9, seed=4)
    assert found is not None
    blocks, error = merge_cells(lattice, round(found.block_um / 25)), standard_error(lattice, 100)
    positive, every = blocks.part.ravel(), blocks.whole.ravel()
    n, share = len(every), positive.sum() / every.sum()
    assert found.n_blocks == n == 81
    moved = []
    for drawn in np.random.default_rng(4).integers(0, n, (300, n)):
        own = positive[drawn].sum() / every[drawn].sum()
        residuals = positive[drawn] - own * every[drawn]
        own_error = np.sqrt((residuals**2).sum() * n / (n - 1)) / every[drawn].sum()
        moved.append((logit(own) - logit(share)) * own * (1 - own) / own_error)
    below, above = np.quantile(moved, (0.05, 0.95))
    wider = stats.t.ppf(0.95, error.freedom) / stats.norm.ppf(0.95)
    step = wider * error.value / (share * (1 - share))
    assert (found.low, found.high) == pytest.approx(expit(logit(share) - step * np.array([above, below])))


@pytest.mark.parametrize("side", [20, 41])
def test_neighbours_that_are_unlike_have_no_reach(side: int) -> None:
    """A chequerboard: no two cells side by side are alike, so each counts by itself."""
    row, column = np.indices((side, side))
    lattice = dense(0.25 + 0.5 * ((row + column) % 2))
    error = standard_error(lattice)
    assert error.reach_um == 0
    share, total = lattice.part.sum() / lattice.whole.sum(), lattice.whole.sum()
    alone = ((lattice.part - share * lattice.whole) ** 2).sum() / total**2 / (1 - 1 / side**2)
    assert error.value == pytest.approx(np.sqrt(alone))

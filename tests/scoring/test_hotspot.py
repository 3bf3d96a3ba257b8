"""The hot spot: found where it is, counted exactly, and owned up to where there is none."""

from __future__ import annotations

import itertools

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from wsipsm.scoring.hotspot import FEWEST_SEARCHES, HotSpot, _smooth, find_hot_spot
from wsipsm.scoring.spatial import Lattice

Nuclei = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]


def draw(seed: int, side_um: float = 2000.0, index: float = 0.1, spot: float | None = None) -> Nuclei:
    """3,000 nuclei per mm2 with their probabilities; a spot of radius 350 um at (1200, 700)."""
    random = np.random.default_rng(seed)
    xy_um = random.random((round(side_um**2 * 0.003), 2)) * side_um
    chance = np.full(len(xy_um), index)
    if spot is not None:
        chance[np.hypot(*(xy_um - (1200, 700)).T) < 350] = spot
    return xy_um, random.random(len(xy_um)) < chance, chance


def inside(spot: HotSpot, xy_um: NDArray[np.float64]) -> NDArray[np.bool_]:
    corner = np.array([spot.x_um, spot.y_um]) - spot.side_um / 2
    return np.asarray(((xy_um >= corner) & (xy_um < corner + spot.side_um)).all(1))


@pytest.mark.parametrize("min_nuclei", [500, 40, 8])
@pytest.mark.parametrize("corner", [(0, 0), (1150, -2450)])
def test_spot_counts_what_lies_in_its_square_and_none_is_higher(min_nuclei: int, corner: tuple[int, int]) -> None:
    xy_um, positive, _ = draw(0, side_um=900)
    xy_um = xy_um + corner
    spot = find_hot_spot(xy_um, positive, min_nuclei=min_nuclei, n_resamples=20).spot
    assert spot is not None
    own = inside(spot, xy_um)
    assert (spot.n, spot.n_positive) == (own.sum(), positive[own].sum())
    assert spot.n >= min_nuclei
    best, smallest, n_places = 0.0, 0, 0
    starts = ((range(edge // 100 * 100, edge + 900, 100)) for edge in corner)
    for left, top in itertools.product(*starts):
        for side in range(50, 1501, 50):
            held = ((xy_um >= (left, top)) & (xy_um < (left + side, top + side))).all(1)
            if held.sum() >= min_nuclei:
                n_places += 1
                index = positive[held].mean()
                if index > best:
                    best, smallest = index, side
                elif index == best:
                    smallest = min(smallest, side)
                break
    assert (spot.index, spot.side_um, spot.n_places) == (pytest.approx(best), smallest, n_places)


def test_real_spot_is_found_and_covered() -> None:
    covered = 0
    for seed in range(20):
        xy_um, positive, chance = draw(seed, spot=0.4)
        spot = find_hot_spot(xy_um, positive, seed=seed, n_resamples=20).spot
        assert spot is not None
        assert np.hypot(spot.x_um - 1200, spot.y_um - 700) < 250
        covered += spot.low <= chance[inside(spot, xy_um)].mean() <= spot.high
    assert covered >= 17


def test_without_a_real_spot_wilson_misses_and_the_interval_covers() -> None:
    ours = wilsons = 0
    bias = []
    for seed in range(40):
        xy_um, positive, _ = draw(seed)
        spot = find_hot_spot(xy_um, positive, seed=seed, n_resamples=20).spot
        assert spot is not None
        ours += spot.low <= 0.1 <= spot.high
        wilsons += spot.wilson_low <= 0.1 <= spot.wilson_high
        bias.append(spot.corrected - 0.1)
    assert ours >= 34
    assert wilsons <= 20
    assert abs(np.mean(bias)) < 0.006


def test_interval_holds_wilsons_and_the_corrected_index() -> None:
    for index in (0.0, 0.004, 0.5, 1.0):
        xy_um, positive, _ = draw(1, side_um=800, index=index)
        spot = find_hot_spot(xy_um, positive).spot
        assert spot is not None
        assert 0 <= spot.low <= spot.corrected <= spot.index <= spot.high <= 1
        assert spot.low <= spot.wilson_low
        assert spot.high == spot.wilson_high


def test_below_500_nuclei_is_not_scorable() -> None:
    xy_um, positive, _ = draw(2)
    search = find_hot_spot(xy_um[:499], positive[:499])
    assert search.spot is None
    assert search.reason == "not scorable: 499 nuclei in the region; a hot spot needs at least 500."
    assert orjson.loads(orjson.dumps(search))["spot"] is None
    assert find_hot_spot(np.empty((0, 2)), np.empty(0, bool)).spot is None


def test_sparse_tissue_is_no_spot() -> None:
    xy_um = np.random.default_rng(0).random((2000, 2)) * 20_000
    search = find_hot_spot(xy_um, np.ones(2000, bool))
    assert search.spot is None
    assert search.reason is not None
    assert "too sparse" in search.reason


def test_same_seed_same_spot_and_order_does_not_matter() -> None:
    xy_um, positive, _ = draw(3)
    turned = np.random.default_rng(0).permutation(len(positive))
    first = find_hot_spot(xy_um, positive, seed=1)
    assert find_hot_spot(xy_um[turned], positive[turned], seed=1) == first
    assert orjson.loads(orjson.dumps(first))["reason"] is None


def test_place_moves_with_the_slide() -> None:
    xy_um, positive, _ = draw(4, spot=0.4)
    here, there = (find_hot_spot(xy_um + shift, positive).spot for shift in (0.0, 5000.0))
    assert here is not None
    assert there is not None
    assert (there.x_um - here.x_um, there.y_um - here.y_um, there.index) == (5000.0, 5000.0, here.index)


def test_options_out_of_range_are_refused() -> None:
    xy_um, positive, _ = draw(0)
    assert find_hot_spot(xy_um, positive, min_nuclei=1, n_resamples=FEWEST_SEARCHES).spot is not None
    for options in ({"min_nuclei": 0}, {"max_side_um": 10.0}, {"max_side_um": float("nan")}, {"n_resamples": 2}):
        with pytest.raises(ValueError, match="hot spot:"):
            find_hot_spot(xy_um, positive, **options)


def test_what_a_search_draws_from_is_the_local_index_pulled_to_the_slides() -> None:
    """Against loops: the variance between fields that is not counting (method of moments) says how far."""
    random = np.random.default_rng(8)
    whole = random.integers(3, 9, (12, 16)).astype(float)
    chance = np.repeat(np.repeat(random.beta(2, 6, (3, 4)), 4, 0), 4, 1)
    part = random.binomial(whole.astype(int), chance).astype(float)
    found = _smooth(Lattice(part, whole, 50.0, (0, 0)), 4)
    share = part.sum() / whole.sum()
    above = pairs = 0.0
    for row, column in itertools.product(range(0, 12, 4), range(0, 16, 4)):
        n = whole[row : row + 4, column : column + 4].sum()
        above += (part[row : row + 4, column : column + 4].sum() - share * n) ** 2 - share * (1 - share) * n
        pairs += n * (n - 1)
    between = above / pairs
    assert between > 0.005
    for row, column in itertools.product(range(12), range(16)):
        held = np.s_[max(0, row - 2) : row + 2, max(0, column - 2) : column + 2]
        n, local = whole[held].sum(), part[held].sum() / whole[held].sum()
        pull = np.sqrt(between / (between + share * (1 - share) / n))
        assert found[row, column] == pytest.approx(share + pull * (local - share))


def test_a_slide_that_is_alike_everywhere_is_drawn_from_its_index() -> None:
    whole = np.full((8, 8), 10.0)
    found = _smooth(Lattice(whole * 0.2, whole, 50.0, (0, 0)), 4)
    assert found == pytest.approx(np.full((8, 8), 0.2))


@pytest.mark.parametrize(("max_side_um", "is_found"), [(500, True), (499, False), (450, False), (1500, True)])
def test_a_square_of_just_the_largest_side_is_a_candidate(max_side_um: float, is_found: bool) -> None:
    """One nucleus in each cell of 50 um, so that 100 need a side of 500 um."""
    axis = np.arange(25.0, 1000, 50)
    xy_um = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    positive = np.arange(len(xy_um)) % 3 == 0
    spot = find_hot_spot(xy_um, positive, min_nuclei=100, max_side_um=max_side_um, n_resamples=20).spot
    assert (spot is not None) is is_found
    assert spot is None or (spot.side_um, spot.n) == (500, 100)

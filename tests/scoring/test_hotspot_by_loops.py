"""The search for the hot spot with all its draws, written once more with plain loops: the same spot and interval."""

from __future__ import annotations

import itertools
import math
from statistics import median

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from wsipsm.scoring.hotspot import HotSpot, _smooth, find_hot_spot
from wsipsm.scoring.index import wilson_interval
from wsipsm.scoring.spatial import Lattice

Cell = tuple[int, int]
Place = tuple[int, int, int]
"""First row and column, and cells on a side."""


def counted(xy_um: NDArray[np.float64], positive: NDArray[np.bool_]) -> dict[Cell, tuple[int, int]]:
    """Positive and all nuclei of each cell of 50 um that has some, row by row."""
    cells: dict[Cell, tuple[int, int]] = {}
    for (x, y), is_positive in zip(xy_um.tolist(), positive.tolist(), strict=True):
        cell = (math.floor(y / 50), math.floor(x / 50))
        part, whole = cells.get(cell, (0, 0))
        cells[cell] = (part + is_positive, whole + 1)
    return dict(sorted(cells.items()))


def total(values: dict[Cell, float], place: Place) -> float:
    top, left, side = place
    return sum(values.get(cell, 0) for cell in itertools.product(range(top, top + side), range(left, left + side)))


def candidates(whole: dict[Cell, float], min_nuclei: int, max_cells: int) -> list[Place]:
    rows, columns = ([cell[axis] for cell in whole] for axis in (0, 1))
    found = []
    corners = itertools.product(
        range(min(rows) // 2 * 2, max(rows) + 1, 2), range(min(columns) // 2 * 2, max(columns) + 1, 2)
    )
    for top, left in corners:
        sides = (side for side in range(1, max_cells + 1) if total(whole, (top, left, side)) >= min_nuclei)
        side = next(sides, None)
        if side is not None:
            found.append((top, left, side))
    # The code looks at all places of a side before it goes on to the next.
    return sorted(found, key=lambda place: place[2])


def pulled(part: dict[Cell, float], whole: dict[Cell, float], side: int) -> dict[Cell, float]:
    n = sum(whole.values())
    share = min(max(sum(part.values()) / n, 0.5 / n), 1 - 0.5 / n)
    fields: dict[Cell, list[float]] = {}
    for row, column in whole:
        field = fields.setdefault((row // side, column // side), [0, 0])
        field[0] += part[row, column]
        field[1] += whole[row, column]
    above = sum((p - share * w) ** 2 for p, w in fields.values()) - share * (1 - share) * n
    between = max(0.0, above / max(1.0, sum(w * (w - 1) for _, w in fields.values())))
    smooth = {}
    for row, column in whole:
        around = (row - side // 2, column - side // 2, side)
        held = max(total(whole, around), 1)
        pull = math.sqrt(between / (between + share * (1 - share) / held))
        local = share + pull * (total(part, around) / held - share)
        smooth[row, column] = min(max(local, 1 / 65536), 1 - 1 / 65536)
    return smooth


def spot_by_loops(
    xy_um: NDArray[np.float64], positive: NDArray[np.bool_], min_nuclei: int, n_resamples: int, seed: int
) -> HotSpot:
    cells = counted(xy_um, positive)
    part, whole = ({cell: float(pair[which]) for cell, pair in cells.items()} for which in (0, 1))
    places = candidates(whole, min_nuclei, 30)
    nuclei = {place: total(whole, place) for place in places}
    # The highest index, of these the smallest, of these the first.
    best = max(places, key=lambda place: (total(part, place) / nuclei[place], -place[2]))
    n, n_positive = int(nuclei[best]), int(total(part, best))
    chance = pulled(part, whole, int(median(place[2] for place in places)))
    expected = {place: total({c: chance[c] * whole[c] for c in cells}, place) / nuclei[place] for place in places}
    random, gains = np.random.default_rng(seed), []
    for _ in range(n_resamples):
        draws = random.integers(0, 65536, len(xy_um), dtype=np.uint16).tolist()
        drawn: dict[Cell, float] = {}
        for cell in cells:
            own, draws = draws[: int(whole[cell])], draws[int(whole[cell]) :]
            drawn[cell] = sum(draw < min(max(round(chance[cell] * 65536), 1), 65535) for draw in own)
        counts = {place: total(drawn, place) for place in places}
        winner = max(places, key=lambda place: counts[place] / nuclei[place])
        gains.append(logit((counts[winner] + 0.5) / (nuclei[winner] + 1)) - logit(expected[winner]))
    centre = logit((n_positive + 0.5) / (n + 1)) - np.mean(gains)
    low = expit(centre - stats.norm.ppf(0.95) * np.std(gains, ddof=1))
    wilson = wilson_interval(n_positive, n, 0.9)
    return HotSpot(
        x_um=best[1] * 50 + best[2] * 25.0,
        y_um=best[0] * 50 + best[2] * 25.0,
        side_um=best[2] * 50.0,
        n=n,
        n_positive=n_positive,
        index=n_positive / n,
        corrected=min(expit(centre), n_positive / n),
        low=min(low, wilson[0]),
        high=wilson[1],
        wilson_low=wilson[0],
        wilson_high=wilson[1],
        n_places=len(places),
        method="",
    )


@pytest.mark.parametrize("index", [0.0, 0.08, 0.4, 1.0])
@pytest.mark.parametrize(("min_nuclei", "corner"), [(12, (0, 0)), (40, (-1270, 730)), (3, (410, -90))])
@pytest.mark.parametrize("has_spot", [False, True])
def test_spot_by_loops(index: float, min_nuclei: int, corner: tuple[int, int], has_spot: bool) -> None:
    random = np.random.default_rng(min_nuclei)
    xy_um = random.random((240, 2)) * (600, 450)
    positive = random.random(240) < index
    if has_spot:
        positive |= (np.hypot(*(xy_um - (400, 200)).T) < 110) & (random.random(240) < 0.7)
    xy_um += corner
    found = find_hot_spot(xy_um, positive, min_nuclei=min_nuclei, n_resamples=21, confidence=0.9, seed=5).spot
    assert found is not None
    expected = spot_by_loops(xy_um, positive, min_nuclei, 21, 5)
    for name in HotSpot.__slots__:
        if name != "method":
            assert getattr(found, name) == pytest.approx(getattr(expected, name)), name


def heap(n_positive: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Many nuclei in 16 cells, so that a search of them all is quick."""
    cell = np.arange(n) % 16
    return np.stack([cell % 4, cell // 4], 1) * 50.0 + 25, np.random.default_rng(0).permutation(n) < n_positive


@pytest.mark.parametrize(("n", "n_searches"), [(999_999, 25), (1_000_000, 20)])
def test_from_a_million_nuclei_on_20_searches_are_enough(n: int, n_searches: int) -> None:
    """As many as were asked for below; seen from the deviation of their gains, which other draws would change."""
    xy_um, positive = heap(n // 5, n)
    asked, fewer = (find_hot_spot(xy_um, positive, n_resamples=k, seed=2).spot for k in (25, 20))
    assert asked is not None
    assert fewer is not None
    assert (asked == fewer) is (n_searches == 20)


@pytest.mark.parametrize("n_beside", [0, 3])
def test_a_cell_may_hold_more_than_two_bytes_count(n_beside: int) -> None:
    """Nearly all of 100,000 nuclei in each cell are positive, which a count of 16 bits would not hold."""
    xy_um, positive = heap(1_590_000, 1_600_000)
    beside = np.full((n_beside, 2), 1025.0)  # a cell of few does not make the others smaller
    xy_um, positive = np.concatenate([xy_um, beside]), np.append(positive, np.zeros(n_beside, bool))
    spot = find_hot_spot(xy_um, positive, n_resamples=20).spot
    assert spot is not None
    assert spot.corrected == pytest.approx(0.99375, abs=0.002)
    assert spot.low == pytest.approx(0.99375, abs=0.004)
    assert spot.corrected < spot.index, "the luck of 20 searches, which a count that ran over would turn into none"


def test_what_is_not_given_is_as_documented() -> None:
    random = np.random.default_rng(1)
    xy_um, positive = random.random((1400, 2)) * 3500, random.random(1400) < 0.2
    given = find_hot_spot(xy_um, positive, min_nuclei=500, max_side_um=1500.0, n_resamples=40, confidence=0.95, seed=0)
    assert find_hot_spot(xy_um, positive) == given
    assert given.spot is None, "1,400 nuclei on 12 mm2 need a square of 2.1 mm"
    crowded = find_hot_spot(xy_um / 2, positive)
    options = {"min_nuclei": 500, "max_side_um": 1500.0, "n_resamples": 40, "confidence": 0.95, "seed": 0}
    assert crowded == find_hot_spot(xy_um / 2, positive, **options)
    for other in ({"min_nuclei": 600}, {"n_resamples": 41}, {"confidence": 0.9}, {"seed": 1}):
        assert crowded != find_hot_spot(xy_um / 2, positive, **{**options, **other})
    assert crowded.spot is not None
    assert crowded.spot.n >= 500


@pytest.mark.parametrize(("side_um", "n_cells"), [(50.0, 1), (99.0, 1), (100.0, 2)])
def test_the_smallest_square_is_a_cell(side_um: float, n_cells: int) -> None:
    axis = np.arange(25.0, 300, 50)
    xy_um = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    positive = np.arange(36) % 2 == 0
    found = find_hot_spot(xy_um, positive, min_nuclei=1, max_side_um=side_um, n_resamples=20).spot
    assert found is not None
    assert (found.n, found.side_um) == (1, 50)
    largest = find_hot_spot(xy_um, positive, min_nuclei=4, max_side_um=side_um, n_resamples=20).spot
    assert (largest is not None) is (n_cells == 2)


def test_just_as_many_nuclei_as_are_needed() -> None:
    xy_um, positive = np.full((30, 2), 10.0), np.arange(30) < 9
    spot = find_hot_spot(xy_um, positive, min_nuclei=30).spot
    assert spot is not None
    assert (spot.n, spot.n_places) == (30, 1)


@pytest.mark.parametrize(("n_cells", "side_um"), [(1446, 50), (1447, 100)])
def test_cells_grow_where_two_million_do_not_hold_the_slide(n_cells: int, side_um: float) -> None:
    """Of 2**21 cells 1448 lie side by side; one more than the extent asks for is allowed at either end."""
    xy_um = np.append(np.full((500, 2), 25.0), [[25 + 50.0 * n_cells] * 2], 0)
    spot = find_hot_spot(xy_um, np.arange(501) < 100, n_resamples=20).spot
    assert spot is not None
    assert (spot.side_um, spot.n) == (side_um, 500)


@pytest.mark.parametrize(("n_positive", "chance"), [(0, 1 / 65536), (100_000, 1 - 1 / 65536)])
def test_a_chance_is_drawn_from_65536_steps_and_neither_never_nor_always(n_positive: int, chance: float) -> None:
    whole = np.full((2, 2), 25_000.0)
    found = _smooth(Lattice(whole * n_positive / 100_000, whole, 50.0, (0, 0)), 1)
    assert found == pytest.approx(np.full((2, 2), chance), rel=1e-9, abs=1e-9)


def test_a_cell_of_just_as_many_nuclei_as_two_bytes_do_not_count() -> None:
    spot = find_hot_spot(np.full((65_536, 2), 25.0), np.ones(65_536, bool), n_resamples=20).spot
    assert spot is not None
    assert spot.low > 0.999

"""Means over fields: counts against plain loops, weights, what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.scoring.fields import Fields, area_weighted_mean, lay_fields, unweighted_mean
from wsipsm.scoring.spatial import Lattice, ratio_interval


def scatter(n: int, side_um: float, index: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random((n, 2)) * side_um, random.random(n) < index


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 300), st.floats(50, 900), st.integers(0, 1000), st.sampled_from([(0, 0), (900, 7100), (-1300, -40)])
)
def test_every_nucleus_is_in_the_one_field_that_holds_it(
    n: int, side_um: float, seed: int, corner: tuple[float, float]
) -> None:
    xy_um, positive = scatter(n, 2000, 0.3, seed)
    xy_um = xy_um + corner
    fields = lay_fields(xy_um, positive, side_um=side_um)
    assert (fields.n.sum(), fields.n_positive.sum()) == (n, positive.sum())
    for (left, top, right, bottom), count, count_positive in zip(
        fields.boxes_um, fields.n, fields.n_positive, strict=True
    ):
        inside = (xy_um[:, 0] >= left) & (xy_um[:, 0] < right) & (xy_um[:, 1] >= top) & (xy_um[:, 1] < bottom)
        # A nucleus within rounding of an edge may be counted on either side of it.
        assert abs(inside.sum() - count) <= 1
        assert abs(positive[inside].sum() - count_positive) <= 1


def test_fields_do_not_move_with_the_region() -> None:
    xy_um, positive = scatter(5000, 4000, 0.3, 1)
    everywhere = lay_fields(xy_um, positive)
    cut = xy_um[:, 0] > 1300
    part = lay_fields(xy_um[cut], positive[cut])
    counts = {(c, r): n for c, r, n in zip(everywhere.column, everywhere.row, everywhere.n, strict=True)}
    whole = part.column > 2
    assert all(counts[c, r] == n for c, r, n in zip(part.column[whole], part.row[whole], part.n[whole], strict=True))


def test_means_against_their_definition() -> None:
    xy_um, positive = scatter(6000, 3000, 0.25, 2)
    fields = lay_fields(xy_um, positive)
    area_um2 = np.random.default_rng(0).uniform(1e4, 2.5e5, len(fields.n))
    assert unweighted_mean(fields).value == pytest.approx((fields.n_positive / fields.n).mean())
    weighted = area_weighted_mean(fields, area_um2)
    assert weighted.value == pytest.approx((area_um2 * fields.index).sum() / area_um2.sum())
    assert weighted.n_nuclei == 6000
    assert weighted.low is not None
    assert weighted.high is not None
    assert weighted.low < 0.25 < weighted.high
    alike, plain = area_weighted_mean(fields, np.full(len(fields.n), 2.5e5)), unweighted_mean(fields)
    assert (alike.value, alike.low, alike.high) == pytest.approx((plain.value, plain.low, plain.high))
    assert (alike.n_fields, alike.n_nuclei, alike.flags) == (plain.n_fields, plain.n_nuclei, plain.flags)


def test_fields_speak_alike_however_many_nuclei_they_hold() -> None:
    random = np.random.default_rng(3)
    dense, sparse = random.random((900, 2)) * 500, random.random((100, 2)) * 500 + (500, 0)
    positive = np.arange(1000) < 900
    mean = unweighted_mean(lay_fields(np.concatenate([dense, sparse]), positive))
    assert mean.value == 0.5
    assert mean.low is None
    assert "2 fields" in mean.flags[0]


def test_sparse_fields_are_left_out_and_told() -> None:
    xy_um, positive = scatter(3000, 2000, 0.4, 4)
    lone = np.append(xy_um, [[9000.0, 9000.0]], 0)
    mean = unweighted_mean(lay_fields(lone, np.append(positive, True)))
    assert mean.n_nuclei == 3000
    assert "1 sparse fields with 1 nuclei are left out." in mean.flags
    fields, alone = lay_fields(xy_um, positive), lay_fields(lone, np.append(positive, True))
    of_all = area_weighted_mean(alone, np.full(len(alone.n), 2.5e5))
    assert of_all.value == area_weighted_mean(fields, np.full(len(fields.n), 2.5e5)).value


def test_nothing_and_too_little_have_no_mean() -> None:
    empty = lay_fields(np.empty((0, 2)), np.empty(0, bool))
    assert unweighted_mean(empty).value is None
    assert area_weighted_mean(empty, np.empty(0)).value is None
    few = lay_fields(*scatter(30, 100, 0.5, 0))
    assert unweighted_mean(few).value is None
    assert unweighted_mean(few, min_nuclei=10).value is not None


def test_interval_covers_the_expected_mean() -> None:
    covered = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        xy_um = random.random((9000, 2)) * 3000
        chance = random.beta(2, 6, (6, 6))
        column, row = (xy_um // 500).astype(int).T
        mean = unweighted_mean(lay_fields(xy_um, random.random(9000) < chance[row, column]), n_resamples=400, seed=seed)
        assert mean.low is not None
        assert mean.high is not None
        covered += mean.low <= 0.25 <= mean.high
    assert covered >= 88


def test_what_are_no_areas_is_refused() -> None:
    fields = lay_fields(*scatter(1000, 1000, 0.5, 0))
    for areas in (
        np.ones(3),
        np.full(len(fields.n), -1.0),
        np.full(len(fields.n), 3e5),
        np.full(len(fields.n), np.nan),
    ):
        with pytest.raises(ValueError, match="between 0 and 250000 um2"):
            area_weighted_mean(fields, areas)
    with pytest.raises(ValueError, match="side 0 um"):
        lay_fields(*scatter(10, 10, 0.5, 0), side_um=0)
    with pytest.raises(ValueError, match="too small for the extent"):
        lay_fields(*scatter(10, 1e6, 0.5, 0), side_um=1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("min_nuclei", [0, 1, 4])
def test_means_and_intervals_by_loops(seed: int, min_nuclei: int) -> None:
    """Fields laid in a dictionary, and the interval of their lattice."""
    random = np.random.default_rng(seed)
    xy_um = random.random((400, 2)) ** 1.5 * (4000, 3000) + random.integers(-5000, 5000, 2)
    positive = random.random(400) < 0.3
    counts: dict[tuple[int, int], list[int]] = {}
    for (x, y), is_positive in zip(xy_um.tolist(), positive.tolist(), strict=True):
        field = counts.setdefault((int(y // 400), int(x // 400)), [0, 0])
        field[0] += is_positive
        field[1] += 1
    keys = sorted(counts)
    fields = lay_fields(xy_um, positive, side_um=400.0)
    assert list(zip(fields.row.tolist(), fields.column.tolist(), strict=True)) == keys
    area_um2 = random.uniform(0, 160_000, len(keys))
    area_um2[0], area_um2[1] = 0, 160_000  # the outline may leave out all of a field, or nothing
    options = {"n_resamples": 150, "confidence": 0.8, "seed": seed}
    for mean, areas in (
        (unweighted_mean(fields, min_nuclei=min_nuclei, **options), np.ones(len(keys))),
        (area_weighted_mean(fields, area_um2, min_nuclei=min_nuclei, **options), area_um2),
    ):
        used = {key: area for key, area in zip(keys, areas, strict=True) if area > 0 and counts[key][1] >= min_nuclei}
        own = {key: counts[key][0] / counts[key][1] for key in used}
        assert mean.value == pytest.approx(sum(used[key] * own[key] for key in used) / sum(used.values()))
        assert (mean.n_fields, mean.n_nuclei) == (len(used), sum(counts[key][1] for key in used))
        rows, columns = ([key[axis] for key in keys] for axis in (0, 1))
        whole = np.zeros((max(rows) - min(rows) + 1, max(columns) - min(columns) + 1))
        part = np.zeros_like(whole)
        for row, column in used:
            place = (row - min(rows), column - min(columns))
            whole[place], part[place] = used[row, column], used[row, column] * own[row, column]
        scaled = Lattice(part / whole.max(), whole / whole.max(), 400.0, (min(columns), min(rows)))
        interval = ratio_interval(scaled, **options)
        assert interval is not None
        assert (mean.low, mean.high) == pytest.approx((interval.low, interval.high))
        n_sparse = len(keys) - len(used)
        told = f"{n_sparse} sparse fields with {400 - mean.n_nuclei} nuclei are left out."
        assert mean.flags == (*interval.flags, *([told] if n_sparse else []))


@pytest.mark.parametrize(("n", "is_used"), [(49, False), (50, True)])
def test_fifty_nuclei_are_enough_of_a_field(n: int, is_used: bool) -> None:
    fields = lay_fields(np.full((n, 2), 7.0), np.arange(n) < 20)
    for mean in (unweighted_mean(fields), area_weighted_mean(fields, np.array([2.5e5]))):
        assert (mean.value is not None) is is_used


def test_what_is_not_given_is_as_documented() -> None:
    xy_um, positive = scatter(3000, 2600, 0.3, 9)
    fields = lay_fields(xy_um, positive)
    given = {"min_nuclei": 50, "n_resamples": 2000, "confidence": 0.95, "seed": 0}
    area_um2 = np.random.default_rng(0).uniform(1e4, 2.5e5, len(fields.n))
    assert fields.side_um == 500
    assert unweighted_mean(fields) == unweighted_mean(fields, **given)
    assert area_weighted_mean(fields, area_um2) == area_weighted_mean(fields, area_um2, **given)
    for other in ({"min_nuclei": 90}, {"n_resamples": 4000}, {"confidence": 0.9}, {"seed": 1}):
        assert unweighted_mean(fields) != unweighted_mean(fields, **{**given, **other})
        assert area_weighted_mean(fields, area_um2) != area_weighted_mean(fields, area_um2, **{**given, **other})


@pytest.mark.parametrize("side_um", [0.0, -1.0, float("inf"), float("nan")])
def test_a_field_has_a_side(side_um: float) -> None:
    with pytest.raises(ValueError, match="a positive length is needed"):
        lay_fields(np.ones((3, 2)), np.ones(3, bool), side_um=side_um)


def test_an_area_may_be_a_fields_but_for_rounding() -> None:
    fields = Fields(*(np.array(values) for values in ([0, 1], [0, 0], [60, 60], [10, 20])), side_um=100.0)
    assert area_weighted_mean(fields, np.array([1e4, 1e4 + 0.005])).value == pytest.approx(0.25)
    with pytest.raises(ValueError, match="between 0 and 10000 um2"):
        area_weighted_mean(fields, np.array([1e4, 1e4 + 0.05]))

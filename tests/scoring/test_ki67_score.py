"""All Ki-67 figures of a region in one: each is what its own module says of the same nuclei."""

from __future__ import annotations

import numpy as np
import pytest

from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.results.score_record import CutFacts
from wsipsm.results.summary import ScoreFacts
from wsipsm.scoring.index import wilson_interval
from wsipsm.scoring.score import score_nuclei
from wsipsm.scoring.spatial import block_bootstrap_interval


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random((n, 2)) * 1500, np.where(random.random(n) < 0.3, 0.5, 0.1)


def area_of_all(boxes_um: np.ndarray) -> np.ndarray:
    return np.prod(boxes_um[:, 2:] - boxes_um[:, :2], axis=1)


def test_every_figure_is_of_the_same_nuclei() -> None:
    xy_um, dab_od = drawn(4000)
    dab_od[7] = 0.2  # at the cut: positive
    found = score_nuclei(
        xy_um, dab_od, cut_od=0.2, cut_from="drawn", region="Tumour", coverage=1.0, areas_of=area_of_all, seed=3
    )
    positive = dab_od >= 0.2
    n_positive = int(positive.sum())
    assert (found.index.n_positive, found.index.n_scored) == (n_positive, 4000)
    assert (found.index.low, found.index.high) == wilson_interval(n_positive, 4000)
    assert found.interval == block_bootstrap_interval(xy_um, positive, seed=3)
    assert found.bands == tuple(
        one.call(n_positive / 4000, found.interval.low, found.interval.high) for one in DEFAULT_MARKER.bands
    )
    assert found.curve_od == tuple(round(0.02 * step, 4) for step in range(51))
    assert found.curve_index[0] == 1
    assert found.curve_index[10] == n_positive / 4000
    assert found.curve_index[-1] == 0
    assert found.share_near_cut == pytest.approx(1 / 4000)
    assert set(found.index.flags) <= set(found.flags)
    assert set(found.interval.flags) <= set(found.flags)
    assert CutFacts.of(found).to_dict() == {
        "dab_od": 0.2,
        "from": "drawn",
        "share_within_0.05_od": found.share_near_cut,
    }


def test_nothing_has_no_figures() -> None:
    xy_um, dab_od = drawn(0)
    found = score_nuclei(
        xy_um, dab_od, cut_od=0.2, cut_from="drawn", region="Tumour", coverage=1.0, areas_of=area_of_all
    )
    assert found.index.value is None
    assert found.interval is None
    assert found.bands == found.curve_od == found.curve_index == ()
    assert found.share_near_cut is None
    assert found.flags == found.index.flags


def test_an_interval_that_straddles_a_limit_is_flagged() -> None:
    xy_um, dab_od = drawn(4000)
    found = score_nuclei(
        xy_um, dab_od, cut_od=0.2, cut_from="drawn", region="Tumour", coverage=1.0, areas_of=area_of_all
    )
    straddled = {limit for band in found.bands for limit in band.straddled}
    assert straddled, "30 % is a limit"
    assert sum("straddles" in flag for flag in found.flags) == sum(bool(band.straddled) for band in found.bands)


def test_the_seed_is_0_unless_given() -> None:
    xy_um, dab_od = drawn(3000)
    facts = {"cut_od": 0.2, "cut_from": "drawn", "region": "Tumour", "coverage": 1.0, "areas_of": area_of_all}
    found, given, other = (score_nuclei(xy_um, dab_od, **facts, **seed) for seed in ({}, {"seed": 0}, {"seed": 1}))
    assert ScoreFacts.of(found) == ScoreFacts.of(given) != ScoreFacts.of(other)

"""Pseudo labels: what is kept, what is ignored, and where instances are held apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from wsipsm.demo.draw import draw_array
from wsipsm.keys import NucleusClass, Stain
from wsipsm.psm.cluster import cluster, marker_densities
from wsipsm.psm.pseudo_label import IGNORED, make_pseudo_label, normalised_distance, voronoi_edges
from wsipsm.psm.recurrence import Agreement, find_agreement
from wsipsm.stain import fit_stain_profile


def draw_discs(radii: list[int], side: int = 40) -> NDArray[np.int32]:
    """One disc a cell of a row of cells."""
    labels = np.zeros((side, side * len(radii)), np.int32)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    for number, radius in enumerate(radii):
        labels[np.hypot(x - side * number - side / 2, y - side / 2) < radius] = number + 1
    return labels


def agree(labels: NDArray[np.int32], confidence: list[float], margin: int = 0) -> Agreement:
    generous = labels > 0
    for _ in range(margin):
        padded = np.pad(generous, 1)
        generous = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:] | generous
    return Agreement(labels, np.array([0.0, *confidence]), generous)


def test_every_size_keeps_its_best() -> None:
    radii = [5, 5, 5, 5, 9, 9, 9, 9, 15, 15, 15, 15]
    confidence = [0.4, 0.5, 0.41, 0.51, 0.6, 0.7, 0.61, 0.71, 0.8, 0.9, 0.81, 0.91]
    labels = draw_discs(radii)
    label = make_pseudo_label([(agree(labels, confidence), None)], share=0.5)
    kept = set(np.unique(labels[label.nucleus == 1]).tolist())
    assert kept == {2, 4, 6, 8, 10, 12}


def test_objects_not_kept_and_doubtful_zones_are_ignored() -> None:
    labels = draw_discs([10, 10])
    label = make_pseudo_label([(agree(labels, [0.9, 0.5], margin=8), None)], share=0.5)
    assert (label.nucleus[labels == 1] == 1).all()
    assert (label.nucleus[labels == 2] == IGNORED).all()
    assert label.nucleus[20, 60 + 15] == IGNORED  # found by a generous cut alone
    assert label.nucleus[20, 20 + 12] == 0  # the rim of a kept nucleus, though a generous cut took it
    assert label.nucleus[0, 0] == 0
    np.testing.assert_allclose(label.points_xy, [[20.5, 20.5]], atol=0.5)
    assert ((label.instances == 1) == (labels == 1)).all()


def test_classes_lie_on_kept_nuclei_only_and_the_first_group_wins() -> None:
    labels = draw_discs([10, 10, 10])
    brown = np.where(labels == 1, 1, 0).astype(np.int32)
    blue = np.where(labels > 0, labels, 0).astype(np.int32)
    label = make_pseudo_label([(agree(brown, [0.9]), True), (agree(blue, [0.9, 0.9, 0.9]), False)], share=1.0)
    assert (label.positive[labels == 1] == 1).all()
    assert (label.positive[labels >= 2] == 0).all()
    assert ((label.positive != IGNORED) == (label.nucleus == 1)).all()
    assert len(label.points_xy) == 3


def test_nothing_found_teaches_background() -> None:
    empty = Agreement(np.zeros((30, 30), np.int32), np.zeros(1), np.zeros((30, 30), bool))
    label = make_pseudo_label([(empty, None)])
    assert (label.nucleus == 0).all()
    assert label.points_xy.shape == (0, 2)


def test_a_narrow_gap_between_nuclei_is_background() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:25, 5:17] = 1
    labels[10:25, 19:31] = 2
    label = make_pseudo_label([(agree(labels, [0.9, 0.9], margin=6), None)], share=1.0)
    assert (label.nucleus[10:25, 17:19] == 0).any(axis=1).all()
    assert label.instances[17, 17] == 0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 22), st.integers(1, 22)), min_size=1, max_size=5, unique=True))
def test_voronoi_edges_equal_brute_force(points: list[tuple[int, int]]) -> None:
    labels = np.zeros((24, 24), np.int32)
    for number, (y, x) in enumerate(points, start=1):
        labels[y, x] = number
    pixels = np.argwhere(np.ones(labels.shape, bool))
    distance = cdist(pixels, np.array(points)).reshape(*labels.shape, len(points))
    nearest = distance.min(axis=2)
    owners = np.isclose(distance, nearest[..., None])  # more than one owner: either cell may have the pixel
    edge = voronoi_edges(labels, reach_px=6.0)
    for y, x in itertools.product(range(1, 24), range(1, 24)):
        if owners[y, x].sum() > 1 or owners[y - 1, x].sum() > 1 or owners[y, x - 1].sum() > 1:
            continue
        own = owners[y, x].argmax()
        border = own != owners[y - 1, x].argmax() or own != owners[y, x - 1].argmax()
        assert edge[y, x] == (border and labels[y, x] == 0 and nearest[y, x] <= 6.0)


def test_edges_of_nothing_and_of_one() -> None:
    assert not voronoi_edges(np.zeros((9, 9), np.int32)).any()
    assert not voronoi_edges(draw_discs([6])).any()


def test_distance_of_each_instance_rises_to_one() -> None:
    labels = draw_discs([5, 12])
    distance = normalised_distance(labels)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    for number, radius in ((1, 5), (2, 12)):
        inside = labels == number
        assert distance[inside].max() == pytest.approx(1.0)
        expected = 1 - np.hypot(x - 40 * (number - 1) - 20, y - 20) / radius
        assert np.abs(distance - expected)[inside].max() < 1.5 / radius


def test_clusters_of_a_sample_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(m, 0.2, 40_000) for m in (0.0, 1.0, 3.0)]).astype(np.float32).reshape(300, 400)
    found = cluster(values, seed=5)
    assert found == cluster(values, seed=5)
    np.testing.assert_allclose([found.background, found.doubtful, found.nuclear], [0.0, 1.0, 3.0], atol=0.03)


@pytest.mark.parametrize("which", [NucleusClass.POSITIVE, NucleusClass.NEGATIVE])
def test_agreement_finds_drawn_markers(which: NucleusClass) -> None:
    rgb, truth = draw_array(seed=3, size=(400, 400), n_nuclei=45, positive_fraction=0.4, touching_fraction=0.0)
    profile = fit_stain_profile(rgb.reshape(-1, 3), Stain.IHC, 0)
    positives, negatives, _ = marker_densities(rgb, profile)
    found = find_agreement(positives if which == NucleusClass.POSITIVE else negatives)
    points = make_pseudo_label([(found, None)]).points_xy
    drawn = shapely.union_all([p for p, name in zip(truth.polygons, truth.classes, strict=True) if name == which])
    assert len(points) >= 5
    assert shapely.contains_xy(drawn, *points.T).mean() > 0.8


def test_the_border_of_a_crop_is_no_outline() -> None:
    labels = draw_discs([14, 14])
    whole = normalised_distance(labels)
    rows, columns = np.argwhere(labels == 1).mean(axis=0).astype(int)
    crop = (slice(None), slice(columns - 6, None))  # cuts off a part of the first disc
    cut = normalised_distance(np.ascontiguousarray(labels[crop]))
    assert cut[rows, 0] > 0.5
    np.testing.assert_allclose(cut[:, 6:], whole[:, columns:], atol=0.05)  # nearer to the outline that is seen
    assert (cut >= whole[crop] - 0.05).all()
    assert normalised_distance(np.ones((8, 8), np.int32)).max() == 1
    assert (normalised_distance(np.zeros((8, 8), np.int32)) == 0).all()

"""Maps, clusters and pseudo labels, from pixels alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.psm.activation import activation_weights, orient_maps, self_activation_map
from wsipsm.psm.cluster import cluster, fuse, hematoxylin_densities, marker_densities
from wsipsm.psm.pseudo_label import IGNORED, make_pseudo_label, normalised_distance, voronoi_edges
from wsipsm.psm.recurrence import divide_touching, find_agreement
from wsipsm.stain import fit_stain_profile
from wsipsm.training.pretext_training import PretextOptions, train_pretext

QUICK = PretextOptions(steps=3, batch=2, crop_px=64)


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    rgb, _ = draw_array(seed=1, size=(320, 320), n_nuclei=30, stain=Stain.HE)
    return rgb


def test_pretext_is_seeded_and_sees_collapse(tissue: NDArray[np.uint8]) -> None:
    network, log = train_pretext([tissue], QUICK)
    again, same = train_pretext([tissue], QUICK)
    assert log == same
    assert log.spread > 0
    assert not network.training
    left, right = network.state_dict(), again.state_dict()
    assert all(np.array_equal(left[name].numpy(), right[name].numpy()) for name in left)


def test_map_of_a_tile_is_the_tile_of_the_map(tissue: NDArray[np.uint8]) -> None:
    network, _ = train_pretext([tissue], QUICK)
    weights = activation_weights(network, [tissue[:128, :128]])
    whole = self_activation_map(network, weights, tissue)
    part = self_activation_map(network, weights, tissue[64:256, 64:256])
    assert whole.shape == tissue.shape[:2]
    np.testing.assert_allclose(whole[112:208, 112:208], part[48:144, 48:144], atol=1e-4)
    assert self_activation_map(network, weights, tissue[:101, :103]).shape == (101, 103)


def test_orientation_follows_darkness() -> None:
    rng = np.random.default_rng(0)
    dark = rng.random((70, 70)).astype(np.float32)
    (rising,) = orient_maps([dark], [dark])
    (mended,) = orient_maps([-dark], [dark])
    np.testing.assert_allclose(rising, mended, atol=1e-5)
    assert rising.min() >= 0
    assert rising.max() <= 1


def test_fusion_is_equation_5() -> None:
    rng = np.random.default_rng(1)
    a, d = rng.random((2, 40, 40)).astype(np.float32)
    expected = ((a - a.mean()) / a.std() + 2.5 * (d - d.mean()) / d.std()) / 3.5
    np.testing.assert_allclose(fuse(a, d, 2.5), expected, atol=1e-4)


def test_clusters_equal_plain_k_means() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(m, 0.1, 400) for m in (0.0, 1.0, 3.0)]).astype(np.float32).reshape(40, 30)
    found = cluster(values)
    centres = np.sort(KMeans(3, n_init=3, random_state=0).fit(values.reshape(-1, 1)).cluster_centers_.ravel())
    np.testing.assert_allclose([found.background, found.doubtful, found.nuclear], centres, atol=1e-4)
    assert found.background < found.middle < found.nuclear


def test_agreement_finds_drawn_nuclei() -> None:
    rgb, truth = draw_array(seed=4, size=(500, 500), n_nuclei=60, stain=Stain.HE)
    profile = fit_stain_profile(rgb.reshape(-1, 3), Stain.HE, 0)
    found = find_agreement(hematoxylin_densities(rgb, profile))
    label = make_pseudo_label([(found, None)])
    centres = np.array([[p.centroid.x, p.centroid.y] for p in truth.polygons])
    nearest = np.linalg.norm(label.points_xy[:, None] - centres[None], axis=2).min(axis=1)
    assert len(label.points_xy) > 20
    assert (nearest < 12).mean() > 0.8
    assert (label.positive == IGNORED).all()


def test_blue_nuclei_are_not_called_positive() -> None:
    rgb, _ = draw_array(seed=5, size=(400, 400), n_nuclei=40, positive_fraction=0.0)
    profile = fit_stain_profile(rgb.reshape(-1, 3), Stain.IHC, 0)
    _, negatives, brown = marker_densities(rgb, profile)
    assert brown.mean() < 0.005
    assert find_agreement(negatives).labels.max() > 10


def test_voronoi_edges_separate_and_stay_near() -> None:
    instances = np.zeros((40, 40), np.int32)
    instances[10:20, 5:15] = 1
    instances[10:20, 18:28] = 2
    edge = voronoi_edges(instances)
    y, x = np.mgrid[:40, :40]
    boxes = {1: (5, 14), 2: (18, 27)}
    distance = {
        k: np.hypot(
            np.clip(lo - x, 0, None) + np.clip(x - hi, 0, None), np.clip(10 - y, 0, None) + np.clip(y - 19, 0, None)
        )
        for k, (lo, hi) in boxes.items()
    }
    assert edge[10:20, 15:18].any(axis=1).all()
    assert (np.abs(distance[1] - distance[2])[edge] <= 2).all()
    assert not edge[instances > 0].any()


def test_distance_is_one_at_the_deepest_point() -> None:
    instances = np.zeros((30, 30), np.int32)
    instances[5:14, 5:14] = 3
    distance = normalised_distance(instances)
    assert distance.max() == pytest.approx(1.0)
    assert distance[9, 9] == distance.max()
    assert (distance[instances == 0] == 0).all()


def test_touching_discs_are_divided() -> None:
    y, x = np.mgrid[:60, :90]
    mask = (np.hypot(x - 30, y - 30) < 14) | (np.hypot(x - 55, y - 30) < 14)
    assert divide_touching(mask, 2).max() == 2

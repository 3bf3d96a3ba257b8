"""Fusion, K-means and the colour prior (Eq. 5, 6)."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from wsipsm.demo.draw import draw_array
from wsipsm.demo.truth import DrawnTruth
from wsipsm.keys import NucleusClass, Stain
from wsipsm.psm.semantic import (
    BACKGROUND,
    NUCLEUS,
    POSITIVE,
    Fusion,
    SemanticClusters,
    clean_classes,
    fit_clusters,
    fuse_rgb,
)
from wsipsm.stain import fit_stain_profile


def darkness(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Stand in for a self-activation map: rising with darkness, 0..1."""
    return (1 - rgb.mean(axis=2) / 255).astype(np.float32)


def fitted(rgb: NDArray[np.uint8], stain: Stain, seed: int = 0, n_clusters: int = 3) -> SemanticClusters:
    fusion = Fusion(fit_stain_profile(rgb.reshape(-1, 3), stain, 0), 2.5 if stain == Stain.HE else 4.0)
    return fit_clusters([rgb], [darkness(rgb)], fusion, stain, seed, n_clusters)


def share_in_nuclei(truth: DrawnTruth, mask: NDArray[np.bool_], kind: NucleusClass | None = None) -> float:
    """Part of the drawn nuclei's centres that a mask holds."""
    chosen = [p for p, c in zip(truth.polygons, truth.classes, strict=True) if kind is None or c == kind]
    centres = shapely.get_coordinates(shapely.centroid(chosen)).astype(int)
    return float(mask[centres[:, 1], centres[:, 0]].mean())


def test_fusion_is_equation_5() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    activation = rng.random((9, 7)).astype(np.float32)
    found = fuse_rgb(activation, rgb, 2.5)
    for y, x, channel in np.ndindex(9, 7, 3):
        expected = (1 - activation[y, x]) + 2.5 * int(rgb[y, x, channel]) / 255
        assert found[y, x, channel] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n_clusters", [2, 3, 5])
def test_clusters_are_k_means(n_clusters: int) -> None:
    rgb, _ = draw_array(seed=1, size=(120, 100), n_nuclei=10, stain=Stain.HE)
    clusters = fitted(rgb, Stain.HE, n_clusters=n_clusters)
    fused = fuse_rgb(darkness(rgb), rgb, 2.5).reshape(-1, 3)
    found = clusters.nearest(fused.reshape(*rgb.shape))
    np.testing.assert_array_equal(found.ravel(), pairwise_distances_argmin(fused, clusters.centres))
    own = KMeans(n_clusters, n_init=3, random_state=0).fit(fused)
    by_brightness = [centres[centres.sum(axis=1).argsort()] for centres in (own.cluster_centers_, clusters.centres)]
    np.testing.assert_allclose(*by_brightness, atol=0.05)
    np.testing.assert_array_equal(clusters.apply(darkness(rgb), rgb), np.array(clusters.classes)[found])


def test_clusters_are_seeded() -> None:
    rgb, _ = draw_array(seed=1, size=(100, 100), n_nuclei=10, stain=Stain.HE)
    first, again = fitted(rgb, Stain.HE, seed=3), fitted(rgb, Stain.HE, seed=3)
    np.testing.assert_array_equal(first.centres, again.centres)


def test_colour_prior_on_he() -> None:
    rgb, truth = draw_array(seed=2, size=(300, 300), n_nuclei=40, stain=Stain.HE)
    clusters = fitted(rgb, Stain.HE)
    classes = clusters.apply(darkness(rgb), rgb)
    assert sorted(clusters.classes) == [BACKGROUND, BACKGROUND, NUCLEUS]
    assert clusters.note == ""
    assert share_in_nuclei(truth, classes == NUCLEUS) > 0.6
    assert (classes == NUCLEUS).mean() < 0.4


def test_colour_prior_on_ihc() -> None:
    rgb, truth = draw_array(seed=3, size=(300, 300), n_nuclei=40, positive_fraction=0.5)
    clusters = fitted(rgb, Stain.IHC)
    classes = clusters.apply(darkness(rgb), rgb)
    assert sorted(clusters.classes) == [BACKGROUND, NUCLEUS, POSITIVE]
    assert share_in_nuclei(truth, classes == POSITIVE, NucleusClass.POSITIVE) > 0.6
    assert share_in_nuclei(truth, classes == NUCLEUS, NucleusClass.NEGATIVE) > 0.6
    assert share_in_nuclei(truth, classes == POSITIVE, NucleusClass.NEGATIVE) < 0.2


def test_no_positive_class_without_brown() -> None:
    rgb, _ = draw_array(seed=4, size=(300, 300), n_nuclei=40, positive_fraction=0.0)
    clusters = fitted(rgb, Stain.IHC)
    assert POSITIVE not in clusters.classes
    assert NUCLEUS in clusters.classes
    assert clusters.note.startswith("no positive cluster: the brownest has")


@pytest.mark.parametrize("stain", list(Stain))
@pytest.mark.parametrize("colour", [(243, 242, 244), (120, 90, 160), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("noise", [0, 2])
def test_an_image_of_one_colour_has_no_nuclei(stain: Stain, colour: tuple[int, int, int], noise: int) -> None:
    jitter = np.random.default_rng(0).integers(-noise, noise + 1, (60, 60, 3))
    rgb = np.clip(np.array(colour) + jitter, 0, 255).astype(np.uint8)
    clusters = fitted(rgb, stain)
    assert NUCLEUS not in clusters.classes
    assert "no nuclear cluster" in clusters.note


masks = arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.booleans())


def cleaned_by_hand(mask: NDArray[np.bool_], min_area: int, max_hole: int) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    filled = mask.copy()
    holes, n = ndimage.label(~mask)
    for hole in range(1, n + 1):
        if (holes == hole).sum() <= max_hole:
            filled |= holes == hole
    parts, n = ndimage.label(filled, np.ones((3, 3)))
    return np.isin(parts, [part for part in range(1, n + 1) if (parts == part).sum() >= min_area])


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(0, 30), st.integers(0, 12), st.sampled_from([NUCLEUS, POSITIVE]))
def test_cleaning_is_what_it_says(mask: NDArray[np.bool_], min_area: int, max_hole: int, kind: int) -> None:
    classes = np.where(mask, kind, BACKGROUND).astype(np.uint8)
    found = clean_classes(classes, min_area, max_hole)
    np.testing.assert_array_equal(found, np.where(cleaned_by_hand(mask, min_area, max_hole), kind, BACKGROUND))
    np.testing.assert_array_equal(clean_classes(found, min_area, max_hole), found)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.integers(0, 2)),
    st.integers(0, 20),
    st.integers(0, 9),
    st.integers(0, 3),
)
def test_cleaning_invents_no_class(classes: NDArray[np.uint8], min_area: int, max_hole: int, opening: int) -> None:
    found = clean_classes(classes, min_area, max_hole, opening)
    assert found.shape == classes.shape
    assert set(np.unique(found)) <= set(np.unique(classes)) | {BACKGROUND}
    # Positives come last, so that none of their parts is cut.
    parts, n = ndimage.label(found == POSITIVE, np.ones((3, 3)))
    assert all((parts == part).sum() >= min_area for part in range(1, n + 1))


def test_opening_parts_threads() -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[10:30, 5:25] = classes[10:30, 35:55] = classes[19:21, 20:40] = NUCLEUS
    assert ndimage.label(clean_classes(classes, 50, 0))[1] == 1
    assert ndimage.label(clean_classes(classes, 50, 0, 3))[1] == 2

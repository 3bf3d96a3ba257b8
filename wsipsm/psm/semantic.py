"""Semantic clustering of the paper (Eq. 5, 6): map plus beta times the raw image, k-means, and a colour prior.

The shipped models were made with clusters of stain densities instead (:mod:`wsipsm.psm.cluster`). This module serves to
repeat the paper's tables and figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from wsipsm.keys import Stain
from wsipsm.psm.recurrence import fill_small_holes
from wsipsm.stain import DEFAULT_DAB_CUT_OD, StainProfile, optical_density, separate

BACKGROUND, NUCLEUS, POSITIVE = 0, 1, 2
"""Classes of a pseudo mask; on IHC, NUCLEUS is a negative nucleus."""
N_CLUSTERS = 3
_MAX_SAMPLES = 60_000
_MIN_NUCLEAR_OD = 0.05
"""Smallest difference in hematoxylin density between the nuclear and the palest cluster; without it there are no
nuclei."""


@dataclass(frozen=True, slots=True)
class SemanticClusters:
    """Clusters of fused pixels, and the class of each of them."""

    fusion: Fusion
    centres: NDArray[np.float32]
    """Centres of the clusters of fused pixels, shape (k, 3)."""
    classes: tuple[int, ...]
    """Class of each cluster: BACKGROUND, NUCLEUS or POSITIVE."""
    note: str
    """Text on the classes that no cluster has by the colour prior; empty when there is none."""

    def nearest(self, fused: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Find the number of the nearest centre of every pixel, shape (h, w)."""
        # |a - c|^2 without |a|^2, which is the same for every centre.
        cost = (self.centres**2).sum(axis=1) - 2 * fused @ self.centres.T
        return np.asarray(cost.argmin(axis=-1), dtype=np.uint8)

    def apply(self, activation: NDArray[np.float32], rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Find the class of every pixel of an image by its nearest centre; shape (h, w), uint8."""
        nearest = self.nearest(self.fusion.fuse(activation, rgb))
        named: NDArray[np.uint8] = np.asarray(self.classes, np.uint8)[nearest]
        return named


def fuse_rgb(activation: NDArray[np.float32], rgb: NDArray[np.uint8], beta: float) -> NDArray[np.float32]:
    """Add beta times the raw image to the activation map (Eq. 5).

    The map's sign is arbitrary. Here the map falls in nuclei, as brightness does, since otherwise the two would cancel.

    Parameters
    ----------
    activation
        Activation map from :func:`wsipsm.psm.activation.orient_maps`: rising with darkness, 0..1, shape (h, w).
    rgb
        Image of shape (h, w, 3), uint8.
    beta
        Weight of the raw image: 2.5 on MoNuSeg, 4 on BCData.

    Returns
    -------
    Fused map, shape (h, w, 3), float32.
    """
    heat = (1.0 - activation)[..., None]
    return np.asarray(heat + beta * (rgb.astype(np.float32) / 255.0), dtype=np.float32)


def fuse_stains(
    activation: NDArray[np.float32], rgb: NDArray[np.uint8], profile: StainProfile, beta: float
) -> NDArray[np.float32]:
    """Add beta times stain densities to the activation map, in place of the raw image of Eq. 5.

    With RGB some clusters only divide eosin. Hematoxylin, red-channel density and hematoxylin less half the eosin all
    rise in nuclei; each is subtracted from 1, so that they fall there as the map in :func:`fuse_rgb` does.

    Parameters
    ----------
    activation, rgb, beta
        The same as in :func:`fuse_rgb`.
    profile
        Stain profile of the H&E slide.

    Returns
    -------
    Fused map, shape (h, w, 3), float32.
    """
    hematoxylin, eosin = separate(rgb, profile)
    red = optical_density(rgb, profile.background)[..., 0]
    stains = np.stack([hematoxylin, red, hematoxylin - 0.5 * eosin], axis=-1)
    heat = (1.0 - activation)[..., None]
    return np.asarray(heat + beta * (1.0 - np.clip(stains, -0.5, 1.5)), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Fusion:
    """Settings of the fusion of map and image (Eq. 5)."""

    profile: StainProfile
    """Stain profile of the set or slide."""
    beta: float = 2.5
    stains: bool = False
    """Whether stain densities are added to the map; the paper adds RGB."""
    sigma_px: float = 0.0
    """Standard deviation of a Gaussian over the fused map, pixels; the paper has none."""

    def fuse(self, activation: NDArray[np.float32], rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Fuse the map and pixels of an image, shape (h, w, 3)."""
        if self.stains:
            fused = fuse_stains(activation, rgb, self.profile, self.beta)
        else:
            fused = fuse_rgb(activation, rgb, self.beta)
        if self.sigma_px:
            fused = np.asarray(cv2.GaussianBlur(fused, (0, 0), self.sigma_px), dtype=np.float32)
        return fused


def fit_clusters(
    images: Sequence[NDArray[np.uint8]],
    activations: Sequence[NDArray[np.float32]],
    fusion: Fusion,
    stain: Stain,
    seed: int = 0,
    n_clusters: int = N_CLUSTERS,
) -> SemanticClusters:
    """Fit K-means (Eq. 6) once to a set or slide, and name its clusters by their colour.

    Parameters
    ----------
    images, activations
        Images and activation maps of one set or slide; shapes (h, w, 3) and (h, w).
    fusion
        Fusion of Eq. 5, with the set's stains.
    stain
        Stain of the images: H&E has one nuclear cluster, IHC a negative and a positive one.
    seed
        Seed of the sample and of k-means.
    n_clusters
        Number of clusters; the paper's is 3.

    Returns
    -------
    The clusters, with a note where the colour prior names none of them nuclear or positive.
    """
    rng = np.random.default_rng(seed)
    share = max(1, _MAX_SAMPLES // len(images))
    fused, pixels = [], []
    for rgb, activation in zip(images, activations, strict=True):
        chosen = rng.integers(0, activation.size, min(share, activation.size))
        fused.append(fusion.fuse(activation, rgb).reshape(-1, 3)[chosen])
        pixels.append(rgb.reshape(-1, 3)[chosen])
    samples, raw = np.concatenate(fused), np.concatenate(pixels)
    # Where there are fewer colours than clusters, k-means would leave some clusters empty, without a colour.
    n_found = min(n_clusters, len(np.unique(samples, axis=0)))
    fitted = KMeans(n_found, n_init=3, random_state=seed).fit(samples)
    colours = [raw[fitted.labels_ == k] for k in range(n_found)]
    classes, note = _name_clusters(colours, fusion.profile, stain)
    return SemanticClusters(fusion, fitted.cluster_centers_.astype(np.float32), classes, note)


def _name_clusters(
    colours: Sequence[NDArray[np.uint8]], profile: StainProfile, stain: Stain
) -> tuple[tuple[int, ...], str]:
    """Name the clusters by the colour prior: the bluest is nuclear; on IHC the brownest is positive, if it is brown."""
    hematoxylin, second = np.array([_mean_densities(pixels, profile) for pixels in colours]).T
    classes = np.full(len(colours), BACKGROUND)
    notes = []
    palest = float(hematoxylin.min())
    if stain == Stain.IHC:
        brownest = int(second.argmax())
        cut = profile.dab_cut_od if profile.dab_cut_od is not None else DEFAULT_DAB_CUT_OD
        if second[brownest] > cut:
            classes[brownest] = POSITIVE
        else:
            notes.append(
                f"no positive cluster: the brownest has {second[brownest]:.2f} OD of DAB, {cut:.2f} are needed"
            )
    free = np.where(classes == BACKGROUND, hematoxylin, -np.inf)
    bluest = int(free.argmax())
    if free[bluest] - palest > _MIN_NUCLEAR_OD:
        classes[bluest] = NUCLEUS
    else:
        notes.append(f"no nuclear cluster: the bluest is {free[bluest] - palest:.2f} OD above the palest")
    return tuple(int(c) for c in classes), "; ".join(notes)


def _mean_densities(pixels: NDArray[np.uint8], profile: StainProfile) -> tuple[float, float]:
    if not len(pixels):
        return 0.0, 0.0
    first, second = separate(pixels[None], profile)
    return float(first.mean()), float(second.mean())


def clean_classes(
    classes: NDArray[np.uint8], min_area_px: int, max_hole_px: int, opening_px: int = 0
) -> NDArray[np.uint8]:
    """Open each class, fill its small holes and drop its small parts.

    Parameters
    ----------
    classes
        Classes as :meth:`SemanticClusters.apply` returns them, shape (h, w).
    min_area_px, max_hole_px
        Smallest area of a part that is kept, and largest area of a hole that is filled, pixels.
    opening_px
        Radius of the disc of the opening, pixels; 0 opens nothing.

    Returns
    -------
    Cleaned classes, shape (h, w), uint8.
    """
    result = np.zeros_like(classes)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * opening_px + 1, 2 * opening_px + 1))
    for kind in (NUCLEUS, POSITIVE):
        mask = np.asarray(cv2.morphologyEx((classes == kind).astype(np.uint8), cv2.MORPH_OPEN, disc), dtype=np.uint8)
        if not mask.any():
            continue  # a tiny image without this class would count as a hole and be filled
        fill_small_holes(mask, max_hole_px)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        large = stats[:, cv2.CC_STAT_AREA] >= min_area_px
        large[0] = False
        result[large[parts]] = kind
    return result

"""Fusion of the self-activation map with the image, and clustering of the fused map (Eq. 5, 6).

Eq. 5 adds beta times the raw image to the map. Here stain densities take the place of the raw image, so that the sum
is one density that rises in nuclei. K-means with three clusters (Eq. 6) then divides pixels into background, doubtful
and nuclear ones. The order of the centres tells which is which, where the paper has a colour prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from wsipsm.keys import Stain
from wsipsm.stain import DEFAULT_DAB_CUT_OD, StainProfile, optical_density, separate

BETA = {Stain.HE: 2.5, Stain.IHC: 4.0}
"""Weight of the image against the map in Eq. 5, as the paper sets it for MoNuSeg and BCData."""
_N_CLUSTERS = 3
_MAX_SAMPLES = 60_000
"""Largest number of pixels that k-means is fitted on."""


@dataclass(frozen=True, slots=True)
class NuclearClusters:
    """Centres of three clusters of a fused density: background, doubtful, nuclear."""

    background: float
    doubtful: float
    nuclear: float

    @property
    def middle(self) -> float:
        """Midpoint between the two boundaries of the doubtful cluster."""
        return (self.background + 2 * self.doubtful + self.nuclear) / 4

    @property
    def step(self) -> float:
        """Distance from the middle to a boundary of the doubtful cluster."""
        return (self.nuclear - self.background) / 4


def fuse(activation: NDArray[np.float32], density: NDArray[np.float32], beta: float) -> NDArray[np.float32]:
    """Add the map to beta times the image (Eq. 5), both in standard deviations of this image or slide.

    Parameters
    ----------
    activation
        Self-activation map, shape (h, w), 0..1.
    density
        Stain density, shape (h, w).
    beta
        Weight of the image; an infinite one leaves the map out.

    Returns
    -------
    Fused density of shape (h, w), float32.
    """
    of_map = 1 / (1 + beta)
    fused = of_map * standardise(activation) + (1 - of_map) * standardise(density)
    return fused.astype(np.float32)


def standardise(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shift and scale to mean 0 and standard deviation 1."""
    result: NDArray[np.float32] = (values - values.mean()) / (values.std() + 1e-6)
    return result


def cluster(fused: NDArray[np.float32], seed: int = 0) -> NuclearClusters:
    """Divide a fused density, shape (h, w), into three clusters by seeded k-means (Eq. 6)."""
    values = fused.reshape(-1, 1)
    if len(values) > _MAX_SAMPLES:
        values = values[np.random.default_rng(seed).integers(0, len(values), _MAX_SAMPLES)]
    centres = KMeans(_N_CLUSTERS, n_init=3, random_state=seed).fit(values).cluster_centers_.ravel()
    background, doubtful, nuclear = (float(c) for c in np.sort(centres))
    return NuclearClusters(background, doubtful, nuclear)


def hematoxylin_densities(rgb: NDArray[np.uint8], profile: StainProfile) -> list[NDArray[np.float32]]:
    """Estimate in four ways how much hematoxylin each pixel of an H&E image of shape (h, w, 3) has.

    Returns
    -------
    Hematoxylin, red-channel density, their sum, and hematoxylin less half the eosin, each standardised; shape (h, w).
    """
    hematoxylin, eosin = separate(rgb, profile)
    red = _smooth(optical_density(rgb, profile.background)[..., 0])
    h, e = standardise(_smooth(hematoxylin)), standardise(_smooth(eosin))
    r = standardise(red)
    return [h, r, h + r, h - 0.5 * e]


def marker_densities(
    rgb: NDArray[np.uint8], profile: StainProfile
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], NDArray[np.bool_]]:
    """Show the brown and the blue nuclei of an IHC image as densities.

    One density for both would find no negative nuclei, since the brown ones set its scale. So brown is measured first.
    Then blue is measured, with brown replaced by the median blue and the local background subtracted.

    Returns
    -------
    Densities for positives, densities for negatives, and the brown mask, all of shape (h, w).
    """
    hematoxylin, dab = (_smooth(plane) for plane in separate(rgb, profile))
    total = _smooth(optical_density(rgb, profile.background).sum(axis=2) / 3)
    red = _smooth(optical_density(rgb, profile.background)[..., 0])
    cut = profile.dab_cut_od if profile.dab_cut_od is not None else DEFAULT_DAB_CUT_OD
    brown = dab > cut
    grown = cv2.dilate(brown.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))) > 0
    positives = [np.minimum(dab, 3 * cut), np.minimum(dab, 3 * cut) + 0.5 * np.minimum(total, 1.0)]
    negatives = []
    for blue in (red, hematoxylin, red + hematoxylin):
        painted = np.where(grown, np.median(blue[~grown]) if (~grown).any() else 0.0, blue).astype(np.float32)
        negatives.append(painted - cv2.GaussianBlur(painted, (0, 0), 40.0))
    return positives, negatives, brown


def _smooth(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), 1.2), dtype=np.float32)

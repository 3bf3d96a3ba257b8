"""The no-network floors that a model has to beat: plain stain thresholds and a watershed.

They are scored by `accuracy.py` beside the model. The one for H&E follows a published recipe. The one for
hematoxylin-DAB was picked among eight variants by these very labels, in its favour: a floor should not be too low.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import disk, h_maxima, isotropic_opening, opening, remove_small_objects
from skimage.segmentation import watershed


def segment_he(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Label nuclei on H&E by Otsu's threshold of the hematoxylin channel, then a watershed."""
    hematoxylin = gaussian(rgb2hed(rgb)[..., 0], 1)
    mask = ndimage.binary_fill_holes(hematoxylin > threshold_otsu(hematoxylin))
    mask = opening(mask, disk(2))
    mask = remove_small_objects(mask, max_size=59)
    labels = split_touching(mask, sigma=1, height=0.75)
    return remove_small_objects(labels, max_size=59)


def split_touching(mask: NDArray[np.bool_], sigma: float, height: float) -> NDArray[np.int32]:
    """Split a mask at the waists of its distance transform."""
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), sigma)
    peaks = h_maxima(distance, height)
    seeds = ndimage.label(peaks, structure=np.ones((3, 3)))[0]
    return watershed(-distance, seeds, mask=mask).astype(np.int32)


_RUIFROK_HDAB = np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776], [0.711, 0.424, 0.562]])
"""Hematoxylin, DAB, residual: optical densities of red, green, blue (Ruifrok and Johnston 2001)."""

_MAX_OD = 1.0


def separate_hdab(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hematoxylin and DAB density, 0 or more; black is clipped, since unmixing means nothing where light ends."""
    od = np.minimum(-np.log10((rgb.astype(np.float64) + 1) / 256), _MAX_OD)
    vectors = _RUIFROK_HDAB / np.linalg.norm(_RUIFROK_HDAB, axis=1, keepdims=True)
    density = od @ np.linalg.inv(vectors)
    return np.maximum(density[..., 0], 0), np.maximum(density[..., 1], 0)


def dab_cut(images: Iterable[NDArray[np.uint8]]) -> float:
    """One DAB cut for a set: Otsu's threshold over a sample of all its images' pixels."""
    return float(threshold_otsu(np.concatenate([separate_hdab(rgb[::4, ::4])[1].ravel() for rgb in images])))


def detect_ihc(
    rgb: NDArray[np.uint8], diameter_px: float, cut: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find positive and negative nuclei on hematoxylin-DAB: brown first, then blue in what is left.

    Parameters
    ----------
    rgb
        Image, (height, width, 3).
    diameter_px
        Of a typical nucleus; sets smoothing, opening and the smallest area.
    cut
        DAB density of a brown pixel, from `dab_cut`.

    Returns
    -------
    Centroids (x, y) of positive and of negative nuclei, corner convention.
    """
    unit = diameter_px / 30
    hematoxylin, dab = (gaussian(channel, 1.5 * unit) for channel in separate_hdab(rgb))
    brown = dab > cut
    # Brown nuclei have a rim that is dark, not brown; it must not pass for blue.
    left = ~ndimage.binary_dilation(brown, iterations=max(1, round(5 * unit)))
    blue = left & (hematoxylin > threshold_otsu(hematoxylin[left]))
    return _centroids(brown, diameter_px), _centroids(blue, diameter_px)


def _centroids(mask: NDArray[np.bool_], diameter_px: float) -> NDArray[np.float64]:
    unit = diameter_px / 30
    min_area = round(0.15 * np.pi * diameter_px**2 / 4)
    mask = isotropic_opening(ndimage.binary_fill_holes(mask), max(1, 2 * unit))
    mask = remove_small_objects(mask, max_size=min_area)
    labels = split_touching(mask, sigma=1.5 * unit, height=0.75 * unit)
    n = int(labels.max())
    if n == 0:
        return np.empty((0, 2))
    return np.array(ndimage.center_of_mass(mask, labels, np.arange(1, n + 1)))[:, ::-1] + 0.5

"""Methods without a network that a model has to beat: floors, and re-creations of two classical programs.

The floor for H&E follows a published recipe. The one for hematoxylin-DAB was chosen among eight variants by the labels
of the scored sets themselves; this favours it, since a floor should not be too low. The pipelines of CellProfiler and
Fiji are re-created with scikit-image from those programs' documentation and default settings, except that the upper
bound of size in Fiji's was added after a look at labelled images. They are not the programs themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_li, threshold_otsu
from skimage.morphology import disk, h_maxima, isotropic_opening, opening, remove_small_objects
from skimage.segmentation import watershed

from wsipsm.benchmark.scoring import centroids

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Centroids (x, y) of positive and of negative nuclei, corner convention, shape (n, 2)."""


def segment_he(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Label nuclei on H&E by Otsu's threshold of the hematoxylin channel, then a watershed."""
    hematoxylin = gaussian(rgb2hed(rgb)[..., 0], 1)
    mask = ndimage.binary_fill_holes(hematoxylin > threshold_otsu(hematoxylin))
    mask = opening(mask, disk(2))
    mask = remove_small_objects(mask, max_size=59)
    return np.asarray(remove_small_objects(split_touching(mask, sigma=1, height=0.75), max_size=59), np.int32)


def split_touching(mask: NDArray[np.bool_], sigma: float, height: float) -> NDArray[np.int32]:
    """Split a mask at its narrow parts, by a watershed of its distance transform."""
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), sigma)
    peaks = h_maxima(distance, height)
    seeds = ndimage.label(peaks, structure=np.ones((3, 3)))[0]
    return np.asarray(watershed(-distance, seeds, mask=mask), np.int32)


_MAX_OD = 1.0
"""Largest optical density that is unmixed, since a black pixel says nothing about its stains."""

_HE_VECTORS = np.array([[0.644, 0.717, 0.267], [0.093, 0.954, 0.283]])
"""Optical densities of hematoxylin and eosin in red, green and blue; both programs call this vector set "H&E"."""

_HDAB_VECTORS = np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776], [0.711, 0.424, 0.562]])
"""Optical densities of hematoxylin, DAB and a residual in red, green and blue (Ruifrok and Johnston 2001)."""


def separate_hdab(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute hematoxylin and DAB density, 0 or more, shape (height, width); dark pixels are clipped before."""
    od = np.minimum(-np.log10((rgb.astype(np.float64) + 1) / 256), _MAX_OD)
    vectors = _HDAB_VECTORS / np.linalg.norm(_HDAB_VECTORS, axis=1, keepdims=True)
    density = od @ np.linalg.inv(vectors)
    return np.maximum(density[..., 0], 0), np.maximum(density[..., 1], 0)


def separate_he(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the hematoxylin density of H&E, 0 or more; the third vector is orthogonal to hematoxylin and eosin."""
    od = -np.log10((rgb.astype(np.float64) + 1) / 256)
    stains = _HE_VECTORS / np.linalg.norm(_HE_VECTORS, axis=1, keepdims=True)
    residual: NDArray[np.float64] = np.cross(stains[0], stains[1])
    density: NDArray[np.float64] = od @ np.linalg.inv(np.vstack([stains, residual / np.linalg.norm(residual)]))
    return np.maximum(density[..., 0], 0)


def dab_cut(images: Iterable[NDArray[np.uint8]]) -> float:
    """Compute one DAB cut for a set: Otsu's threshold over a sample of all its images' pixels."""
    return float(threshold_otsu(np.concatenate([separate_hdab(rgb[::4, ::4])[1].ravel() for rgb in images])))


def detect_ihc(rgb: NDArray[np.uint8], diameter_px: float, cut: float) -> Points:
    """Find positive and negative nuclei on hematoxylin-DAB: brown first, then blue in what is left.

    Parameters
    ----------
    rgb
        Image, uint8, shape (height, width, 3).
    diameter_px
        Diameter of a typical nucleus, pixels; smoothing, opening and the smallest area depend on it.
    cut
        DAB density above which a pixel is brown, from `dab_cut`.

    Returns
    -------
    Centroids (x, y) of positive and of negative nuclei, corner convention, shape (n, 2).
    """
    unit = diameter_px / 30
    hematoxylin, dab = (gaussian(channel, 1.5 * unit) for channel in separate_hdab(rgb))
    brown = dab > cut
    # Brown nuclei have a dark rim that is not brown and would be taken for blue.
    left = ~ndimage.binary_dilation(brown, iterations=max(1, round(5 * unit)))
    blue = left & (hematoxylin > threshold_otsu(hematoxylin[left]))
    return _centroids(brown, diameter_px), _centroids(blue, diameter_px)


def segment_cellprofiler(
    rgb: NDArray[np.uint8], diameters_px: tuple[float, float] = (10, 40), ihc: bool = False
) -> NDArray[np.int32]:
    """Label nuclei as CellProfiler's IdentifyPrimaryObjects does with its default settings.

    The steps are: UnmixColors to a stain image (1 - transmitted light); smoothing of scale 1.3488 before the threshold;
    global minimum cross-entropy threshold (Li); filling of holes; separation of clumped objects by intensity, with
    automatic smoothing and distance between maxima; removal of objects outside the diameters. Unlike in the default,
    objects at the border are kept, because the truth has them (Stirling et al. 2021, CellProfiler 4).

    Parameters
    ----------
    rgb
        Image, uint8, shape (height, width, 3).
    diameters_px
        Smallest and largest diameter of an object, pixels; the diameter is that of a disc of the same area.
    ihc
        Whether the stains are hematoxylin and DAB, whose sum is the stain image, instead of H&E.

    Returns
    -------
    Label image, int32, shape (height, width), 0 = background.
    """
    least, largest = diameters_px
    density = np.add(*separate_hdab(rgb)) if ihc else separate_he(rgb)
    stain = 1 - 10**-density
    even = gaussian(stain, 1)
    mask = ndimage.binary_fill_holes(even > threshold_li(even))
    # "Automatic" means a filter of 2.35 x least / 3.5 px full width at half maximum, and maxima least / 1.5 px apart.
    smooth = gaussian(stain, least / 3.5)
    components = ndimage.label(mask)[0]
    peaks = peak_local_max(smooth, min_distance=max(1, round(least / 1.5)), labels=components, exclude_border=False)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-smooth, seeds, mask=mask, connectivity=2)
    return _keep_areas(labels, np.pi * least**2 / 4, np.pi * largest**2 / 4)


def segment_fiji(rgb: NDArray[np.uint8], diameter_px: float = 20, ihc: bool = False) -> NDArray[np.int32]:
    """Label nuclei as a common Fiji macro does.

    The steps are: Colour Deconvolution; blur of the stain's 8-bit image, in which stain is dark, by 1 px; Otsu's
    threshold of the whole image; Fill Holes; Watershed, which cuts between maxima of the Euclidean distance map that
    stand out by more than 0.5; Analyze Particles from a quarter of a nucleus's area to ten times of it, since filled
    loops of stroma are larger (Schindelin et al. 2012, Fiji; Ruifrok and Johnston 2001).

    Parameters
    ----------
    rgb
        Image, uint8, shape (height, width, 3).
    diameter_px
        Diameter of a typical nucleus, pixels.
    ihc
        Whether the stains are hematoxylin and DAB, whose sum is the stain image, instead of H&E.

    Returns
    -------
    Label image, int32, shape (height, width), 0 = background.
    """
    density = np.add(*separate_hdab(rgb)) if ihc else separate_he(rgb)
    dark = np.round(ndimage.gaussian_filter(np.round(255 * 10**-density), 1)).astype(np.uint8)
    if dark.min() == dark.max():
        return np.zeros(dark.shape, np.int32)
    mask = ndimage.binary_fill_holes(dark <= threshold_otsu(dark))
    distance = ndimage.distance_transform_edt(mask)
    seeds = ndimage.label(h_maxima(distance, 0.5), np.ones((3, 3)))[0]
    labels = watershed(-distance, seeds, mask=mask, connectivity=2)
    # This draws lines one pixel wide; scikit-image's own option for them never ends on maps with plateaus.
    labels[ndimage.maximum_filter(labels, footprint=disk(1)) > labels] = 0
    typical = np.pi * diameter_px**2 / 4
    return _keep_areas(labels, typical / 4, 10 * typical)


def split_by_dab(labels: NDArray[np.int32], rgb: NDArray[np.uint8], cut: float) -> Points:
    """Compute the centroids of positive nuclei, whose mean DAB density is above ``cut``, and of negative ones."""
    ids = np.flatnonzero(np.bincount(labels.ravel()))
    ids = ids[ids > 0]
    if ids.size == 0:
        return np.empty((0, 2)), np.empty((0, 2))
    xy = np.array(ndimage.center_of_mass(labels > 0, labels, ids))[:, ::-1] + 0.5
    positive = np.asarray(ndimage.mean(separate_hdab(rgb)[1], labels, ids)) > cut
    return xy[positive], xy[~positive]


def _keep_areas(labels: NDArray[np.integer], least: float, largest: float) -> NDArray[np.int32]:
    area = np.bincount(labels.ravel())
    keep = (area >= least) & (area <= largest)
    keep[0] = False
    return np.where(keep[labels], labels, 0).astype(np.int32)


def _centroids(mask: NDArray[np.bool_], diameter_px: float) -> NDArray[np.float64]:
    unit = diameter_px / 30
    min_area = round(0.15 * np.pi * diameter_px**2 / 4)
    mask = isotropic_opening(ndimage.binary_fill_holes(mask), max(1, 2 * unit))
    mask = remove_small_objects(mask, max_size=min_area)
    labels = split_touching(mask, sigma=1.5 * unit, height=0.75 * unit)
    return centroids(labels)

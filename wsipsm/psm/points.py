"""Points of detected nuclei (Eq. 7), and the Voronoi labels that the segmenter learns from (Eq. 8)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from wsipsm.psm.pseudo_label import IGNORED, cell_borders

_CANDIDATES = 1024


def find_maxima(
    scores: NDArray[np.float32], radius_px: float, min_score: float, sigma_px: float = 0.0
) -> NDArray[np.float64]:
    """Find strict local maxima of a score map (Eq. 7): higher than every other pixel within a radius.

    Parameters
    ----------
    scores
        Score map, shape (h, w), 0..1.
    radius_px
        Radius of the neighbourhood, a disc, pixels; at least 1.
    min_score
        Smallest score of a point.
    sigma_px
        Standard deviation of a Gaussian that smooths the map first, pixels. Saturated maps are flat and would have no
        strict maximum without it.

    Returns
    -------
    Points (x, y), shape (n, 2), centres of pixels in corner convention, in scan order.
    """
    smooth = ndimage.gaussian_filter(scores.astype(np.float64), sigma_px) if sigma_px else scores.astype(np.float64)
    reach = int(np.floor(radius_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    around = (y * y + x * x <= radius_px * radius_px) & ((y != 0) | (x != 0))
    # The whole disc is compared only for pixels that reach the score and are higher than their four neighbours. They
    # are few, and a plateau has none of them, however large it is.
    cross = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)
    nearest = cv2.dilate(smooth, cross, borderType=cv2.BORDER_CONSTANT, borderValue=-np.inf)
    rows, columns = np.nonzero((smooth >= min_score) & (smooth > nearest))
    padded = np.pad(smooth, reach, constant_values=-np.inf)
    strict = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), _CANDIDATES):  # in parts, since each candidate takes the memory of a whole disc
        some = np.s_[start : start + _CANDIDATES]
        others = padded[rows[some, None] + y[around] + reach, columns[some, None] + x[around] + reach]
        strict[some] = smooth[rows[some], columns[some]] > others.max(axis=1, initial=-np.inf)
    rows, columns = rows[strict], columns[strict]
    return np.column_stack([columns, rows]).astype(np.float64).reshape(-1, 2) + 0.5


def voronoi_label(
    points_xy: NDArray[np.float64], shape: tuple[int, int], point_radius_px: int = 2
) -> NDArray[np.uint8]:
    """Make the point label of Eq. 8: points are nuclei, borders of their Voronoi cells background, the rest is ignored.

    Parameters
    ----------
    points_xy
        Points, shape (n, 2), pixels, corner convention, inside the image.
    shape
        Height and width of the image, pixels.
    point_radius_px
        Radius of the disc that is drawn for a point, pixels.

    Returns
    -------
    Label of each pixel, 1 nucleus, 0 background, 255 ignored, shape (h, w); all ignored where there is no point.
    """
    label = np.full(shape, IGNORED, np.uint8)
    columns, rows = np.floor(points_xy).astype(np.intp).reshape(-1, 2).T
    seeds = np.zeros(shape, np.int32)
    seeds[rows, columns] = np.arange(1, len(rows) + 1)
    if not len(rows):
        return label
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    side = 2 * point_radius_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    label[cell_borders(seeds[tuple(nearest)])] = 0
    label[cv2.dilate((seeds > 0).astype(np.uint8), disc) > 0] = 1
    return label


def divide_by_points(mask: NDArray[np.bool_], points_xy: NDArray[np.float64]) -> NDArray[np.int32]:
    """Divide a mask's connected parts by a watershed from the points in them; a part without a point stays whole.

    Parameters
    ----------
    mask
        Mask of nuclei, shape (h, w).
    points_xy
        Points, shape (n, 2), pixels, corner convention, inside the image; those outside the mask are not used.

    Returns
    -------
    Label image, shape (h, w), 1..n without gaps.
    """
    parts, _ = ndimage.label(mask)
    columns, rows = np.floor(points_xy).astype(np.intp).reshape(-1, 2).T
    inside = mask[rows, columns]
    rows, columns = rows[inside], columns[inside]
    markers = np.zeros(mask.shape, np.int32)
    markers[rows, columns] = np.arange(1, len(rows) + 1)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    labels = np.asarray(watershed(-distance, markers, mask=mask), np.int32)  # type: ignore[no-untyped-call]
    alone = mask & (labels == 0)
    labels[alone] = parts[alone] + len(rows)
    _, dense = np.unique(labels, return_inverse=True)
    return np.asarray(dense.reshape(mask.shape) + (0 if (labels == 0).any() else 1), np.int32)

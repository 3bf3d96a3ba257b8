"""Pseudo labels from fused maps: nuclei on which many divisions agree, background, and pixels to be ignored.

A single threshold of a map gives pseudo masks that a student can only copy. Here every fused map is cut at several
thresholds, and every cut is divided into objects (a seeding). The confidence of an object is the overlap with which it
occurs in the other seedings (instance consistency, after COIN, ICCV 2025). Objects of high confidence are foreground.
Background is where even the lowest threshold finds nothing, and on the Voronoi edges between objects (Eq. 8). All other
pixels are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.instances.labels import grow, label_windows
from wsipsm.psm.recurrence import Agreement

IGNORED = 255
"""Value of a pixel that no loss uses."""
_KEEP_SHARE = 0.6
"""Share of the objects that is kept."""
_MIN_SIZE = 0.22
"""Smallest area of a kept object, as a share of the median."""
_SMOOTHING = 0.1
"""Sigma of the smoothing of outlines, as a share of the square root of the area."""
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """The training target of one image."""

    nucleus: NDArray[np.uint8]
    """Class of each pixel, 1 nucleus, 0 background, 255 ignored; shape (h, w)."""
    instances: NDArray[np.int32]
    """Label image of the kept nuclei, numbered with gaps, 0 elsewhere; shape (h, w)."""
    positive: NDArray[np.uint8]
    """Marker of each pixel, 1 positive, 0 negative, 255 outside kept nuclei, shape (h, w); all 255 on H&E."""
    points_xy: NDArray[np.float64]
    """Centroids of the kept nuclei, shape (n, 2), corner convention."""


def _select(agreement: Agreement, share: float, min_size: float) -> NDArray[np.bool_]:
    """Choose the labels to keep: the most confident ones of each third of the sizes, so that all sizes remain.

    Objects smaller than ``min_size`` times the median area are never kept.
    """
    area = np.bincount(agreement.labels.ravel(), minlength=len(agreement.confidence))
    keep = np.zeros(len(area), dtype=bool)
    ids = np.arange(1, len(area))
    if not len(ids):
        return keep
    edges = np.quantile(area[1:], [0.0, 0.33, 0.67, 1.0])
    for low, high in pairwise(edges):
        group = ids[(area[ids] >= low) & (area[ids] <= high)]
        order = group[np.argsort(-agreement.confidence[group], kind="stable")]
        keep[order[: int(np.ceil(share * len(order)))]] = True
    return np.asarray(keep & (area >= min_size * np.median(area[1:])))


def make_pseudo_label(
    groups: Sequence[tuple[Agreement, bool | None]], share: float = _KEEP_SHARE, refined: bool = False
) -> PseudoLabel:
    """Make the training target of one image from the agreement of each class.

    Parameters
    ----------
    groups
        Agreement, and whether its nuclei are positive (None where no marker is scored), for each class. Where objects
        overlap, the earlier class keeps the pixels.
    share
        Share of the objects that is kept, the most confident ones within each size and class.
    refined
        Whether outlines are smoothed, since those of nuclei are smooth and those of colour are not, and whether objects
        that are small for their image are left out as fragments.

    Returns
    -------
    The training target.
    """
    shape = groups[0][0].labels.shape
    instances = np.zeros(shape, np.int32)
    positive = np.full(shape, IGNORED, np.uint8)
    generous, found = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    n = 0
    for agreement, is_positive in groups:
        chosen = _select(agreement, share, _MIN_SIZE if refined else 0.0)
        kept = np.where(chosen[agreement.labels] & (instances == 0), agreement.labels, 0).astype(np.int32)
        if refined:
            kept = np.where(instances == 0, smooth_outlines(kept), 0)
        instances = np.where(kept > 0, kept + n, instances).astype(np.int32)
        n += int(agreement.labels.max())
        generous |= agreement.generous
        found |= agreement.labels > 0
        if is_positive is not None:
            positive[kept > 0] = int(is_positive)
    return PseudoLabel(_teachable(instances, generous, found), instances, positive, _centroids(instances))


def _teachable(
    instances: NDArray[np.int32], generous: NDArray[np.bool_], found: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Mark each pixel as nucleus, background or, where neither is certain, as ignored; shape (h, w), uint8."""
    foreground = instances > 0
    nucleus = np.full(instances.shape, IGNORED, np.uint8)
    nucleus[~(cv2.dilate((generous | found).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)] = 0
    # The rim of a kept nucleus is background even where the lowest threshold includes it. If it were ignored, the
    # outlines that a network learns would grow from round to round.
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    rim = (cv2.dilate(foreground.astype(np.uint8), disc) > 0) & ~found
    nucleus[rim | voronoi_edges(instances)] = 0
    nucleus[foreground] = 1
    return nucleus


def smooth_outlines(instances: NDArray[np.int32]) -> NDArray[np.int32]:
    """Smooth the outline of each instance by a Gaussian of a tenth of its size, and fill its holes.

    A vesicular nucleus is dark at its rim alone, so its pale middle must be filled. Where two smoothed instances
    overlap, the lower label keeps the pixels.
    """
    result = np.zeros_like(instances)
    for label, window in label_windows(instances):
        area = float(np.count_nonzero(instances[window] == label))
        sigma = max(1.0, _SMOOTHING * float(np.sqrt(area)))
        around = grow(window, math.ceil(3 * sigma) + 1)
        mask = ndimage.binary_fill_holes(instances[around] == label).astype(np.float32)
        smoothed = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) > _HALF
        view = result[around]
        view[smoothed & (view == 0)] = label
    return result


def voronoi_edges(instances: NDArray[np.int32], reach_px: float = 4.0) -> NDArray[np.bool_]:
    """Find the borders of the instances' Voronoi cells that lie within ``reach_px`` of one: background in Eq. 8."""
    if not instances.any():
        return np.zeros(instances.shape, dtype=bool)
    distance, nearest = ndimage.distance_transform_edt(instances == 0, return_indices=True)
    edge = cell_borders(instances[tuple(nearest)])
    return np.asarray(edge & (instances == 0) & (distance <= reach_px))


def cell_borders(cells: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Find the pixels whose upper or left neighbour belongs to another cell; shape (h, w)."""
    edge = np.zeros(cells.shape, dtype=bool)
    edge[1:] |= cells[1:] != cells[:-1]
    edge[:, 1:] |= cells[:, 1:] != cells[:, :-1]
    return edge


def normalised_distance(instances: NDArray[np.int32]) -> NDArray[np.float32]:
    """Compute the distance to the outline of each instance, divided by its largest; shape (h, w), 0..1.

    The border of the array is no outline, since an instance that touches it continues outside.
    """
    result = np.zeros(instances.shape, np.float32)
    height, width = instances.shape
    for label, window in label_windows(instances):
        rows, columns = window
        mask = np.pad(instances[window] == label, 1, mode="edge").astype(np.uint8)
        mask[0] *= rows.start == 0
        mask[-1] *= rows.stop == height
        mask[:, 0] *= columns.start == 0
        mask[:, -1] *= columns.stop == width
        distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[1:-1, 1:-1]
        inside = mask[1:-1, 1:-1] > 0
        result[window] = np.where(inside, distance / max(float(distance[inside].max()), 1e-6), result[window])
    return result


def _centroids(instances: NDArray[np.int32]) -> NDArray[np.float64]:
    ids = np.unique(instances)[1:]
    centres = ndimage.center_of_mass(instances > 0, instances, ids) if len(ids) else []
    return np.array(centres, dtype=np.float64).reshape(-1, 2)[:, ::-1] + 0.5

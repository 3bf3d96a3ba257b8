"""Fused maps to pseudo labels: instances on which many seedings agree, and what nobody may learn from.

A single threshold of a map gives pseudo masks that a student can only copy. Here every fused map is cut at
several places, every cut is divided into objects, and an object is believed as far as it comes out again in the
other seedings (instance consistency, after COIN, ICCV 2025). Believed objects are foreground, places where
even a generous cut finds nothing are background, Voronoi edges between objects are background (Eq. 8), and
everything between is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops
from skimage.segmentation import watershed

from wsipsm.psm.cluster import cluster

IGNORED = 255
_MIN_AREA_PX, _MAX_AREA_PX = 60, 4500
_MAX_HOLE_PX = 300
_KEEP_SHARE = 0.6
_MIN_AGREEMENT = 0.35


@dataclass(frozen=True, slots=True)
class Agreement:
    """Objects on which the seedings of one image agree."""

    labels: NDArray[np.int32]
    """Shape (h, w), 0 = background."""
    confidence: NDArray[np.float64]
    """Mean best IoU over the other seedings, by label; entry 0 is unused."""
    generous: NDArray[np.bool_]
    """Where a generous seeding finds something, shape (h, w)."""


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """What one image teaches."""

    nucleus: NDArray[np.uint8]
    """1 nucleus, 0 background, 255 ignored; shape (h, w)."""
    distance: NDArray[np.float32]
    """Distance to the outline inside a nucleus, 1 at its deepest point; 0 elsewhere."""
    positive: NDArray[np.uint8]
    """1 positive, 0 negative, 255 where no kept nucleus lies; all 255 on H&E."""
    points_xy: NDArray[np.float64]
    """Centroids of the kept nuclei, shape (n, 2), corner convention."""


def find_agreement(densities: Sequence[NDArray[np.float32]], seed: int = 0) -> Agreement:
    """Cut every density in three places, divide each cut into objects, and keep those that recur.

    Parameters
    ----------
    densities
        Fused maps of one image (Eq. 5), each of shape (h, w).
    seed
        Of K-means.
    """
    seedings: list[NDArray[np.int32]] = []
    generous = np.zeros(densities[0].shape, dtype=bool)
    for density in densities:
        centres = cluster(density, seed)
        for shift in (-0.35, 0.0, 0.35):
            cut = centres.middle + shift * centres.step * 2
            cut = float(np.clip(cut, *np.quantile(density[::3, ::3], [0.55, 0.985])))
            seedings.append(divide_touching(density > cut, opening_px=3 if shift <= 0 else 2))
            if shift < 0:
                generous |= seedings[-1] > 0
    labels, confidence = _take_greedily(seedings)
    return Agreement(labels, confidence, generous)


def fill_small_holes(mask: NDArray[np.uint8], max_hole_px: int) -> None:
    """Fill background parts of at most ``max_hole_px`` pixels of a mask of 0 and 1, in place."""
    _, holes, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= max_hole_px
    small[0] = False  # the mask itself
    mask[small[holes]] = 1


def divide_touching(mask: NDArray[np.bool_], opening_px: int) -> NDArray[np.int32]:
    """Open a mask, fill its small holes, and divide it by a watershed on the smoothed distance to its edge."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * opening_px + 1, 2 * opening_px + 1))
    filled = mask.astype(np.uint8)
    fill_small_holes(filled, _MAX_HOLE_PX)
    opened = cv2.morphologyEx(filled, cv2.MORPH_OPEN, disc)
    distance = cv2.GaussianBlur(cv2.distanceTransform(opened, cv2.DIST_L2, 5), (0, 0), 1.5)
    peaks = (distance >= cv2.dilate(distance, np.ones((9, 9), np.uint8))) & (opened > 0)
    _, markers = cv2.connectedComponents(peaks.astype(np.uint8), connectivity=8)
    labels = watershed(-distance, markers, mask=opened > 0).astype(np.int32)  # type: ignore[no-untyped-call]
    area = np.bincount(labels.ravel())
    keep = (area >= _MIN_AREA_PX) & (area <= _MAX_AREA_PX)
    keep[0] = False
    return np.asarray(np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels])


def _best_iou(labels: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.float64]:
    """Best IoU of every label of one image with the labels of another; entry 0 is 0."""
    n, m = int(labels.max()) + 1, int(other.max()) + 1
    pairs, common = np.unique(labels.ravel().astype(np.int64) * m + other.ravel(), return_counts=True)
    first, second = pairs // m, pairs % m
    area, other_area = np.bincount(labels.ravel(), minlength=n), np.bincount(other.ravel(), minlength=m)
    iou = np.where((first > 0) & (second > 0), common / (area[first] + other_area[second] - common), 0.0)
    best = np.zeros(n)
    np.maximum.at(best, first, iou)
    return best


def _take_greedily(seedings: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    candidates = []
    for index, labels in enumerate(seedings):
        others = [_best_iou(labels, other) for k, other in enumerate(seedings) if k != index]
        score = np.mean(others, axis=0)
        for region in regionprops(labels):  # type: ignore[no-untyped-call]
            if score[region.label] > _MIN_AGREEMENT:
                quality = score[region.label] * min(1.0, region.solidity / 0.9) ** 2
                candidates.append((-quality, index, region.label, region.slice, region.image))
    candidates.sort(key=lambda c: c[:3])
    result = np.zeros(seedings[0].shape, np.int32)
    confidence = [0.0]
    for negative_quality, _, _, box, image in candidates:
        if -negative_quality < _MIN_AGREEMENT:
            break
        view = result[box]
        if (view[image] > 0).mean() > 0.1:
            continue
        view[image & (view == 0)] = len(confidence)
        confidence.append(-negative_quality)
    return result, np.array(confidence)


def _select(agreement: Agreement, share: float) -> NDArray[np.bool_]:
    """Which labels to keep: the best share within each third of the sizes, so that no size is lost for good."""
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
    return keep


def make_pseudo_label(groups: Sequence[tuple[Agreement, bool | None]], share: float = _KEEP_SHARE) -> PseudoLabel:
    """Join the agreements of one image, one a class, to what the student learns from.

    Parameters
    ----------
    groups
        Agreement and whether its nuclei are positive; None where no marker is scored. Earlier groups win.
    share
        Part of the objects kept, the best within each size and class.
    """
    shape = groups[0][0].labels.shape
    instances = np.zeros(shape, np.int32)
    positive = np.full(shape, IGNORED, np.uint8)
    generous, found = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    n = 0
    for agreement, is_positive in groups:
        kept = np.where(_select(agreement, share)[agreement.labels] & (instances == 0), agreement.labels, 0)
        instances = np.where(kept > 0, kept + n, instances).astype(np.int32)
        n += int(agreement.labels.max())
        generous |= agreement.generous
        found |= agreement.labels > 0
        if is_positive is not None:
            positive[kept > 0] = int(is_positive)
    foreground = instances > 0
    nucleus = np.full(shape, IGNORED, np.uint8)
    nucleus[~(cv2.dilate((generous | found).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)] = 0
    # The rim of a kept nucleus is background also where a generous cut took it along: left ignored, outlines creep out.
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    rim = (cv2.dilate(foreground.astype(np.uint8), disc) > 0) & ~found
    nucleus[rim | voronoi_edges(instances)] = 0
    nucleus[foreground] = 1
    return PseudoLabel(nucleus, normalised_distance(instances), positive, _centroids(instances))


def voronoi_edges(instances: NDArray[np.int32], reach_px: float = 4.0) -> NDArray[np.bool_]:
    """Borders of the Voronoi cells of instances, within reach of one: background in Eq. 8."""
    if not instances.any():
        return np.zeros(instances.shape, dtype=bool)
    distance, nearest = ndimage.distance_transform_edt(instances == 0, return_indices=True)
    edge = cell_borders(instances[tuple(nearest)])
    return np.asarray(edge & (instances == 0) & (distance <= reach_px))


def cell_borders(cells: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels whose upper or left neighbour belongs to another cell; the image's border is none."""
    edge = np.zeros(cells.shape, dtype=bool)
    edge[1:] |= cells[1:] != cells[:-1]
    edge[:, 1:] |= cells[:, 1:] != cells[:, :-1]
    return edge


def normalised_distance(instances: NDArray[np.int32]) -> NDArray[np.float32]:
    """Distance to the outline of each instance, divided by its largest; shape (h, w), 0..1."""
    result = np.zeros(instances.shape, np.float32)
    boxes: list[Any] = list(ndimage.find_objects(instances))
    for label, box in enumerate(boxes, start=1):
        if box is None:  # a label without pixels
            continue
        mask = np.pad(instances[box] == label, 1).astype(np.uint8)
        distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[1:-1, 1:-1]
        result[box] = np.where(mask[1:-1, 1:-1] > 0, distance / max(float(distance.max()), 1e-6), result[box])
    return result


def _centroids(instances: NDArray[np.int32]) -> NDArray[np.float64]:
    ids = np.unique(instances)[1:]
    centres = ndimage.center_of_mass(instances > 0, instances, ids) if len(ids) else []
    return np.array(centres, dtype=np.float64).reshape(-1, 2)[:, ::-1] + 0.5

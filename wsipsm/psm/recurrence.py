"""Objects on which many divisions of one image agree (instance consistency, after COIN, ICCV 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from wsipsm.instances.labels import keep_labels, label_windows
from wsipsm.psm.cluster import cluster

_MIN_AREA_PX, _MAX_AREA_PX = 60, 4500
_MAX_HOLE_PX = 300
_MIN_AGREEMENT = 0.35


@dataclass(frozen=True, slots=True)
class Agreement:
    """Objects on which the seedings of one image agree."""

    labels: NDArray[np.int32]
    """Label image of the objects, shape (h, w), 0 = background."""
    confidence: NDArray[np.float64]
    """Confidence by label, as :func:`take_greedily` gives it, shape (n + 1,); entry 0 is unused."""
    generous: NDArray[np.bool_]
    """Pixels that belong to an object at the lowest threshold of any density, shape (h, w)."""

    def means(self, plane: NDArray[np.float32]) -> NDArray[np.float64]:
        """Average a plane (h, w) over each object; shape (n + 1,), by label, with NaN as entry 0."""
        ids = np.arange(1, len(self.confidence))
        found = np.asarray(ndimage.mean(plane, self.labels, ids), dtype=np.float64) if len(ids) else np.zeros(0)
        return np.concatenate([[np.nan], found])


def find_agreement(densities: Sequence[NDArray[np.float32]], seed: int = 0) -> Agreement:
    """Cut every density at three thresholds, divide each cut into objects, and keep those that recur.

    Parameters
    ----------
    densities
        Fused maps of one image (Eq. 5), each of shape (h, w).
    seed
        Seed of k-means, which sets the thresholds.

    Returns
    -------
    Objects on which the cuts agree.
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
    labels, confidence = take_greedily(seedings)
    return Agreement(labels, confidence, generous)


def fill_small_holes(mask: NDArray[np.uint8], max_hole_px: int) -> None:
    """Fill background parts of at most ``max_hole_px`` pixels of a mask of 0 and 1, in place."""
    _, holes, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= max_hole_px
    small[0] = False  # the mask itself
    mask[small[holes]] = 1


def divide_touching(mask: NDArray[np.bool_], opening_px: int) -> NDArray[np.int32]:
    """Fill a mask's small holes, open it, and divide it by a watershed on the smoothed distance to its edge.

    Parameters
    ----------
    mask
        Mask of nuclei, shape (h, w).
    opening_px
        Radius of the disc of the opening, pixels.

    Returns
    -------
    Label image, shape (h, w), 0 = background; objects too small or too large for a nucleus are left out.
    """
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * opening_px + 1, 2 * opening_px + 1))
    filled = mask.astype(np.uint8)
    fill_small_holes(filled, _MAX_HOLE_PX)
    opened = cv2.morphologyEx(filled, cv2.MORPH_OPEN, disc)
    distance = cv2.GaussianBlur(cv2.distanceTransform(opened, cv2.DIST_L2, 5), (0, 0), 1.5)
    peaks = (distance >= cv2.dilate(distance, np.ones((9, 9), np.uint8))) & (opened > 0)
    _, markers = cv2.connectedComponents(peaks.astype(np.uint8), connectivity=8)
    labels = watershed(-distance, markers, mask=opened > 0).astype(np.int32)  # type: ignore[no-untyped-call]
    area = np.bincount(labels.ravel())
    return keep_labels(labels, (area >= _MIN_AREA_PX) & (area <= _MAX_AREA_PX))


def _best_iou(labels: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.float64]:
    """Compute the best IoU of every label of one image with the labels of another; entry 0 is 0."""
    n, m = int(labels.max()) + 1, int(other.max()) + 1
    pairs, common = np.unique(labels.ravel().astype(np.int64) * m + other.ravel(), return_counts=True)
    first, second = pairs // m, pairs % m
    area, other_area = np.bincount(labels.ravel(), minlength=n), np.bincount(other.ravel(), minlength=m)
    iou = np.where((first > 0) & (second > 0), common / (area[first] + other_area[second] - common), 0.0)
    best = np.zeros(n)
    np.maximum.at(best, first, iou)
    return best


def _solidity(image: NDArray[np.bool_]) -> float:
    """Compute the share of its convex hull that an object fills; scikit-image's function takes twenty times as long."""
    mask = image.astype(np.uint8)
    hull = np.zeros_like(mask)
    cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(mask)), 1)
    return float(mask.sum() / hull.sum())


def take_greedily(seedings: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Join several divisions of one image: take the objects that recur in the others, in order of their confidence.

    Parameters
    ----------
    seedings
        Label images of one shape, 0 = background, at least two.

    Returns
    -------
    Label image, and the confidence of each label: the mean best IoU with an object of the other seedings, lowered
    where the object is not convex; entry 0 is unused.
    """
    candidates = []
    for index, labels in enumerate(seedings):
        others = [_best_iou(labels, other) for k, other in enumerate(seedings) if k != index]
        score = np.mean(others, axis=0)
        for label, window in label_windows(labels):
            if score[label] > _MIN_AGREEMENT:
                image = labels[window] == label
                quality = score[label] * min(1.0, _solidity(image) / 0.9) ** 2
                candidates.append((-quality, index, label, window, image))
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

"""Decoding as it was first written: whole arrays, and no shortcut. What is faster must give the same labels."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from skimage.segmentation import watershed

from wsipsm.instances.decode import Decoded
from wsipsm.instances.labels import keep_labels, label_windows
from wsipsm.models.card import DecodeSettings

_LEVELS = 1024
_KERNEL_SUM = 128


def decode_plainly(maps: NDArray[np.float32], settings: DecodeSettings, mpp: float) -> Decoded:
    """Decode maps of 'nucleus' and 'distance'."""
    nucleus, sharp = _quantised(maps[0]), _quantised(maps[1])
    distance = _smoothed(sharp, settings.distance_sigma_px)
    px_per_um2 = 1.0 / (mpp * mpp)
    foreground = (nucleus > math.floor(settings.foreground * _LEVELS)).astype(np.uint8)
    _fill_small_holes(foreground, settings.min_area_um2 * px_per_um2)
    labels = _divide(foreground, distance, settings)
    _fill_label_holes(labels)
    if settings.opening_share:
        open_outlines(labels, settings.opening_share)
        _fill_label_holes(labels)
    return _within_limits(labels, nucleus, sharp, settings, px_per_um2)


def _quantised(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores as whole steps 0..1024, held as float32."""
    if not np.isfinite(scores).all():
        raise ValueError("maps: a score is not finite; scores in 0..1 are needed.")
    steps: NDArray[np.float32] = np.clip(np.rint(scores * np.float32(_LEVELS)), 0, _LEVELS)
    return steps


def _smoothed(steps: NDArray[np.float32], sigma_px: float) -> NDArray[np.int32]:
    """Gaussian smoothing with whole-number weights: exact, so no tie depends on the position in the array."""
    radius = max(0, math.ceil(2.5 * sigma_px))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma_px, 1e-6)) ** 2)
    kernel = np.rint(weights / weights.sum() * _KERNEL_SUM).astype(np.float32)
    kernel[radius] += _KERNEL_SUM - kernel.sum()
    filtered = cv2.sepFilter2D(steps, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    return filtered.astype(np.int32)


def _fill_small_holes(foreground: NDArray[np.uint8], max_hole_px: float) -> None:
    """Fill background parts of at most ``max_hole_px`` pixels that do not reach the border, in place."""
    n, parts, stats, _ = cv2.connectedComponentsWithStats(1 - foreground, connectivity=4)
    height, width = foreground.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    inside = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    fill = inside & (stats[:, cv2.CC_STAT_AREA] <= max_hole_px)
    fill[0] = False
    if n > 1 and fill.any():
        foreground[fill[parts]] = 1


def _divide(foreground: NDArray[np.uint8], distance: NDArray[np.int32], settings: DecodeSettings) -> NDArray[np.int32]:
    """Label foreground parts, and divide those that hold several seeds."""
    n_parts, parts = cv2.connectedComponents(foreground, connectivity=4, ltype=cv2.CV_32S)
    rows, columns = _find_seeds(foreground, distance, settings)
    part_of_seed = parts[rows, columns]
    shared = np.bincount(part_of_seed, minlength=n_parts) > 1
    shared[0] = False
    if not shared.any():
        return np.asarray(parts, dtype=np.int32)
    # A watershed of a part with one seed is the part itself, so only the others are flooded.
    keep = shared[part_of_seed]
    markers = np.zeros_like(parts)
    markers[rows[keep], columns[keep]] = np.arange(n_parts, n_parts + np.count_nonzero(keep), dtype=np.int32)
    flooded = watershed(-distance, markers, mask=shared[parts])  # type: ignore[no-untyped-call]
    flooded = _join_shallow(np.asarray(flooded, dtype=np.int32), distance, settings.saddle_share)
    return np.asarray(np.where(flooded > 0, flooded, parts), dtype=np.int32)


def _join_shallow(labels: NDArray[np.int32], distance: NDArray[np.int32], saddle_share: float) -> NDArray[np.int32]:
    """Join neighbours whose common border is hardly lower than the lower of their peaks: one nucleus, two seeds.

    The saddle of two labels is the highest value on their border. Only the two labels and their border decide.
    """
    n_labels = int(labels.max(initial=0)) + 1
    peak = np.zeros(n_labels, dtype=distance.dtype)
    np.maximum.at(peak, labels.ravel(), distance.ravel())
    keys, heights = [], []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        one, other = labels[first], labels[second]
        border = (one != other) & (one > 0) & (other > 0)
        low, high = np.minimum(one[border], other[border]), np.maximum(one[border], other[border])
        keys.append(low.astype(np.int64) * n_labels + high)
        heights.append(np.minimum(distance[first][border], distance[second][border]))
    pairs, position = np.unique(np.concatenate(keys), return_inverse=True)
    if not len(pairs):
        return labels
    saddle = np.zeros(len(pairs), dtype=distance.dtype)
    np.maximum.at(saddle, position, np.concatenate(heights))
    low, high = pairs // n_labels, pairs % n_labels
    shallow = saddle >= saddle_share * np.minimum(peak[low], peak[high])
    links = coo_array((np.ones(int(shallow.sum()), bool), (low[shallow], high[shallow])), shape=(n_labels, n_labels))
    _, group = connected_components(links, directed=False)
    _, first_label = np.unique(group, return_index=True)
    return np.asarray(first_label[group][labels], dtype=np.int32)


def _find_seeds(
    foreground: NDArray[np.uint8], distance: NDArray[np.int32], settings: DecodeSettings
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of seeds: maxima within the peak radius, one pixel for all that tie within it."""
    values = distance.astype(np.float32)
    peak_min = max(1.0, settings.peak_min * _LEVELS * _KERNEL_SUM**2)
    is_peak = (values >= cv2.dilate(values, np.ones((3, 3), np.uint8))) & (values >= peak_min) & (foreground > 0)
    rows, columns = np.nonzero(is_peak)
    radius = settings.peak_radius_px
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = dy * dy + dx * dx <= radius * radius
    height, width = foreground.shape
    # Few pixels pass the 3 x 3 test, so the wide one is a look-up at each and not a filter of the image.
    near_rows = np.clip(rows[:, None] + dy[disc], 0, height - 1)
    near_columns = np.clip(columns[:, None] + dx[disc], 0, width - 1)
    highest = distance[rows, columns] >= distance[near_rows, near_columns].max(axis=1, initial=0)
    rows, columns = rows[highest], columns[highest]
    if len(rows) < 2:
        return rows, columns
    pairs = cKDTree(np.column_stack([rows, columns])).query_pairs(radius, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(rows), len(rows)))
    _, group = connected_components(links, directed=False)
    _, first = np.unique(group, return_index=True)  # np.nonzero is in scan order: the first pixel stands for its group
    return rows[first], columns[first]


def _fill_label_holes(labels: NDArray[np.int32]) -> None:
    """Give every label the pixels it encloses, in place; a label inside another is absorbed.

    Enclosed means not 4-connected to the outside: a pocket that is open at a corner only is filled too,
    since the outline would touch itself there.
    """
    for label, window in label_windows(labels):
        crop = labels[window]
        crop[ndimage.binary_fill_holes(crop == label)] = label


def _within_limits(
    labels: NDArray[np.int32],
    nucleus: NDArray[np.float32],
    distance: NDArray[np.float32],
    settings: DecodeSettings,
    px_per_um2: float,
) -> Decoded:
    """Drop instances by area, mean probability and highest distance, and number the rest 1..n."""
    flat = labels.ravel()
    area_px = np.bincount(flat)
    # Sums of whole numbers: exact in any order, so the mean does not depend on the position in the array.
    mean = np.bincount(flat, weights=nucleus.ravel()) / np.maximum(area_px, 1) / _LEVELS
    too_large = area_px > settings.max_area_um2 * px_per_um2
    keep = (area_px >= settings.min_area_um2 * px_per_um2) & ~too_large & (mean >= settings.min_mean_probability)
    if settings.min_distance:
        highest = np.zeros(len(area_px), np.float32)
        np.maximum.at(highest, flat, distance.ravel())
        keep &= highest >= settings.min_distance * _LEVELS
    too_large[0] = False
    refused = np.flatnonzero(too_large)
    centres = ndimage.center_of_mass(labels > 0, labels, refused) if len(refused) else []
    xy_px = np.array(centres, dtype=np.float64).reshape(-1, 2)[:, ::-1] + 0.5
    return Decoded(labels=keep_labels(labels, keep), too_large_xy_px=xy_px)


def open_outlines(labels: NDArray[np.int32], share: float) -> None:
    """Open every label by a disc of a part of its own size, in place, and keep its largest 4-connected part.

    Scores follow stroma and cytoplasm that is dark beside a nucleus: tails, bridges and burrs, which nuclei do not
    have. A label's own pixels alone decide, by whole numbers, so nothing depends on where an array was cut.

    Parameters
    ----------
    labels
        Shape (h, w), 0 = background.
    share
        Radius of the disc as a part of the square root of the area; a round nucleus has 0.56. A disc under one
        pixel leaves all as it is.
    """
    for label, window in label_windows(labels):
        view = labels[window]
        own = view == label
        radius = math.floor(share * math.sqrt(np.count_nonzero(own)) + 0.5)
        if radius:
            view[own & ~_opened(own, radius)] = 0


def _opened(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    padded = np.pad(mask, radius + 1).astype(np.uint8)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if len(stats) < 2:
        return mask  # nowhere as wide as the disc: thin all over, and judged by its area
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    inside = slice(radius + 1, -radius - 1)
    return np.asarray(parts[inside, inside] == largest)

"""Decoding of score maps to instances: one label for each nucleus, by rules that use only it and its neighbours.

Everything after quantisation is integer arithmetic, so that the place where an array was cut changes neither a sum nor
a tie: a nucleus that is farther from the cut than the largest nucleus and a margin is the same pixel for pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from wsipsm.instances.labels import framed, keep_labels, least_of_linked
from wsipsm.instances.outline import open_outlines

_LEVELS = 1024
"""Steps to which maps are rounded: differences of 1e-6 between tilings vanish, and 0.001 changes no nucleus visibly."""
_PARTS_AT_ONCE = 32
"""Parts that are divided in one call."""
_KERNEL_SUM = 128
"""Sum of a smoothing kernel. 1024 * 128 * 128 is 2**24, so every partial sum of the separable filter is a whole number
that float32 can hold."""


class _DecodeSettings(Protocol):
    """The values of the model card's ``DecodeSettings`` that decoding reads; each is described there.

    The rooms of networks and of instances do not import each other, so this protocol stands for the class.
    """

    @property
    def foreground(self) -> float: ...
    @property
    def distance_sigma_px(self) -> float: ...
    @property
    def peak_radius_px(self) -> int: ...
    @property
    def peak_min(self) -> float: ...
    @property
    def saddle_share(self) -> float: ...
    @property
    def opening_share(self) -> float: ...
    @property
    def min_area_um2(self) -> float: ...
    @property
    def max_area_um2(self) -> float: ...
    @property
    def min_mean_probability(self) -> float: ...
    @property
    def min_distance(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """The instances of one array, and those that were refused for their size."""

    labels: NDArray[np.int32]
    """Shape (h, w), 0 = background, every label one 4-connected part without holes."""
    too_large_xy_px: NDArray[np.float64]
    """Centroids of instances above the largest area, shape (n, 2), corner convention, pixels of the array."""


def decode_instances(
    maps: NDArray[np.float32], outputs: tuple[str, ...], settings: _DecodeSettings, mpp: float
) -> NDArray[np.int32]:
    """Separate the nuclei of one array of score maps.

    See :func:`decode` for parameters and errors; this leaves out the instances that were refused.

    Returns
    -------
    Label image, shape (h, w), 0 = background, labels 1..n without gaps, each one 4-connected part without holes.
    """
    return decode(maps, outputs, settings, mpp).labels


def decode(maps: NDArray[np.float32], outputs: tuple[str, ...], settings: _DecodeSettings, mpp: float) -> Decoded:
    """Separate the nuclei of one array of score maps, and list those that were refused as too large.

    Foreground is thresholded and its small holes are filled; seeds are the maxima of the smoothed distance map;
    a foreground part with several seeds is divided by a watershed on the distance map. A part without any seed
    stays one nucleus: ``peak_min`` decides what may divide a part, and ``min_mean_probability`` what is kept. Small or
    blurred nuclei, whose distance map stays low, would be lost otherwise.

    Parameters
    ----------
    maps
        Scores in 0..1, shape (c, h, w), in the order of ``outputs``.
    outputs
        Names of the channels; 'nucleus' and 'distance' are used.
    settings
        Thresholds from the model's card.
    mpp
        Pixel size of the maps, um/px.

    Raises
    ------
    ValueError
        When a channel is missing, the shape does not fit, or a score is not finite.
    """
    nucleus = _quantised(_channel(maps, outputs, "nucleus"))
    sharp = _quantised(_channel(maps, outputs, "distance"))
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


def _channel(maps: NDArray[np.float32], outputs: tuple[str, ...], name: str) -> NDArray[np.float32]:
    if maps.ndim != 3 or len(maps) != len(outputs):
        raise ValueError(f"maps: shape {maps.shape}; one plane for each of {outputs} is needed.")
    if name not in outputs:
        raise ValueError(f"outputs: {outputs}; '{name}' is needed to decode nuclei.")
    plane: NDArray[np.float32] = maps[outputs.index(name)]
    return plane


def _quantised(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round scores to whole steps 0..1024, stored as float32."""
    # The minimum and maximum show NaN and infinity without an array of booleans.
    if scores.size and not (math.isfinite(scores.min()) and math.isfinite(scores.max())):
        raise ValueError("maps: a score is not finite; scores in 0..1 are needed.")
    steps = scores * np.float32(_LEVELS)
    np.rint(steps, out=steps)
    return np.clip(steps, 0, _LEVELS, out=steps)


def _smoothed(steps: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Smooth by a Gaussian of integer weights; it is exact, so that no tie depends on the position in the array."""
    radius = max(0, math.ceil(2.5 * sigma_px))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma_px, 1e-6)) ** 2)
    kernel = np.rint(weights / weights.sum() * _KERNEL_SUM).astype(np.float32)
    kernel[radius] += _KERNEL_SUM - kernel.sum()
    filtered = cv2.sepFilter2D(steps, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(filtered, dtype=np.float32)


def _fill_small_holes(foreground: NDArray[np.uint8], max_hole_px: float) -> None:
    """Fill background parts of at most ``max_hole_px`` pixels that do not reach the border, in place."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(1 - foreground, connectivity=4, ltype=cv2.CV_32S)
    height, width = foreground.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    inside = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    fill = inside & (stats[:, cv2.CC_STAT_AREA] <= max_hole_px)
    fill[0] = False
    for part in np.flatnonzero(fill):
        window = np.s_[top[part] : bottom[part], left[part] : right[part]]
        foreground[window][parts[window] == part] = 1


def _divide(
    foreground: NDArray[np.uint8], distance: NDArray[np.float32], settings: _DecodeSettings
) -> NDArray[np.int32]:
    """Label foreground parts, and divide those that hold several seeds."""
    n_parts, parts, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=4, ltype=cv2.CV_32S)
    rows, columns = _find_seeds(foreground, distance, settings)
    part_of_seed = parts[rows, columns]
    shared = np.bincount(part_of_seed, minlength=n_parts) > 1
    shared[0] = False
    labels = np.asarray(parts, dtype=np.int32)
    if not shared.any():
        return labels
    # The watershed of a part with one seed is the part itself, so only the others need one.
    keep = shared[part_of_seed]
    markers = np.zeros_like(labels)
    markers[rows[keep], columns[keep]] = np.arange(n_parts, n_parts + np.count_nonzero(keep), dtype=np.int32)
    flooded = _flooded(labels, np.flatnonzero(shared), np.asarray(stats), markers, distance)
    places = np.flatnonzero(flooded > 0)
    labels.ravel()[places] = _join_shallow(flooded, places, distance, settings.saddle_share)
    return labels


def _flooded(
    parts: NDArray[np.int32],
    shared: NDArray[np.intp],
    stats: NDArray[np.integer],
    markers: NDArray[np.int32],
    distance: NDArray[np.float32],
) -> NDArray[np.int32]:
    """Fill parts from the markers in them, some at a time.

    A call costs as much as the work on some hundred small parts, and one queue for all parts takes twice as long as
    short ones. Which of two markers of the same height comes first may depend on all that is in the queue, so a part
    with such markers is filled alone.
    """
    flooded = np.zeros_like(parts)
    seeds = np.flatnonzero(markers)
    owners, heights = parts.ravel()[seeds], distance.ravel()[seeds]
    order = np.lexsort((heights, owners))
    tie = (np.diff(owners[order]) == 0) & (np.diff(heights[order]) == 0)
    alone = np.isin(shared, owners[order][1:][tie])
    # Parts of about one height waste little of the array that holds them side by side.
    together = shared[~alone]
    together = together[np.argsort(stats[together, cv2.CC_STAT_HEIGHT], kind="stable")]
    batches = [together[n : n + _PARTS_AT_ONCE] for n in range(0, len(together), _PARTS_AT_ONCE)]
    for batch in (*batches, *shared[alone][:, None]):
        _flood_side_by_side(flooded, batch, (parts, markers, distance), stats)
    return flooded


def _flood_side_by_side(
    flooded: NDArray[np.int32],
    batch: NDArray[np.intp],
    planes: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]],
    stats: NDArray[np.integer],
) -> None:
    """Fill some parts in one watershed, each as if it were alone, since nothing flows between them."""
    parts, markers, distance = planes
    boxes = stats[batch, : cv2.CC_STAT_AREA].tolist()
    shape = max((height for *_, height in boxes), default=0), sum(width + 1 for _, _, width, _ in boxes)
    own, seeds, height_of = np.zeros(shape, bool), np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    places, at = [], 0
    for part, (left, top, width, height) in zip(batch, boxes, strict=True):
        window, place = np.s_[top : top + height, left : left + width], np.s_[:height, at : at + width]
        own[place] = parts[window] == part
        seeds[place] = markers[window]
        height_of[place] = distance[window]
        places.append((window, place))
        at += width + 1
    basins = watershed(-height_of, seeds * own, mask=own)  # type: ignore[no-untyped-call]
    for window, place in places:
        flooded[window] += basins[place]  # windows overlap, parts do not


def _join_shallow(
    labels: NDArray[np.int32], places: NDArray[np.intp], distance: NDArray[np.float32], saddle_share: float
) -> NDArray[np.int32]:
    """Join neighbours whose common border is hardly lower than the lower of their peaks: they are one nucleus.

    The saddle of two labels is the highest value on their border. Only the two labels and their border decide.

    Parameters
    ----------
    labels, distance
        Shape (h, w).
    places
        Flat positions of pixels that have a label.
    saddle_share
        Share of the lower peak from which a saddle is so high that the two labels are joined.

    Returns
    -------
    Label of each place, shape (n,), int32.
    """
    width = labels.shape[1]
    owners, heights = labels.ravel()[places].astype(np.intp), distance.ravel()[places]
    n_labels = int(owners.max(initial=0)) + 1
    peak = np.zeros(n_labels, dtype=distance.dtype)
    np.maximum.at(peak, owners, heights)
    keys, borders = [], []
    for step, has_next in ((1, places % width < width - 1), (width, places < labels.size - width)):
        nearby = places[has_next] + step
        one, other = owners[has_next], labels.ravel()[nearby]
        border = (one != other) & (other > 0)
        one, other = one[border], other[border]
        keys.append(np.minimum(one, other) * n_labels + np.maximum(one, other))
        borders.append(np.minimum(heights[has_next][border], distance.ravel()[nearby[border]]))
    pairs, position = np.unique(np.concatenate(keys), return_inverse=True)
    if not len(pairs):
        return owners.astype(np.int32)
    saddle = np.zeros(len(pairs), dtype=distance.dtype)
    np.maximum.at(saddle, position, np.concatenate(borders))
    low, high = pairs // n_labels, pairs % n_labels
    shallow = saddle >= saddle_share * np.minimum(peak[low], peak[high]).astype(np.float64)
    return least_of_linked(n_labels, low[shallow], high[shallow])[owners].astype(np.int32)


def _find_seeds(
    foreground: NDArray[np.uint8], distance: NDArray[np.float32], settings: _DecodeSettings
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find rows and columns of seeds: maxima within the peak radius, with one pixel for all that tie within it."""
    peak_min = max(1.0, settings.peak_min * _LEVELS * _KERNEL_SUM**2)
    is_peak = distance >= cv2.dilate(distance, np.ones((3, 3), np.uint8))
    is_peak &= distance >= peak_min
    is_peak &= foreground.view(bool)
    rows, columns = np.nonzero(is_peak)
    radius = settings.peak_radius_px
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = dy * dy + dx * dx <= radius * radius
    height, width = foreground.shape
    # Few pixels pass the 3 x 3 test, so the wide one is done at each of them and not by a filter of the image.
    near_rows = np.clip(rows[:, None] + dy[disc], 0, height - 1)
    near_columns = np.clip(columns[:, None] + dx[disc], 0, width - 1)
    own, near = distance[rows, columns], distance[near_rows, near_columns]
    highest = np.flatnonzero(own >= near.max(axis=1, initial=0))
    if not len(highest):
        return rows[highest], columns[highest]
    # Of two that are highest in each other's reach neither is higher.
    peak, step = np.nonzero(near[highest] == own[highest, None])
    place = rows[highest] * width + columns[highest]
    tied = near_rows[highest[peak], step] * width + near_columns[highest[peak], step]
    other = np.minimum(np.searchsorted(place, tied), len(place) - 1)
    linked = place[other] == tied
    # np.nonzero is in scan order, so the first pixel represents its group.
    first = least_of_linked(len(highest), peak[linked], other[linked]) == np.arange(len(highest))
    return rows[highest[first]], columns[highest[first]]


def _fill_label_holes(labels: NDArray[np.int32]) -> None:
    """Give every label the pixels it encloses, in place; a label inside another is absorbed.

    Enclosed pixels are those not 4-connected to the outside. A pocket that is open at a corner only is filled too,
    since the outline would touch itself there.
    """
    pierced = np.flatnonzero(_hole_counts(labels))
    if not len(pierced):
        return
    boxes = ndimage.find_objects(labels)
    for label in pierced:
        box = boxes[label - 1]
        if box is not None:
            crop = labels[box]
            crop[ndimage.binary_fill_holes(crop == label)] = label


def _hole_counts(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count the holes of each label from 2 x 2 windows (Gray 1971; Pratt, Digital Image Processing, section 18.2).

    For one 8-connected part, holes (4-connected) = 1 - (Q1 - Q3 - 2 QD) / 4, where Q1, Q3 and QD are the
    windows with one pixel, three pixels and two diagonal pixels of the label.
    """
    padded = framed(labels)
    flat, width = padded.ravel(), padded.shape[1]
    # Windows are identified by their first pixel. Those that wrap to the next row contain only the frame.
    mixed = flat[: -width - 1] != flat[1:-width]
    mixed |= flat[1:-width] != flat[width + 1 :]
    mixed |= flat[width + 1 :] != flat[width:-1]
    place = np.flatnonzero(mixed)
    corners = flat[np.stack([place, place + 1, place + width + 1, place + width])]
    n_labels = int(corners.max(initial=0)) + 1
    twelfths = np.zeros(n_labels, np.int64)
    for position in range(4):
        label = corners[position]
        following, opposite, previous = (corners[(position + k) % 4] == label for k in (1, 2, 3))
        n_same = 1 + following.astype(np.int8) + opposite + previous
        # A window with three pixels of a label is counted three times, and one with two diagonal pixels twice.
        for weight, chosen in (
            (3, n_same == 1),
            (-1, n_same == 3),
            (-3, (n_same == 2) & opposite),
        ):
            twelfths += weight * np.bincount(label[chosen], minlength=n_labels)
    # Every label that has pixels is in some mixed window, so the others are absent.
    holes = np.where(np.bincount(corners[0], minlength=n_labels) > 0, 1 - twelfths // 12, 0)
    holes[0] = 0
    return holes


def _within_limits(
    labels: NDArray[np.int32],
    nucleus: NDArray[np.float32],
    distance: NDArray[np.float32],
    settings: _DecodeSettings,
    px_per_um2: float,
) -> Decoded:
    """Drop instances by area, mean probability and highest distance, and number the rest 1..n."""
    places = np.flatnonzero(labels > 0)
    owners = labels.ravel()[places]
    area_px = np.bincount(owners, minlength=1)
    # Sums of whole numbers are exact in any order, so the mean does not depend on the position in the array.
    mean = np.bincount(owners, nucleus.ravel()[places], 1) / np.maximum(area_px, 1) / _LEVELS
    too_large = area_px > settings.max_area_um2 * px_per_um2
    keep = (area_px >= settings.min_area_um2 * px_per_um2) & ~too_large & (mean >= settings.min_mean_probability)
    if settings.min_distance:
        has_middle = np.zeros(len(area_px), dtype=bool)
        has_middle[owners[distance.ravel()[places] >= settings.min_distance * _LEVELS]] = True
        keep &= has_middle
    refused = np.flatnonzero(too_large)
    xy_px = np.empty((len(refused), 2))
    if len(refused):
        for axis, values in enumerate((places % labels.shape[1], places // labels.shape[1])):
            xy_px[:, axis] = np.bincount(owners, values)[refused] / area_px[refused] + 0.5
    return Decoded(labels=keep_labels(labels, keep), too_large_xy_px=xy_px)

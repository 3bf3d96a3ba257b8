"""Nuclei that are cut out of an image and pasted into its crops, as examples whose outline is known to the pixel.

Pseudo labels are reliable for plain nuclei. They miss touching and pale nuclei, and vesicular ones, of which a colour
threshold finds only the rim or the clumps of chromatin. Pasting makes such examples from plain nuclei: it puts them
against another nucleus, fades them towards their surroundings, or gives them a pale inside with nucleoli, or clumped
chromatin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass as checked_dataclass

from wsipsm.instances.labels import Window, grow, label_windows
from wsipsm.psm.pseudo_label import IGNORED
from wsipsm.training.bounds import CHECKED, Share, Span

_MARGIN_PX = 4
_MIN_AREA_PX = 50
_MIN_PASTED_PX = 25
_MIN_SOLIDITY, _MIN_ELLIPSE_IOU = 0.9, 0.84
_MAX_COVERED = 0.25
"""Largest part of a pasted nucleus that may hide another."""
_MIN_CUTOUTS = 5


@dataclass(frozen=True, slots=True)
class Cutout:
    """A nucleus with a margin of its surroundings."""

    od: NDArray[np.float32]
    """Optical density, shape (h, w, 3)."""
    mask: NDArray[np.float32]
    """Mask, 1 in the nucleus and 0 elsewhere, shape (h, w)."""
    positive: int
    """Class of the nucleus: 1 positive, 0 negative, 255 where no marker is scored."""


class _Appearance(Enum):
    """The appearance that a pasted nucleus is given."""

    PLAIN = auto()
    VESICULAR = auto()
    CLUMPED = auto()
    PALE = auto()


@checked_dataclass(frozen=True, slots=True, config=CHECKED)
class PasteOptions:
    """Settings of pasting: how many nuclei are pasted, and how they are changed."""

    share: Share = 0.85
    """Share of the crops that nuclei are pasted into."""
    most: NonNegativeInt = 40
    """Largest number of tries for a crop; a try fails where the nucleus would hide another one."""
    touching: Share = 0.7
    """Share of the nuclei that are put against another nucleus."""
    vesicular: Share = 0.2
    clumped: Share = 0.2
    pale: Share = 0.2
    """Shares of the nuclei that are made vesicular, clumped and pale; the rest become a little lighter or darker."""
    log_scale: Span = (-0.6, 0.5)
    """Range of the natural logarithm of the factor that plain and pale nuclei are enlarged by."""
    open_log_scale: Span = (-0.2, 0.8)
    """The same range for vesicular and clumped nuclei, which are larger in nature than plain ones."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A crop that nuclei are pasted into; pasting changes its arrays in place."""

    od: NDArray[np.float32]
    """Optical density, shape (h, w, 3)."""
    nucleus: NDArray[np.uint8]
    """Label of each pixel, 1, 0 or 255 (ignored), shape (h, w)."""
    instances: NDArray[np.int32]
    """Label image of the nuclei, shape (h, w), 0 = background."""
    positive: NDArray[np.uint8]
    """Class of each pixel, 1, 0 or 255, shape (h, w)."""


def to_density(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert colours to optical density against white, of the same shape; it has no cap, so `to_rgb` inverts it."""
    return np.asarray(-np.log10(np.maximum(rgb, 1).astype(np.float32) / 255), np.float32)


def to_rgb(od: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert optical densities against white to colours."""
    return np.asarray(np.clip(np.rint(255 * 10.0**-od), 0, 255), np.uint8)


def cut_out(rgb: NDArray[np.uint8], instances: NDArray[np.int32], positive: NDArray[np.uint8]) -> tuple[Cutout, ...]:
    """Cut out the instances that are whole, convex and close to an ellipse.

    Parameters
    ----------
    rgb
        Image of shape (h, w, 3), uint8.
    instances
        Label image, shape (h, w), 0 = background.
    positive
        Class of each pixel, 1, 0 or 255, shape (h, w).
    """
    found = []
    height, width = instances.shape
    for label, window in label_windows(instances):
        rows, columns = window
        if rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width:
            continue  # the image's border cuts it
        mask = instances[window] == label
        if np.count_nonzero(mask) < _MIN_AREA_PX or not _is_plain(mask):
            continue
        around = grow(window, _MARGIN_PX)
        whole = (instances[around] == label).astype(np.float32)
        kind = int(positive[window][mask][0])
        found.append(Cutout(to_density(rgb[around]), whole, kind))
    return tuple(found)


def paste_nuclei(
    canvas: Canvas, cutouts: Sequence[Cutout], scale: float, options: PasteOptions, rng: np.random.Generator
) -> None:
    """Paste nuclei into a crop, in place.

    Parameters
    ----------
    canvas
        The crop.
    cutouts
        Nuclei of the same image.
    scale
        Factor by which the crop was resized.
    options, rng
        Settings, and the generator of all random choices.
    """
    if len(cutouts) < _MIN_CUTOUTS or rng.random() >= options.share:
        return
    height, width = canvas.instances.shape
    for _ in range(int(rng.integers(options.most + 1))):
        cutout = cutouts[int(rng.integers(len(cutouts)))]
        appearance = _draw_appearance(options, rng)
        sizes = options.log_scale if appearance in (_Appearance.PLAIN, _Appearance.PALE) else options.open_log_scale
        turned = _turn(cutout, scale * math.exp(rng.uniform(*sizes)), rng)
        if turned is None:
            continue
        od, mask = turned
        side = len(mask)
        y, x = (int(v) - side // 2 for v in _place(canvas.instances, int(np.count_nonzero(mask)), options, rng))
        if y < 0 or x < 0 or y + side > height or x + side > width:
            continue
        window = (slice(y, y + side), slice(x, x + side))
        covered = np.count_nonzero(canvas.instances[window][mask])
        if covered > _MAX_COVERED * np.count_nonzero(mask):
            continue
        around = _density_around(canvas.od[window], mask, canvas.instances[window] > 0)
        _blend(canvas, window, _change_appearance(od, mask, around, appearance, rng), mask, cutout.positive, rng)


def _is_plain(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a mask is convex, and close to the ellipse of its second moments."""
    padded = np.pad(mask, 1).astype(np.uint8)
    contours, _ = cv2.findContours(padded, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(max(contours, key=len))
    # A contour runs through pixel centres: half a pixel along its length is missing from the area.
    hull_area = cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1
    area = float(np.count_nonzero(mask))
    if area < _MIN_SOLIDITY * hull_area:
        return False
    own = padded > 0
    index = np.indices(own.shape)
    offset = index - index[:, own].mean(axis=1)[:, None, None]
    y, x = offset[0], offset[1]
    yy, xx, xy = (y * y)[own].mean() + 1 / 12, (x * x)[own].mean() + 1 / 12, (x * y)[own].mean()
    ellipse = (yy * x * x - 2 * xy * x * y + xx * y * y) / (xx * yy - xy * xy) <= 4
    return bool((ellipse & own).sum() >= _MIN_ELLIPSE_IOU * (ellipse | own).sum())


def _turn(
    cutout: Cutout, scale: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Rotate, stretch and perhaps mirror a cutout onto a square; None where the result is too small."""
    angle, stretch = rng.uniform(0, 2 * math.pi), math.exp(rng.uniform(-0.2, 0.2))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    height, width = cutout.mask.shape
    side = math.ceil(max(height, width) * scale * 1.5) + 6
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cosine * stretch * flip, -sine], [sine * stretch * flip, cosine]])
    middle = np.full(2, side / 2 - 0.5) - linear @ np.array([width / 2 - 0.5, height / 2 - 0.5])
    matrix = np.column_stack([linear, middle]).astype(np.float32)
    mask = cv2.warpAffine(cutout.mask, matrix, (side, side), flags=cv2.INTER_LINEAR) > 0.5
    if np.count_nonzero(mask) < _MIN_PASTED_PX:
        return None
    od = cv2.warpAffine(cutout.od, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(od, np.float32), mask


def _place(
    instances: NDArray[np.int32], area: int, options: PasteOptions, rng: np.random.Generator
) -> tuple[float, float]:
    """Choose row and column of the centre: against a nucleus of the crop, or anywhere."""
    labels = np.flatnonzero(np.bincount(instances.ravel())[1:]) + 1
    if len(labels) and rng.random() < options.touching:
        rows, columns = np.nonzero(instances == labels[int(rng.integers(len(labels)))])
        apart = (math.sqrt(len(rows) / math.pi) + math.sqrt(area / math.pi)) * rng.uniform(0.85, 1.1)
        angle = rng.uniform(0, 2 * math.pi)
        return float(rows.mean() + apart * math.sin(angle)), float(columns.mean() + apart * math.cos(angle))
    return float(rng.integers(instances.shape[0])), float(rng.integers(instances.shape[1]))


def _density_around(
    od: NDArray[np.float32], mask: NDArray[np.bool_], occupied: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Compute the median density, shape (3,), in a ring around a mask, or in the window where nuclei fill the ring."""
    ring = (cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0) & ~mask & ~occupied
    return np.asarray(np.median(od[ring] if ring.sum() > 8 else od.reshape(-1, 3), axis=0), np.float32)


def _draw_appearance(options: PasteOptions, rng: np.random.Generator) -> _Appearance:
    shares = {
        _Appearance.VESICULAR: options.vesicular,
        _Appearance.CLUMPED: options.clumped,
        _Appearance.PALE: options.pale,
    }
    kind = rng.random()
    for appearance, share in shares.items():
        if kind < share:
            return appearance
        kind -= share
    return _Appearance.PLAIN


def _change_appearance(
    od: NDArray[np.float32],
    mask: NDArray[np.bool_],
    around: NDArray[np.float32],
    appearance: _Appearance,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Make a nucleus vesicular, clumped, pale, or a little lighter or darker."""
    if appearance == _Appearance.VESICULAR:
        return _hollow(od, mask, around, rng)
    if appearance == _Appearance.CLUMPED:
        return _clump(od, mask, around, rng)
    if appearance == _Appearance.PALE:
        faded = rng.uniform(0.25, 0.65)
        return np.asarray(od * (1 - faded) + around * faded, np.float32)
    return np.asarray(od * math.exp(rng.uniform(-0.25, 0.2)), np.float32)


def _clump(
    od: NDArray[np.float32], mask: NDArray[np.bool_], around: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Gather the chromatin in clumps with pale gaps between them, and a rim that may be open."""
    noise = cv2.GaussianBlur(rng.normal(size=mask.shape), (0, 0), rng.uniform(1.2, 3.5))
    noise = noise / (noise.std() + 1e-6)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    rim = rng.uniform(0.0, 1.5) * np.exp(-depth / rng.uniform(0.8, 2.0))
    light = (rng.uniform(0.3, 0.85) / (1 + np.exp(3 * (noise + rim - rng.uniform(-0.3, 0.6)))))[..., None]
    return np.asarray(od * (1 - light) + around * rng.uniform(0.5, 1.1) * light, np.float32)


def _hollow(
    od: NDArray[np.float32], mask: NDArray[np.bool_], around: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Lighten the inside towards the surroundings, keep a rim, and draw up to two nucleoli."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    rim = rng.uniform(1.2, 3.0)
    hollow = (rng.uniform(0.45, 0.95) / (1 + np.exp((rim - depth) / 0.6)))[..., None]
    changed = od * (1 - hollow) + around * rng.uniform(0.3, 1.1) * hollow
    rows, columns = np.nonzero(depth > rim + 1)
    y, x = np.indices(mask.shape)
    for _ in range(int(rng.integers(3)) if len(rows) else 0):
        at, sigma = int(rng.integers(len(rows))), rng.uniform(1.0, 2.6)
        away = (y - rows[at]) ** 2 + (x - columns[at]) ** 2
        spot = (np.exp(-away / (2 * sigma * sigma)) * rng.uniform(0.4, 0.9))[..., None]
        changed = changed * (1 - spot) + 1.1 * np.quantile(od[mask], 0.8, axis=0) * spot
    changed = changed + rng.normal(0, 0.02, mask.shape)[..., None]
    return np.asarray(changed, np.float32)


def _blend(
    canvas: Canvas,
    window: Window,
    changed: NDArray[np.float32],
    mask: NDArray[np.bool_],
    positive: int,
    rng: np.random.Generator,
) -> None:
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(0.6, 1.4))[..., None]
    canvas.od[window] = canvas.od[window] * (1 - alpha) + changed * alpha
    instances, nucleus = canvas.instances[window], canvas.nucleus[window]
    instances[mask] = int(canvas.instances.max()) + 1
    rim = (cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & (instances == 0)
    nucleus[rim & (nucleus == IGNORED)] = 0
    nucleus[mask] = 1
    canvas.positive[window][mask] = positive

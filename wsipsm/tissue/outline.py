"""The outline of tissue as a person would draw it, for areas and densities; nuclei are searched in a wider area."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.stain import Vector, optical_density

STAINED_OD = 0.06
"""Sum of the mean OD and the spread of OD over the channels, above which a pixel is stained. Measured: 99 % of glass is
below 0.03, and pale IHC stroma is 0.07."""
_SMOOTHING_UM = 1.5
_CLOSING_UM = 20.0
"""Radius of the disk that closes gaps of up to twice this: pale stroma between nuclei hardly differs from glass."""
_LARGEST_HOLE_UM2 = 10_000.0
"""Largest hole that is filled: adipocytes, vessels and glands up to this size belong to the tissue around them."""
_SMALLEST_PIECE_UM2 = 1_000.0
_PIXELS_AT_ONCE = 1 << 15

Mask = NDArray[np.bool_]
Level = TypeVar("Level", np.uint8, np.float32)


def outline_tissue(picture: NDArray[np.uint8], um_per_pixel: float, glass: Vector) -> Mask:
    """Find the outline of the tissue on a picture of a slide, without the margin that a search needs.

    Parameters
    ----------
    picture
        RGB, shape (height, width, 3), uint8.
    um_per_pixel
        Scale of the picture, um per pixel.
    glass
        Grey levels of empty glass.

    Returns
    -------
    Shape (height, width), bool.
    """
    smooth = cv2.GaussianBlur(picture, (0, 0), max(0.7, _SMOOTHING_UM / um_per_pixel))
    mean, spread = mean_and_spread(np.asarray(smooth, dtype=np.uint8), glass)
    stained = np.asarray(mean + spread > STAINED_OD)
    filled = close_and_fill(stained, _CLOSING_UM / um_per_pixel, _LARGEST_HOLE_UM2 / um_per_pixel**2)
    return filled & ~_parts(filled, 8, most_px=_SMALLEST_PIECE_UM2 / um_per_pixel**2)


def close_and_fill(mask: Mask, radius_px: float, most_px: float) -> Mask:
    """Close gaps of a mask by a disk, and fill its small holes.

    Parameters
    ----------
    mask
        Shape (height, width), bool.
    radius_px
        Radius of the disk, mask pixels.
    most_px
        Largest hole that is filled, pixels of the mask.

    Returns
    -------
    Shape (height, width), bool.
    """
    closed = ~grow(~grow(mask, radius_px), radius_px)
    return closed | _parts(~closed, 4, most_px)


def mean_and_spread(picture: NDArray[np.uint8], glass: Vector) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the mean optical density of the channels, and largest minus smallest.

    The picture is taken in parts that fit the processor's cache, and channel by channel, since NumPy is slow along a
    short axis.

    Parameters
    ----------
    picture
        RGB, shape (..., 3), uint8.
    glass
        Grey levels of empty glass.

    Returns
    -------
    Two arrays of shape (...), float32.
    """
    pixels = picture.reshape(-1, 3)
    means, spreads = np.empty(len(pixels), np.float32), np.empty(len(pixels), np.float32)
    for start in range(0, len(pixels), _PIXELS_AT_ONCE):
        part = slice(start, start + _PIXELS_AT_ONCE)
        od = optical_density(pixels[part], glass)[None]
        darkest, brightest = extremes(od)
        np.subtract(brightest[0], darkest[0], out=spreads[part])
        red, green, blue = cv2.split(od)
        mean = np.add(red[0], green[0], out=means[part])
        mean += blue[0]
        mean /= np.float32(3)
    return means.reshape(picture.shape[:-1]), spreads.reshape(picture.shape[:-1])


def extremes(picture: NDArray[Level]) -> tuple[NDArray[Level], NDArray[Level]]:
    """Compute the smallest and the largest value of the channels.

    Parameters
    ----------
    picture
        Shape (height, width, 3), uint8 or float32.

    Returns
    -------
    Two arrays of shape (height, width) and the same type.
    """
    red, green, blue = cv2.split(picture)
    smallest, largest = np.minimum(red, green), np.maximum(red, green)
    return np.minimum(smallest, blue, out=smallest), np.maximum(largest, blue, out=largest)


def grow(mask: Mask, radius_px: float) -> Mask:
    """Dilate a mask by a disk, with a distance transform, so that the cost does not depend on the radius.

    Parameters
    ----------
    mask
        Shape (height, width), bool.
    radius_px
        Radius of the disk, mask pixels.
    """
    if not mask.any():
        return mask
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(distance <= radius_px, dtype=np.bool_)


def _parts(mask: Mask, connectivity: int, most_px: float) -> Mask:
    """Select the connected parts of a mask that have at most ``most_px`` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    small = stats[:, cv2.CC_STAT_AREA] <= most_px
    small[0] = False
    return np.asarray(small[labels], dtype=np.bool_)

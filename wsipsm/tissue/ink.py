"""Detection of ink on a slide (pen on the cover glass, dye on a surgical margin) by hues that no stain has."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.stain import OD_CAP, Vector, optical_density

_SQUARE_UM = 2.0
"""Width of the squares whose mean colour is tested; in smaller ones single nuclei are as dark and saturated as ink."""
_MIN_AREA_UM2 = 1000.0
"""Smallest area of ink; clumps of brown or very blue nuclei reach 500 um2."""
_MAX_INK_SHARE = 0.5
"""Share of the stained pixels above which these hues belong to the stain and are no ink."""

Mask = NDArray[np.bool_]


def ink_on_tissue(ink: Mask, outline: Mask) -> Mask:
    """Select the strokes of ink that have tissue along more than half of their rim.

    Parameters
    ----------
    ink, outline
        Ink, and the tissue's outline, which may hold ink; shape (height, width), bool.

    Returns
    -------
    Shape (height, width), bool.
    """
    n, labels = cv2.connectedComponents(ink.astype(np.uint8), connectivity=8)
    # The rim is three pixels wide.
    grown = cv2.dilate(labels.astype(np.float32), np.ones((7, 7), np.uint8)).astype(np.intp)
    rim = (grown > 0) & ~ink
    touched = np.bincount(grown[rim & outline], minlength=n)
    on_tissue = touched > 0.5 * np.maximum(1, np.bincount(grown[rim], minlength=n))
    on_tissue[0] = False
    return np.asarray(on_tissue[labels], dtype=np.bool_)


def find_ink(picture: NDArray[np.uint8], um_per_pixel: float, glass: Vector) -> Mask:
    """Find ink on a picture of a slide.

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
    height, width = picture.shape[:2]
    factor = max(1, round(_SQUARE_UM / um_per_pixel))
    small = (max(1, width // factor), max(1, height // factor))
    coarse = cv2.resize(picture, small, interpolation=cv2.INTER_AREA) if factor > 1 else picture
    od = optical_density(np.asarray(coarse, dtype=np.uint8), glass)
    hues = ink_hues(od)
    stained = od.sum(axis=2) > 0.3
    if hues.sum() > _MAX_INK_SHARE * max(1, stained.sum()):
        return np.zeros((height, width), dtype=np.bool_)
    um = um_per_pixel * max(width / small[0], height / small[1])
    opened = cv2.morphologyEx(hues.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] * um**2 >= _MIN_AREA_UM2
    large[0] = False
    # Opening removed the rim of a stroke, which is paler than its middle but belongs to the ink.
    ink = cv2.dilate(large[labels].astype(np.uint8), np.ones((5, 5), np.uint8))
    whole = cv2.resize(ink, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(whole > 0, dtype=np.bool_)


def ink_hues(od: NDArray[np.float32]) -> Mask:
    """Find the pixels that have a strong hue that no stain has.

    Hematoxylin absorbs red, green and blue as 0.40, 0.43, 0.18 of the whole, eosin as 0.14, 0.51, 0.35, DAB as 0.17,
    0.35, 0.48 (Ruifrok and Johnston 2001).

    Parameters
    ----------
    od
        Optical density, shape (..., 3), float32.

    Returns
    -------
    Shape (...), bool.
    """
    red, green, blue = od[..., 0], od[..., 1], od[..., 2]
    total = np.maximum(red + green + blue, 1e-6)
    green_ink = (np.minimum(red, blue) - green > 0.1) & (green < 0.6 * OD_CAP)
    blue_ink = (blue / total < 0.12) & (total > 0.6)
    red_ink = (red / total < 0.08) & (blue / total > 0.38) & (total > 0.9)
    cyan_ink = (red / total > 0.55) & (total > 0.45)
    yellow_ink = (blue / total > 0.68) & (total > 0.35)
    return np.asarray(green_ink | blue_ink | red_ink | cyan_ink | yellow_ink, dtype=np.bool_)

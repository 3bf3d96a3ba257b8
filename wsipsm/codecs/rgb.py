"""Conversion of YCbCr and RGBA pixels to RGB."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def ycbcr_to_rgb(ycbcr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert full-range YCbCr of JFIF (ITU-R BT.601), shape (h, w, 3), to RGB of the same shape, uint8."""
    swapped = np.ascontiguousarray(ycbcr[..., [0, 2, 1]])
    return np.asarray(cv2.cvtColor(swapped, cv2.COLOR_YCrCb2RGB), np.uint8)


def compose_over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert straight (not premultiplied) RGBA, shape (h, w, 4), to RGB over white.

    Returns
    -------
    RGB of shape (h, w, 3), uint8.
    """
    alpha = rgba[..., 3:]
    if alpha.size == 0 or alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    weight = alpha.astype(np.uint16)
    mixed = (rgba[..., :3] * weight + 255 * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


def compose_premultiplied_over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert premultiplied RGBA, shape (h, w, 4), to RGB over white.

    Returns
    -------
    RGB of shape (h, w, 3), uint8.
    """
    transparency = 255 - rgba[..., 3:]
    # A channel above alpha is not premultiplied, and the sum would overflow; such a channel becomes 255.
    return np.where(rgba[..., :3] > 255 - transparency, 255, rgba[..., :3] + transparency).astype(np.uint8)

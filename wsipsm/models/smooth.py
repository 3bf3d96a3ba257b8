"""Gaussian smoothing of a network's input, which removes traces of compression, since they are finer than nuclei."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.models.card import ModelCard


def smoothing_radius(sigma_px: float) -> int:
    """Compute the radius of the smoothing's kernel, pixels."""
    return int(np.ceil(3 * sigma_px))


def smooth_image(rgb: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Smooth an image of shape (h, w, 3), uint8; OpenCV's fixed-point filter is exact, so tiles do not change it."""
    if sigma_px <= 0:
        return rgb
    side = 2 * smoothing_radius(sigma_px) + 1
    return np.asarray(cv2.GaussianBlur(np.ascontiguousarray(rgb), (side, side), sigma_px), dtype=np.uint8)


def network_input(rgb: NDArray[np.uint8], card: ModelCard) -> NDArray[np.uint8]:
    """Make the input of a network from an image: smoothed, as a batch of one, shape (1, h, w, 3), uint8.

    Raises
    ------
    ValueError
        When the image is not uint8 of shape (h, w, 3), or its sides are no multiples of the card's stride.
    """
    stride = card.stride
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[0] % stride or rgb.shape[1] % stride:
        raise ValueError(
            f"image of shape {rgb.shape} and type {rgb.dtype}: (h, w, 3) uint8 with h and w multiples of {stride} "
            "is needed."
        )
    return np.ascontiguousarray(smooth_image(rgb, card.input_sigma_px))[None]

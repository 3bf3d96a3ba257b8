"""Gaussian smoothing of what a network is shown: what compression adds lies in the finest detail, nuclei do not."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def smoothing_radius(sigma_px: float) -> int:
    """Compute the reach of the smoothing, pixels."""
    return int(np.ceil(3 * sigma_px))


def smooth_image(rgb: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Smooth an image of shape (h, w, 3), uint8; OpenCV's fixed-point filter is exact, so tiles leave no trace."""
    if sigma_px <= 0:
        return rgb
    side = 2 * smoothing_radius(sigma_px) + 1
    return np.asarray(cv2.GaussianBlur(np.ascontiguousarray(rgb), (side, side), sigma_px), dtype=np.uint8)


def smooth_batch(rgb: Tensor, sigma_px: float) -> Tensor:
    """Smooth a batch of shape (n, 3, h, w), as :func:`smooth_image` does but for its rounding."""
    if sigma_px <= 0:
        return rgb
    radius = smoothing_radius(sigma_px)
    kernel = torch.from_numpy(cv2.getGaussianKernel(2 * radius + 1, sigma_px)[:, 0]).to(rgb)
    kernel = kernel.expand(rgb.shape[1], 1, 1, -1)
    padded = functional.pad(rgb, (radius, radius, radius, radius), mode="reflect")
    across = functional.conv2d(padded, kernel, groups=rgb.shape[1])
    return functional.conv2d(across, kernel.transpose(2, 3), groups=rgb.shape[1])

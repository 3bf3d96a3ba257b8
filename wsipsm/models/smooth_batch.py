"""The smoothing of :mod:`wsipsm.models.smooth` for batches in torch, as trainings use it."""

from __future__ import annotations

import cv2
import torch
from torch import Tensor
from torch.nn import functional

from wsipsm.models.smooth import smoothing_radius


def smooth_batch(rgb: Tensor, sigma_px: float) -> Tensor:
    """Smooth a batch (n, 3, h, w), as :func:`wsipsm.models.smooth.smooth_image` does but without rounding."""
    if sigma_px <= 0:
        return rgb
    radius = smoothing_radius(sigma_px)
    kernel = torch.from_numpy(cv2.getGaussianKernel(2 * radius + 1, sigma_px)[:, 0]).to(rgb)
    kernel = kernel.expand(rgb.shape[1], 1, 1, -1)
    padded = functional.pad(rgb, (radius, radius, radius, radius), mode="reflect")
    across = functional.conv2d(padded, kernel, groups=rgb.shape[1])
    return functional.conv2d(across, kernel.transpose(2, 3), groups=rgb.shape[1])

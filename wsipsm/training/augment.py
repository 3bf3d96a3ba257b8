"""Augmentation on tensors: the student must not be able to copy a colour threshold.

Labels were made on the image as it is; the input then gets other stain strengths, so that shape and texture
are what is left to learn from.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from torch import Tensor

from wsipsm.models.smooth_batch import smooth_batch
from wsipsm.stain import REFERENCE_DAB, REFERENCE_EOSIN, REFERENCE_HEMATOXYLIN
from wsipsm.training.bounds import CHECKED, NotNegative, NotNegativeSpan, PositiveSpan, Quality, Share, Span


@dataclass(frozen=True, slots=True, config=CHECKED)
class AugmentOptions:
    """Settings on how far inputs are changed."""

    log_gain: Span = (-0.7, 0.45)
    """Natural logarithm of the gain of each stain: 0.5 to 1.6."""
    offset_od: Span = (-0.04, 0.06)
    log_gamma: NotNegative = 0.25
    blur_share: Share = 0.3
    """The share of the images that are blurred."""
    blur_sigma_px: NotNegativeSpan = (0.8, 0.8)
    """Gaussian: 0.8 is what a mean of 3 x 3 does; 2.0 is a scan out of focus or a thick frozen section."""
    noise: NotNegative = 0.01
    jpeg_share: Share = 0.5
    jpeg_quality: Quality = (45, 95)
    """Scans differ in how often and how hard they were compressed; that must not divide a nucleus."""
    scale: PositiveSpan = (0.7, 1.5)
    """Nuclei come out this many times as large."""


def jitter_stains(rgb: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Change stain strengths, gamma, sharpness and noise of a batch (n, 3, h, w) in 0..255."""
    vectors = torch.tensor([REFERENCE_HEMATOXYLIN, REFERENCE_EOSIN, REFERENCE_DAB])
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    n = len(rgb)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(*shape).uniform_(low, high, generator=generator)

    od = -torch.log10((rgb / 255).clamp(1 / 255, 1))
    amounts = torch.einsum("bchw,ck->bkhw", od, torch.linalg.inv(vectors))
    amounts = amounts * torch.exp(uniform(*options.log_gain, n, 3, 1, 1)) + uniform(*options.offset_od, n, 3, 1, 1)
    image = 10 ** (-torch.einsum("bkhw,kc->bchw", amounts, vectors))
    image = image.clamp(1e-3, 1) ** torch.exp(uniform(-options.log_gamma, options.log_gamma, n, 1, 1, 1))
    image = _blur(image, options, uniform)
    image = image + torch.randn(image.shape, generator=generator) * options.noise
    return image.clamp(0, 1) * 255


def _blur(image: Tensor, options: AugmentOptions, uniform: Callable[..., Tensor]) -> Tensor:
    blurred = [
        smooth_batch(one[None], float(uniform(*options.blur_sigma_px, 1)))
        if float(uniform(0, 1, 1)) < options.blur_share
        else one[None]
        for one in image
    ]
    return torch.cat(blurred)


def compress(rgb: NDArray[np.uint8], options: AugmentOptions, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Compress an image of shape (h, w, 3) as JPEG and read it again, now and then."""
    if rng.random() >= options.jpeg_share:
        return rgb
    quality = int(rng.integers(options.jpeg_quality[0], options.jpeg_quality[1] + 1))
    _, coded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def crop_scaled(
    shape: tuple[int, ...], crop_px: int, options: AugmentOptions, rng: np.random.Generator
) -> tuple[tuple[slice, slice], int]:
    """Choose a square of an image that comes out ``crop_px`` wide at a drawn scale, and how to resize its colours.

    Returns
    -------
    Rows and columns, and OpenCV's interpolation.
    """
    low, high = (math.log(s) for s in options.scale)
    height, width = shape[:2]
    side = min(round(crop_px / math.exp(rng.uniform(low, high))), height, width)
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    soft = cv2.INTER_AREA if side > crop_px else cv2.INTER_LINEAR
    return (slice(y, y + side), slice(x, x + side)), soft


def turn(planes: list[NDArray[np.generic]], quarter_turns: int, mirrored: bool) -> list[NDArray[np.generic]]:
    """Rotate and mirror arrays of shape (h, w, ...) alike."""
    turned = [np.rot90(plane, quarter_turns, (0, 1)) for plane in planes]
    return [plane[:, ::-1] if mirrored else plane for plane in turned]

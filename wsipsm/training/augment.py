"""Augmentation of training images, so that the student cannot simply learn the colour threshold of its labels.

Labels are made on the image as it is. The input then gets other stain strengths, so that the student must learn from
shape and texture.
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
    """Settings of the augmentation of an input image."""

    log_gain: Span = (-0.7, 0.45)
    """Natural logarithm of the gain of each stain; the default is a gain of 0.5 to 1.6."""
    offset_od: Span = (-0.04, 0.06)
    """Optical density that is added to each stain."""
    log_gamma: NotNegative = 0.25
    """Largest absolute value of the natural logarithm of gamma."""
    blur_share: Share = 0.3
    """Share of the images that are blurred."""
    blur_sigma_px: NotNegativeSpan = (0.8, 0.8)
    """Sigma of the Gaussian blur, pixels. A mean of 3 x 3 pixels blurs like 0.8; a scan out of focus, or a thick frozen
    section, like 2.0."""
    noise: NotNegative = 0.01
    """Standard deviation of the noise, as a share of white."""
    jpeg_share: Share = 0.5
    """Share of the images that are compressed."""
    jpeg_quality: Quality = (45, 95)
    """Range of the JPEG quality. Scans differ in how often and how strongly they were compressed, and this must not
    make a network divide a nucleus."""
    scale: PositiveSpan = (0.7, 1.5)
    """Range of the factor by which nuclei are enlarged."""


def jitter_stains(rgb: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Change stain strengths, gamma, sharpness and noise of a batch (n, 3, h, w), float32, in 0..255, at random."""
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
    """Compress an image of shape (h, w, 3), uint8, as JPEG and decode it again, with probability ``jpeg_share``."""
    if rng.random() >= options.jpeg_share:
        return rgb
    quality = int(rng.integers(options.jpeg_quality[0], options.jpeg_quality[1] + 1))
    _, coded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def crop_scaled(
    shape: tuple[int, ...], crop_px: int, options: AugmentOptions, rng: np.random.Generator
) -> tuple[tuple[slice, slice], int]:
    """Choose a random square of an image that is ``crop_px`` wide when it is resized by a random scale.

    Parameters
    ----------
    shape
        Shape of the image; height and width come first.
    crop_px
        Side of the crop after resizing, pixels.
    options
        Settings, of which the range of the scale is used.
    rng
        Generator of the random choices.

    Returns
    -------
    Rows and columns of the square, and OpenCV's interpolation for resizing its colours.
    """
    low, high = (math.log(s) for s in options.scale)
    height, width = shape[:2]
    side = min(round(crop_px / math.exp(rng.uniform(low, high))), height, width)
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    soft = cv2.INTER_AREA if side > crop_px else cv2.INTER_LINEAR
    return (slice(y, y + side), slice(x, x + side)), soft


def turn(planes: list[NDArray[np.generic]], quarter_turns: int, mirrored: bool) -> list[NDArray[np.generic]]:
    """Rotate and mirror arrays of shape (h, w, ...), all in the same way."""
    turned = [np.rot90(plane, quarter_turns, (0, 1)) for plane in planes]
    return [plane[:, ::-1] if mirrored else plane for plane in turned]

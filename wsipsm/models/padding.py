"""Reflection of an image at its border, so that the zeros that a network pads with stay away from the image itself."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional


def pad_reflected(image: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Extend a batch (n, c, h, w) by its reflection, and beyond the image's own length by its last row or column.

    Lengths are pixels. ``left`` and ``top`` must be shorter than the image; ``right`` and ``bottom``, which alignment
    makes longer, need not be.
    """
    last_row, last_column = image.shape[2] - 1, image.shape[3] - 1
    image = functional.pad(image, (left, min(right, last_column), top, min(bottom, last_row)), mode="reflect")
    rest = (0, max(0, right - last_column), 0, max(0, bottom - last_row))
    return functional.pad(image, rest, mode="replicate") if any(rest) else image


def pad_aligned(image: Tensor, rim_px: int, stride: int) -> tuple[Tensor, tuple[slice, slice]]:
    """Extend a batch (n, c, h, w) on all sides by a reflected rim, and on the right and below to whole strides.

    Parameters
    ----------
    image
        Batch of shape (n, c, h, w).
    rim_px
        Width of the rim, pixels; narrower where the image is smaller.
    stride
        Length that both sides of the result are multiples of, pixels.

    Returns
    -------
    The extended batch, and the rows and columns of it that are the image.
    """
    rims, inside = [], []
    for side in image.shape[2:]:
        before = min(rim_px, side - 1)
        whole = math.ceil((side + 2 * before) / stride) * stride
        rims.append((before, whole - side - before))
        inside.append(slice(before, before + side))
    (top, bottom), (left, right) = rims
    return pad_reflected(image, left, right, top, bottom), (inside[0], inside[1])

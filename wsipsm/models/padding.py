"""A rim around an image, so that the zeros a network pads with lie outside what is looked at."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def pad_reflected(image: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """Reflect a batch (n, c, h, w) at its border; what is asked beyond the image's own length repeats its edge.

    Left and top must be shorter than the image; right and bottom, which alignment makes longer, need not be.
    """
    last_row, last_column = image.shape[2] - 1, image.shape[3] - 1
    image = functional.pad(image, (left, min(right, last_column), top, min(bottom, last_row)), mode="reflect")
    rest = (0, max(0, right - last_column), 0, max(0, bottom - last_row))
    return functional.pad(image, rest, mode="replicate") if any(rest) else image

"""The choice of the image of a file that is the slide, by one rule for every format, and notes on the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.slide.base import SlideImage

MAX_LISTED = 20
"""Number of images that a message lists; ``wsipsm info --json`` lists them all."""

_ASSOCIATED = re.compile(r"\s*(label|macro|thumbnail|overview|barcode)\b", re.IGNORECASE)


def choose_image(images: Sequence[SlideImage], number: int | None, path: Path) -> int:
    """Choose the image that is the slide.

    Without a number it is the largest pyramid, or the largest image where none has several levels. Images that are
    named label, macro, thumbnail, overview or barcode are chosen only where the file holds nothing else.

    Parameters
    ----------
    images
        Images in the order of the file, at least one.
    number
        Number that the user gave, from 1; None applies the rule.
    path
        Path of the file, for messages.

    Returns
    -------
    Number of the image, from 1.

    Raises
    ------
    UsageError
        When there is no image of that number.
    """
    if number is not None:
        require_image(number, images, path)
        return number
    numbers = range(1, len(images) + 1)
    scans = [n for n in numbers if not _ASSOCIATED.match(images[n - 1].name)] or list(numbers)
    return max(scans, key=lambda n: (images[n - 1].n_levels > 1, images[n - 1].size.area, -n))


def require_image(number: int, images: Sequence[SlideImage], path: Path) -> None:
    """Check that a file has an image of a number.

    Raises
    ------
    UsageError
        When it has none; the message names ``--image`` and the images of the file.
    """
    if not 1 <= number <= len(images):
        raise UsageError(
            f"--image {number}: {path} holds {_listed(images, range(1, len(images) + 1))}; the number of one of them "
            "is needed. 'wsipsm info' lists them."
        )


def left_out(images: Sequence[SlideImage], chosen: int) -> tuple[str, ...]:
    """Describe in one note which images of the file are not the slide; no note where it holds one image."""
    others = [n for n in range(1, len(images) + 1) if n != chosen]
    if not others:
        return ()
    return (
        f"the file holds {len(images)} images: {describe_image(images[chosen - 1], chosen)} is the slide, left out: "
        f"{_listed(images, others)}; --image N takes another",
    )


def describe_image(image: SlideImage, number: int) -> str:
    """Describe an image in a few words: number, name, size."""
    name = f" '{image.name[:60]}'" if image.name else ""
    return f"image {number}{name} ({image.size.width} x {image.size.height} px)"


def _listed(images: Sequence[SlideImage], numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - MAX_LISTED} more" if len(numbers) > MAX_LISTED else ""
    return ", ".join(describe_image(images[n - 1], n) for n in numbers[:MAX_LISTED]) + more

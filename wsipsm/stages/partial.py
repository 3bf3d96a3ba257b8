"""Pixels of a slide of which a part cannot be decoded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import SlideReadError
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import Slide
from wsipsm.slide.read import read_box, read_thumbnail

RETRY_BOX_PX = 512
"""Side of the boxes that are read one by one where a block cannot be read whole, working pixels."""
_RETRY_THUMBNAIL_PX = 32
_WHITE = 255


def slices_of(part: Box, whole: Box) -> tuple[slice, slice]:
    """Rows and columns of ``part`` in an array of ``whole``, clipped to it."""
    common = part.intersect(whole)
    top, left = common.y - whole.y, common.x - whole.x
    return slice(top, top + common.height), slice(left, left + common.width)


def read_what_can_be_read(
    slide: Slide, box_px: Box, scale: float, size_px: Size, retry_px: int
) -> tuple[NDArray[np.uint8] | None, list[Box]]:
    """Read a box whole, or what can be read of it.

    Parameters
    ----------
    slide
        Open slide.
    box_px
        Working pixels.
    scale
        Level-0 pixels per working pixel.
    size_px
        Of the working grid.
    retry_px
        Side of the boxes that are tried one by one. They lie on a grid anchored at the slide's origin and are read
        whole even where ``box_px`` ends inside one, so that the same pixels fail whatever the blocks are.

    Returns
    -------
    Pixels, shape (height, width, 3), white where they could not be read, or None when none could; and the boxes
    that could not be read, working pixels.
    """
    try:
        return read_box(slide, box_px, scale), []
    except SlideReadError:
        pass  # told by the boxes that fail alone
    rgb = np.full((box_px.height, box_px.width, 3), _WHITE, dtype=np.uint8)
    failed: list[Box] = []
    n_read = 0
    inside = box_px.intersect(Box(0, 0, size_px.width, size_px.height))
    for top in range(inside.y // retry_px * retry_px, inside.bottom, retry_px):
        for left in range(inside.x // retry_px * retry_px, inside.right, retry_px):
            whole = Box(left, top, min(retry_px, size_px.width - left), min(retry_px, size_px.height - top))
            try:
                pixels = read_box(slide, whole, scale)
            except SlideReadError:
                failed.append(whole)
                continue
            n_read += 1
            part = whole.intersect(inside)
            rgb[slices_of(part, box_px)] = pixels[slices_of(part, whole)]
    return (rgb if n_read else None), failed


def read_partial_thumbnail(slide: Slide, max_px: int = 2048) -> tuple[NDArray[np.uint8], float, list[Box]]:
    """Read the whole slide small, or what can be read of it.

    Parameters
    ----------
    slide
        Open slide.
    max_px
        Longer side of the thumbnail at most.

    Returns
    -------
    Image of shape (h, w, 3), white where pixels could not be read; level-0 pixels per thumbnail pixel; and the
    boxes that could not be read, thumbnail pixels.

    Raises
    ------
    SlideReadError
        When nothing could be read.
    """
    try:
        return (*read_thumbnail(slide, max_px), [])
    except SlideReadError as error:
        size = slide.info.size
        scale = max(1.0, max(size.width, size.height) / max_px)
        small = Size(max(1, int(-(-size.width // scale))), max(1, int(-(-size.height // scale))))
        box = Box(0, 0, small.width, small.height)
        rgb, failed = read_what_can_be_read(slide, box, scale, small, _RETRY_THUMBNAIL_PX)
        if rgb is None:
            raise SlideReadError(
                f"{slide.info.path}: no part of it can be decoded ({error}); a readable slide is needed. "
                "Copy it again from its source."
            ) from error
        return rgb, scale, failed

"""Reading of slides of which a part cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import SlideReadError
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import Slide
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.read import read_box, read_thumbnail, thumbnail_size

RETRY_BOXES_PX = (512, 128)
"""Sides, in working pixels, of the boxes into which an unreadable block is divided, and then an unreadable box. The
side of a scanner's tile is 240 to 1024 level-0 pixels, so little more than a damaged tile is lost."""
_RETRY_THUMBNAIL_PX = (256, 32)
_WHITE = 255


def slices_of(part: Box, whole: Box) -> tuple[slice, slice]:
    """Find the rows and columns of ``part`` in an array of ``whole``, clipped to it."""
    common = part.intersect(whole)
    top, left = common.y - whole.y, common.x - whole.x
    return slice(top, top + common.height), slice(left, left + common.width)


def read_what_can_be_read(
    slide: Slide,
    box_px: Box,
    scale: float,
    size_px: Size,
    retry_px: tuple[int, ...],
    origin_px0: tuple[int, int] = (0, 0),
) -> tuple[NDArray[np.uint8] | None, list[Box]]:
    """Read a box whole, or what can be read of it.

    Parameters
    ----------
    slide
        Open slide.
    box_px
        Box to read, working pixels.
    scale
        Level-0 pixels per working pixel.
    size_px
        Width and height of the working grid, pixels.
    retry_px
        Sides of the boxes that are read one by one, each a multiple of the next. They lie on grids anchored at the
        origin of the working grid and are read whole even where ``box_px`` ends inside one, so that what fails hardly
        depends on how the slide is divided into blocks.
    origin_px0
        x, y at level 0 where the working grid begins.

    Returns
    -------
    RGB pixels, shape (height, width, 3), uint8, white where they could not be read, or None when none could be; and
    the boxes that could not be read, working pixels, sorted from top left to bottom right.
    """
    try:
        return read_box(slide, box_px, scale, origin_px0), []
    except SlideReadError:
        pass  # the boxes that fail below show where
    rgb = np.full((box_px.height, box_px.width, 3), _WHITE, dtype=np.uint8)
    failed: list[Box] = []
    on_slide = Box(0, 0, size_px.width, size_px.height)
    n_read = 0
    waiting = [(box, 0) for box in _grid_boxes(box_px.intersect(on_slide), retry_px[0])]
    while waiting:
        whole, depth = waiting.pop()
        whole = whole.intersect(on_slide)
        try:
            pixels = read_box(slide, whole, scale, origin_px0)
        except SlideReadError:
            if depth + 1 < len(retry_px):
                inner = _grid_boxes(whole.intersect(box_px), retry_px[depth + 1])
                waiting.extend((box, depth + 1) for box in inner)
            else:
                failed.append(whole)
            continue
        n_read += 1
        part = whole.intersect(box_px)
        rgb[slices_of(part, box_px)] = pixels[slices_of(part, whole)]
    return (rgb if n_read else None), sorted(failed, key=lambda box: (box.y, box.x))


def _grid_boxes(box: Box, side: int) -> Iterator[Box]:
    """List the boxes of a grid anchored at the origin that a box touches."""
    for top in range(box.y // side * side, box.bottom, side):
        for left in range(box.x // side * side, box.right, side):
            yield Box(left, top, side, side)


def read_partial_thumbnail(slide: Slide, max_px: int = 2048) -> tuple[NDArray[np.uint8], float, list[Box]]:
    """Read a thumbnail of the part of a slide that holds pixels, as far as it can be read.

    Parameters
    ----------
    slide
        Open slide.
    max_px
        Longer side of the thumbnail at most.

    Returns
    -------
    RGB of shape (h, w, 3), uint8, white where pixels could not be read; level-0 pixels per thumbnail pixel; and the
    boxes that could not be read, thumbnail pixels.

    Raises
    ------
    SlideReadError
        When nothing could be read.
    """
    content = SlideFrame.of(slide.info).content
    try:
        return (*read_thumbnail(slide, max_px, content), [])
    except SlideReadError as error:
        scale = max(1.0, max(content.width, content.height) / max_px)
        small = thumbnail_size(content, scale)
        box = Box(0, 0, small.width, small.height)
        corner = (content.x, content.y)
        rgb, failed = read_what_can_be_read(slide, box, scale, small, _RETRY_THUMBNAIL_PX, corner)
        if rgb is None:
            raise SlideReadError(
                f"{slide.info.path}: no part of it can be decoded ({error}); a readable slide is needed. "
                "Copy it again from its source.",
                path=slide.info.path,
                value=f"no part of it can be decoded ({error})",
                needed="a readable slide",
            ) from error
        return rgb, scale, failed

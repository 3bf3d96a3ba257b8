"""The part of a slide's canvas that holds pixels, as OpenSlide states it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import openslide

from wsipsm.geometry import Box, Size
from wsipsm.slide.reader import parse_number

_NAMES = ("openslide.bounds-x", "openslide.bounds-y", "openslide.bounds-width", "openslide.bounds-height")


def parse_bounds(properties: Mapping[str, str], canvas: Size) -> tuple[Box | None, str | None]:
    """Read the bounds among OpenSlide's properties.

    Parameters
    ----------
    properties
        Properties of the slide.
    canvas
        Level-0 size.

    Returns
    -------
    The box in level-0 pixels, inside the canvas and not empty, or None where the file states no bounds or impossible
    ones; and a note on impossible bounds, else None.
    """
    stated = [properties.get(name) for name in _NAMES]
    if all(value is None for value in stated):
        return None, None
    values = [parse_number(value) for value in stated]
    whole = [int(value) for value in values if value is not None and value == int(value)]
    if len(whole) == len(_NAMES):
        x, y, width, height = whole
        if x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= canvas.width and y + height <= canvas.height:
            return Box(x, y, width, height), None
    found = ", ".join("none" if value is None else value[:20] for value in stated)
    return None, (
        f"the file states impossible bounds (x, y, width, height: {found}; the canvas has {canvas.width} x "
        f"{canvas.height} px); they were ignored, and the whole canvas counts as the slide"
    )


def find_bounds(path: Path, canvas: Size) -> tuple[Box | None, str | None]:
    """Find OpenSlide's bounds of a slide that another reader opens, since QuPath crops the slide to them.

    Parameters
    ----------
    path
        File that passed `readers.tiff.find_impossible_size`, because OpenSlide allocates what the headers state.
    canvas
        Level-0 size as the other reader sees it.

    Returns
    -------
    The same as :func:`parse_bounds`; two times None where OpenSlide does not open the file, or sees
    another image in it.
    """
    try:
        with openslide.OpenSlide(path) as handle:
            if handle.dimensions != (canvas.width, canvas.height):
                return None, None
            return parse_bounds(handle.properties, canvas)
    except (openslide.OpenSlideError, OSError):
        return None, None

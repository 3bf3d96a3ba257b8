"""Draws the gallery of a benchmark: images beside the true and the found nuclei, for a person to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from wsipsm.rundir import write_aside

_SIDE_PX = 480
"""Largest side of a shown image, pixels; of a larger one the middle is shown."""
_ZOOM = 2
_GAP_PX, _TEXT_PX = 12, 22
_TRUE_COLOUR, _FOUND_COLOUR = (0, 230, 255), (255, 220, 0)
"""Colours that can be told apart on purple, pink and brown, also by colour-blind readers."""
_CLASS_COLOURS = ((226, 26, 28), (38, 84, 222))
"""Colours of positive and of negative nuclei."""
_OUTLINE_LEGEND = "cyan: true outline   yellow: found"
_POINT_LEGEND = "ring: true   dot: found   red: positive   blue: negative"


@dataclass(frozen=True, slots=True)
class OutlinePanel:
    """An image with label images, each of shape (h, w), 0 = background."""

    title: str
    rgb: NDArray[np.uint8]
    truth: NDArray[np.int32]
    found: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PointPanel:
    """An image with points (x, y), corner convention: positive, then negative, each of shape (n, 2)."""

    title: str
    rgb: NDArray[np.uint8]
    truth: tuple[NDArray[np.float64], NDArray[np.float64]]
    found: tuple[NDArray[np.float64], NDArray[np.float64]]


def draw_gallery(path: Path, panels: Sequence[OutlinePanel | PointPanel]) -> None:
    """Draw one row for each image: its middle as it is, and the same with the true and the found nuclei.

    Parameters
    ----------
    path
        PNG to be written; an existing file is replaced.
    panels
        Panels from top to bottom, all of one kind.

    Raises
    ------
    OutputError
        When the disk is full or the place is not writable.
    """
    pairs = [_pair(panel) for panel in panels]
    font = ImageFont.load_default(size=_TEXT_PX)
    height = sum(pair.shape[0] + _TEXT_PX + 2 * _GAP_PX for pair in pairs) + _TEXT_PX + 2 * _GAP_PX
    width = max(pair.shape[1] for pair in pairs) + 2 * _GAP_PX
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    y = _GAP_PX
    for panel, pair in zip(panels, pairs, strict=True):
        draw.text((_GAP_PX, y), panel.title, fill=(20, 20, 20), font=font)
        picture.paste(Image.fromarray(pair), (_GAP_PX, y + _TEXT_PX + _GAP_PX // 2))
        y += pair.shape[0] + _TEXT_PX + 2 * _GAP_PX
    legend = _OUTLINE_LEGEND if isinstance(panels[0], OutlinePanel) else _POINT_LEGEND
    draw.text((_GAP_PX, y), legend, fill=(90, 90, 90), font=font)
    with write_aside(path) as temporary:
        picture.save(temporary, format="PNG")


def _pair(panel: OutlinePanel | PointPanel) -> NDArray[np.uint8]:
    height, width = panel.rgb.shape[:2]
    top, left = (max(0, (size - _SIDE_PX) // 2) for size in (height, width))
    window = (slice(top, top + _SIDE_PX), slice(left, left + _SIDE_PX))
    plain = cv2.resize(panel.rgb[window], None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_CUBIC)
    drawn = np.array(plain, np.uint8)
    if isinstance(panel, OutlinePanel):
        for labels, colour in ((panel.truth, _TRUE_COLOUR), (panel.found, _FOUND_COLOUR)):
            drawn[_outlines(labels[window])] = colour
    else:
        _draw_points(drawn, panel, np.array([left, top]))
    gap = np.full((len(plain), _GAP_PX, 3), 255, np.uint8)
    return np.hstack([plain, gap, drawn]).astype(np.uint8)


def _outlines(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Find the innermost pixels of every label, zoomed, shape (zoom * h, zoom * w)."""
    zoomed = np.kron(labels, np.ones((_ZOOM, _ZOOM), np.int32))
    return np.asarray(find_boundaries(zoomed, connectivity=1, mode="inner"))  # type: ignore[no-untyped-call]


def _draw_points(drawn: NDArray[np.uint8], panel: PointPanel, origin: NDArray[np.int64]) -> None:
    def centre(xy: NDArray[np.float64]) -> tuple[int, int]:
        x, y = (int(value) for value in np.rint((xy - origin) * _ZOOM - 0.5))
        return x, y

    for points, colour in zip(panel.truth, _CLASS_COLOURS, strict=True):
        for xy in points:
            cv2.circle(drawn, centre(xy), 10 * _ZOOM, colour, 2, cv2.LINE_AA)
    for points, colour in zip(panel.found, _CLASS_COLOURS, strict=True):
        for xy in points:
            cv2.circle(drawn, centre(xy), 3 * _ZOOM, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(drawn, centre(xy), 2 * _ZOOM, colour, -1, cv2.LINE_AA)

"""The place of drawn shapes on a slide's canvas, and a check of the frame in which they were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from wsipsm.errors import RoiError
from wsipsm.keys import QuPathFrame
from wsipsm.region.base import Region
from wsipsm.region.union import merge
from wsipsm.slide.frame import SlideFrame

MIN_SHARE = 0.5
"""Smallest share of a region that must lie where the slide holds pixels."""
_N_SIDE = 64
"""Points on a side of the raster by which the share of a shape is estimated."""


def frame_of_document(document: Any) -> QuPathFrame | None:
    """Find the frame that a file written by wsipsm states; None for any other file."""
    about = document.get("wsipsm") if isinstance(document, dict) else None
    named = about.get("qupath_frame") if isinstance(about, dict) else None
    return next((frame for frame in QuPathFrame if frame.value == named), None)


def place_shapes(
    shapes: NDArray[np.object_], stated: Sequence[QuPathFrame | None], frame: SlideFrame
) -> NDArray[np.object_]:
    """Move shapes from QuPath's coordinates to level 0.

    Parameters
    ----------
    shapes
        Shapes as drawn, shape (n,).
    stated
        Frame that the file of each shape states; None: that of the slide.
    frame
        Frame of the slide.
    """
    placed = shapes.copy()
    for named in set(stated):
        own = frame if named is None else replace(frame, qupath=named)
        rows = [row for row, other in enumerate(stated) if other == named]
        placed[rows] = own.from_qupath(shapes[rows])
    return placed


def note_on_place(
    shapes: NDArray[np.object_],
    stated: Sequence[QuPathFrame | None],
    frame: SlideFrame,
    within: Region | None,
    label: str,
) -> str | None:
    """Compare the frame in which shapes were read with QuPath's other one.

    Parameters
    ----------
    shapes
        Shapes that count, level-0 pixels, shape (n,).
    stated
        Frame that the file of each shape states, or None.
    frame
        Frame of the slide, in which the shapes without a stated frame were read.
    within
        Tissue, or the region that was searched; it decides between the frames where the shapes lie on the slide in
        both. None: no such decision.
    label
        Name of the file in messages.

    Returns
    -------
    A note where the shapes fit better in the other frame, else None.

    Raises
    ------
    RoiError
        When most of their area lies in the empty part of the canvas; the message names the likely cause.
    """
    if not frame.has_empty_canvas:
        return None
    here, other = merge(shapes), frame.other()
    there: BaseGeometry = here
    if not any(stated):
        back = shapely.transform(here, frame.to_qupath)
        there = other.from_qupath(back)
    share_here, share_there = frame.share_on_content(here), frame.share_on_content(there)
    option = f"--qupath-frame {other.qupath.value}"
    if share_here < MIN_SHARE:
        raise _refusal(label, frame, here, 1 - share_here, share_there, option)
    found = None
    if share_there > share_here + 0.01:
        found = f"{1 - share_here:.0%} of the region lies beside the scan, {1 - share_there:.0%}"
    elif within is not None and share_there > 0.99 and there is not here:
        tissue_here, tissue_there = _share_within(here, within), _share_within(there, within)
        if tissue_here < MIN_SHARE < tissue_there:
            found = f"{tissue_here:.0%} of the region lies in {within.name}, {tissue_there:.0%}"
    return f"{label}: {found} in QuPath's other frame: pass {option} if it was drawn so." if found else None


def _refusal(
    label: str, frame: SlideFrame, here: BaseGeometry, share_beside: float, share_there: float, option: str
) -> RoiError:
    left, top, right, bottom = shapely.transform(here, frame.to_qupath).bounds
    content = frame.content_qupath
    if share_there >= MIN_SHARE:
        cause = f"In QuPath's other frame {share_there:.0%} of it lies on the scan: pass {option} if it was drawn so."
    else:
        cause = "Pass the --roi that was drawn on this slide."
    return RoiError(
        f"{label}: {share_beside:.0%} of the region lies in the empty part of the canvas (it spans x {left:.0f} to "
        f"{right:.0f}, y {top:.0f} to {bottom:.0f}; the scan x {content.x} to {content.right}, y {content.y} to "
        f"{content.bottom}, in QuPath's {frame.qupath.value} frame); a region on the scan is needed. {cause}"
    )


def _share_within(shape: BaseGeometry, within: Region) -> float:
    """Estimate the share of a shape that lies in a region, by a raster of points."""
    left, top, right, bottom = shape.bounds
    steps = (np.arange(_N_SIDE) + 0.5) / _N_SIDE
    x, y = np.meshgrid(left + steps * (right - left), top + steps * (bottom - top))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    points = points[shapely.contains_xy(shape, points[:, 0], points[:, 1])]
    return float(np.mean(within.contains(points))) if len(points) else 0.0

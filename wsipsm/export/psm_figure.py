"""Draws the figure of the paper for another slide: the result of every step of the method on the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wsipsm.rundir import write_aside

_PANEL_INCH = 3.4
_DPI = 120
_COLUMNS = 4
_CLASS_COLOURS = np.array([[255, 255, 255], [38, 84, 222], [226, 26, 28]], np.uint8)
_VORONOI_COLOURS = {0: (20, 20, 20), 1: (0, 150, 60), 255: (225, 225, 225)}
_POINT_COLOURS = {1: "#19e0ff", 2: "#ffe14d"}


@dataclass(frozen=True, slots=True)
class PsmPicture:
    """The panels of the figure; every array is of the same pixels, with shape (h, w) or (h, w, 3)."""

    title: str
    rgb: NDArray[np.uint8]
    stages: Sequence[NDArray[np.float32]]
    """Self-activation maps of stage 1, 2 and so on, each from 0 to 1, shape (h, w)."""
    fused: NDArray[np.float32]
    """Map plus beta times image, shape (h, w, 3)."""
    clusters: NDArray[np.uint8]
    """Number of the cluster of each pixel."""
    classes: NDArray[np.uint8]
    """Pseudo mask: 0 background, 1 nucleus (negative on IHC), 2 positive."""
    points: dict[int, NDArray[np.float64]]
    """Points (x, y) in pixels, corner convention, shape (n, 2), by class."""
    voronoi: NDArray[np.uint8]
    """Point label: 1 nucleus, 0 background, 255 ignored."""
    beta: float
    caption: str


def draw_psm(path: Path, picture: PsmPicture) -> None:
    """Draw the steps of the method as the panels of one PNG.

    Parameters
    ----------
    path
        PNG to be written; an existing file is replaced.
    picture
        Arrays and texts that are shown.

    Raises
    ------
    OutputError
        When the disk is full or the place is not writable.
    """
    panels = 6 + len(picture.stages)
    rows = -(-panels // _COLUMNS)
    figure = Figure(figsize=(_PANEL_INCH * _COLUMNS, _PANEL_INCH * 1.08 * rows + 0.7), dpi=_DPI, layout="constrained")
    axes = [figure.add_subplot(rows, _COLUMNS, number) for number in range(1, rows * _COLUMNS + 1)]
    for spare in axes[panels:]:
        spare.set_axis_off()
    figure.suptitle(picture.title, fontsize=11)
    figure.supxlabel(picture.caption, fontsize=8)
    _fill(axes, picture)
    FigureCanvasAgg(figure)
    with write_aside(path) as temporary:
        figure.savefig(temporary, format="png")


def _fill(axes: Sequence[Axes], picture: PsmPicture) -> None:
    panels = iter(axes)
    _show(next(panels), picture.rgb, "input")
    for stage, activation in enumerate(picture.stages, start=1):
        _show(next(panels), activation, f"self-activation map, stage {stage} (Eq. 3, 4)", colours="magma")
    fused = picture.fused - picture.fused.min()
    _show(next(panels), fused / max(float(fused.max()), 1e-6), f"fused: map + {picture.beta:g} x image (Eq. 5)")
    _show(next(panels), picture.clusters, "clusters (Eq. 6)", colours="viridis")
    _show(next(panels), _CLASS_COLOURS[picture.classes], "pseudo mask")
    points = next(panels)
    _show(points, picture.rgb, f"{sum(len(xy) for xy in picture.points.values())} points (Eq. 7)")
    for kind, xy in picture.points.items():
        # Matplotlib has pixel centres at whole numbers, points in the corner convention at halves.
        points.plot(xy[:, 0] - 0.5, xy[:, 1] - 0.5, "o", color=_POINT_COLOURS[kind], markersize=2.2, markeredgewidth=0)
    voronoi = np.zeros((*picture.voronoi.shape, 3), np.uint8)
    for value, colour in _VORONOI_COLOURS.items():
        voronoi[picture.voronoi == value] = colour
    _show(next(panels), voronoi, "point label with Voronoi edges (Eq. 8)")


def _show(axes: Axes, image: NDArray[np.generic], title: str, colours: str | None = None) -> None:
    axes.imshow(image, cmap=colours, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()

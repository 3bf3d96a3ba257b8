"""Charts of a cohort's page, drawn as SVG inside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from wsipsm.export.markup import add
from wsipsm.scoring.drift import LIMIT_SIGMAS, MIN_SLIDES, ControlChart

_WIDTH, _HEIGHT = 720, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 10, 34
_FEWEST_BARS, _MOST_BARS = 5, 40
_MANY_POINTS = 300
"""The number of points from which on they are drawn smaller."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A map from values to places on the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Place of a value, with one decimal."""
        span = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 1)

    def ticks(self, most: int) -> list[float]:
        """Round values, at most so many and one."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next((times * power for times in (1, 2, 5) if times * power * most >= span), 10 * power)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def draw_histogram(parent: Element, values: Sequence[float], title: str, edges: NDArray[np.float64] | None) -> None:
    """Draw how many slides have which value.

    Parameters
    ----------
    parent
        Element that takes the drawing.
    values
        One a slide, at least one.
    title
        What they are, with the unit.
    edges
        Edges of the bars; None chooses them by the values.
    """
    row = np.asarray(values, np.float64)
    if edges is None:
        edges = np.histogram_bin_edges(row, min(_MOST_BARS, max(_FEWEST_BARS, round(math.sqrt(len(row))))))
    counts, _ = np.histogram(row, edges)
    x = Axis(float(edges[0]), float(edges[-1]), _LEFT, _WIDTH - _RIGHT)
    y = Axis(0.0, float(max(1, counts.max())), _HEIGHT - _BOTTOM, _TOP)
    drawing = _frame(parent, f"{title}: histogram of {len(row)} slides")
    _draw_axes(drawing, x, y, f"{title}; median {np.median(row):.4g}, {len(row)} slides", whole=True)
    for left, right, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
        if count:
            top, width = y.at(count), max(1.0, round(x.at(right) - x.at(left) - 1, 1))
            bar = add(drawing, "rect", class_="bar", x=x.at(left), y=top, width=width, height=round(y.at(0) - top, 1))
            add(bar, "title", f"{left:.4g} to {right:.4g}: {count}")


def draw_control_chart(parent: Element, chart: ControlChart, names: Sequence[str], title: str) -> None:
    """Draw a control chart, or say that there are too few slides for one.

    Parameters
    ----------
    parent
        Element that takes the drawing.
    chart
        What is drawn.
    names
        Names of the slides, shape (n,).
    title
        What the values are, with the unit.
    """
    if chart.centre is None or chart.low is None or chart.high is None:
        add(parent, "p", f"{title}: known of {chart.n_known} slides; a control chart needs at least {MIN_SLIDES}.")
        return
    known = chart.values[np.isfinite(chart.values)]
    low, high = min(chart.low, float(known.min())), max(chart.high, float(known.max()))
    pad = (high - low) * 0.05 or 1.0
    x = Axis(0.0, float(len(chart.values) + 1), _LEFT, _WIDTH - _RIGHT)
    y = Axis(low - pad, high + pad, _HEIGHT - _BOTTOM, _TOP)
    outside = chart.outside
    caption = f"{title}; centre {chart.centre:.4g}, limits {chart.low:.4g} to {chart.high:.4g} ({LIMIT_SIGMAS:g} sigma)"
    drawing = _frame(parent, f"{caption}; {int(outside.sum())} of {chart.n_known} slides outside")
    _draw_axes(drawing, x, y, caption)
    # One path for all: a page of thousands of slides stays small.
    places = [(x.at(n + 1), y.at(value)) for n, value in enumerate(chart.values) if math.isfinite(value)]
    add(drawing, "path", class_="line", d="M" + "L".join(f"{left:g} {top:g}" for left, top in places))
    kind = "point" if len(places) < _MANY_POINTS else "point small"
    add(drawing, "path", class_=kind, d="".join(f"M{left:g} {top:g}h0" for left, top in places))
    for value, kind in ((chart.centre, "centre"), (chart.low, "limit"), (chart.high, "limit")):
        add(drawing, "line", class_=kind, x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y.at(value), y2=y.at(value))
    for n in np.flatnonzero(outside).tolist():
        value = float(chart.values[n])
        mark = add(drawing, "circle", class_="outside", cx=x.at(n + 1), cy=y.at(value), r=4)
        add(mark, "title", f"{names[n]}: {value:.4g}")


def _frame(parent: Element, label: str) -> Element:
    return add(parent, "svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label)


def _draw_axes(drawing: Element, x: Axis, y: Axis, title: str, whole: bool = False) -> None:
    for value in y.ticks(4):
        if whole and value != round(value):
            continue
        add(drawing, "line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y.at(value), y2=y.at(value))
        add(drawing, "text", f"{value:.6g}", x=_LEFT - 6, y=y.at(value) + 4, text_anchor="end")
    for value in x.ticks(10):
        add(drawing, "text", f"{value:.6g}", x=x.at(value), y=_HEIGHT - _BOTTOM + 14, text_anchor="middle")
    add(drawing, "text", title, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 4, text_anchor="middle")

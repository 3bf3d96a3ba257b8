"""Draws the charts of the pages: histograms of values, and control charts of their drift over a cohort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wsipsm.pages.drawing import BAD, BAR, INK, drawn
from wsipsm.scoring.drift import LIMIT_SIGMAS, MIN_SLIDES, ControlChart

_FEWEST_BARS, _MOST_BARS = 5, 40
_MANY_POINTS = 300
"""Number of points from which they are drawn smaller."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing and its caption."""

    drawing: Markup
    text: str
    """Text of the caption."""
    outside: tuple[str, ...] = ()
    """One line of text for each slide outside the limits."""


def histogram(values: Sequence[float], title: str, edges: NDArray[np.float64] | None, name: str) -> Chart:
    """Draw a histogram of the slides' values; without values the chart is a text alone.

    Parameters
    ----------
    values
        Value of each slide.
    title
        Name of the values, with the unit.
    edges
        Edges of the bars, shape (n + 1,); None: chosen from the values.
    name
        Prefix that makes the drawing's identifiers unique on the page.
    """
    if not values:
        return Chart(Markup(""), f"{title}: no slide has one yet.")
    row = np.asarray(values, np.float64)
    if edges is None:
        edges = np.histogram_bin_edges(row, min(_MOST_BARS, max(_FEWEST_BARS, round(math.sqrt(len(row))))))
    counts, _ = np.histogram(row, edges)
    with drawn(label=f"{title}: histogram of {len(row)} slides", name=name) as (axes, made):
        axes.bar(edges[:-1], counts, np.diff(edges) * 0.95, align="edge", color=BAR, linewidth=0)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(title)
        axes.set_ylabel("slides")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return Chart(made[0], f"{title}: {len(row)} slides, median {np.median(row):.4g}")


def control_drawing(chart: ControlChart, names: Sequence[str], title: str, name: str) -> Chart:
    """Draw a control chart; with too few slides the chart is a text alone.

    Parameters
    ----------
    chart
        Values, centre and limits.
    names
        Ids of the slides, in the chart's order.
    title
        Name of the values, with the unit.
    name
        Prefix that makes the drawing's identifiers unique on the page.
    """
    if chart.centre is None or chart.low is None or chart.high is None:
        text = f"{title}: known of {chart.n_known} slides; a control chart needs at least {MIN_SLIDES}."
        return Chart(Markup(""), text)
    outside = np.flatnonzero(chart.outside).tolist()
    text = (
        f"{title}: centre {chart.centre:.4g}, limits {chart.low:.4g} to {chart.high:.4g} ({LIMIT_SIGMAS:g} sigma); "
        f"{len(outside)} of {chart.n_known} slides outside"
    )
    places = np.arange(1, len(chart.values) + 1)
    with drawn(label=text, name=name) as (axes, made):
        size = 3.0 if chart.n_known < _MANY_POINTS else 1.5
        axes.plot(places, chart.values, color=BAR, linewidth=0.5, marker="o", markersize=size)
        axes.plot(places[outside], chart.values[outside], color=BAD, linewidth=0, marker="o", markersize=5)
        axes.axhline(chart.centre, color=INK, linewidth=0.8)
        for limit in (chart.low, chart.high):
            axes.axhline(limit, color=BAD, linewidth=0.8, linestyle="--")
        axes.set_xlabel("slide of the cohort")
        axes.set_ylabel(title.rpartition(": ")[2])
    lines = tuple(f"{names[n]}: {float(chart.values[n]):.4g}" for n in outside)
    return Chart(made[0], text, lines)

"""Draws agreement: one measurement against the other, and their differences over their means (Bland & Altman)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

_SIZE_INCH = (11.0, 4.8)
_DPI = 150
_POINT, _BIAS, _LIMIT, _QUIET = "#1f5fa8", "#222222", "#b3261e", "#9a9a9a"
_MAX_NAMED = 6
_MAX_NAME_CHARACTERS = 24


class _Estimate(Protocol):
    """A value with its interval, as wsipsm.metrics.agreement returns it; that module needs the extra ``agree``."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class AgreementPicture:
    """The data of the agreement plot."""

    slides: Sequence[str]
    reference: NDArray[np.float64]
    cohort: NDArray[np.float64]
    """Shape (n,), float64, in the order of ``slides``."""
    bias: _Estimate
    lower: _Estimate
    upper: _Estimate
    """Mean difference, cohort minus reference, and 95 % limits of agreement."""
    unit: str
    """'%', or '' for counts."""
    cuts: Sequence[float] = ()
    """Limits of the bands, which are drawn in the left panel."""


def draw_agreement(path: Path, picture: AgreementPicture) -> None:
    """Draw both measurements against each other, and their difference over their mean.

    Parameters
    ----------
    path
        PNG to be written; an existing file is replaced.
    picture
        Values, limits of agreement and names of the slides.
    """
    figure = Figure(figsize=_SIZE_INCH, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.3))
    _draw_pairs(left, picture)
    _draw_differences(right, picture)
    with warnings.catch_warnings():
        # A slide's name may contain letters that the font lacks; the table shows them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, format="png")


def _draw_pairs(axes: Axes, picture: AgreementPicture) -> None:
    both = np.concatenate([picture.reference, picture.cohort])
    margin = 0.04 * (np.ptp(both) or 1.0)
    low, high = float(both.min() - margin), float(both.max() + margin)
    for cut in picture.cuts:
        if low < cut < high:
            axes.axvline(cut, color=_QUIET, linewidth=0.8, linestyle=":")
            axes.axhline(cut, color=_QUIET, linewidth=0.8, linestyle=":")
    axes.plot([low, high], [low, high], color=_QUIET, linewidth=1.0, label="equal")
    axes.scatter(picture.reference, picture.cohort, s=26, color=_POINT, alpha=0.75, linewidths=0, zorder=3)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=_with("Reference", picture.unit))
    axes.set_ylabel(_with("Cohort", picture.unit))
    axes.set_title(f"{len(picture.slides)} slides", fontsize=10)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    _plain(axes)


def _draw_differences(axes: Axes, picture: AgreementPicture) -> None:
    difference = picture.cohort - picture.reference
    mean = (picture.cohort + picture.reference) / 2
    axes.axhline(0.0, color=_QUIET, linewidth=0.8)
    _draw_line(axes, picture.bias, "bias", _BIAS, "-")
    if picture.lower.value != picture.upper.value:  # otherwise the three lines and their names would coincide
        _draw_line(axes, picture.upper, "upper limit", _LIMIT, "--")
        _draw_line(axes, picture.lower, "lower limit", _LIMIT, "--")
    axes.scatter(mean, difference, s=26, color=_POINT, alpha=0.75, linewidths=0, zorder=3)
    _name_outside(axes, picture, mean, difference)
    axes.set_xlabel(_with("Mean of cohort and reference", picture.unit))
    axes.set_ylabel(_with("Cohort − reference", "points" if picture.unit == "%" else ""))  # noqa: RUF001
    axes.set_title("Bias and 95 % limits of agreement, with 95 % intervals", fontsize=10)
    axes.margins(x=0.06, y=0.08)
    _plain(axes)


def _draw_line(axes: Axes, estimate: _Estimate, name: str, colour: str, style: str) -> None:
    if estimate.value is None:
        return
    axes.axhline(estimate.value, color=colour, linewidth=1.4, linestyle=style)
    if estimate.low is not None and estimate.high is not None:
        axes.axhspan(estimate.low, estimate.high, color=colour, alpha=0.10, linewidth=0)
    # The text is put right of the plot, where there are no points.
    axes.annotate(
        f"{name}\n{estimate.value:+.3g}",
        xy=(1.0, estimate.value),
        xycoords=axes.get_yaxis_transform(),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        fontsize=8,
    )


def _name_outside(
    axes: Axes, picture: AgreementPicture, mean: NDArray[np.float64], difference: NDArray[np.float64]
) -> None:
    """Name the slides outside the limits, the farthest first."""
    if picture.bias.value is None or picture.lower.value is None or picture.upper.value is None:
        return
    is_outside = (difference < picture.lower.value) | (difference > picture.upper.value)
    farthest = np.argsort(-np.abs(difference - picture.bias.value), kind="stable")
    middle = (mean.min() + mean.max()) / 2
    for index in [int(i) for i in farthest if is_outside[i]][:_MAX_NAMED]:
        name = picture.slides[index]
        is_left = bool(mean[index] <= middle)
        axes.annotate(
            name if len(name) <= _MAX_NAME_CHARACTERS else name[: _MAX_NAME_CHARACTERS - 1] + "…",
            xy=(float(mean[index]), float(difference[index])),
            xytext=(6 if is_left else -6, 0),
            textcoords="offset points",
            ha="left" if is_left else "right",
            va="center",
            fontsize=8,
            parse_math=False,
        )


def _with(text: str, unit: str) -> str:
    return f"{text} ({unit})" if unit else text


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)

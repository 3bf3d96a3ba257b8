"""Does the staining drift? What is known of a slide's stains, and a control chart of it over the slides of a cohort."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_SLIDES = 8
"""Slides of a stain below which a chart says nothing."""
MIN_NUCLEI = 20
"""Nuclei below which a median of theirs says nothing."""
LIMIT_SIGMAS = 3.0
"""The limits of Shewhart's charts, in standard deviations."""
_RANGE_OF_TWO = math.sqrt(2) * NormalDist().inv_cdf(0.75)
"""Median distance of two values of a normal distribution, in its standard deviations: 0.954."""


@dataclass(frozen=True, slots=True)
class StainStatistics:
    """The figures on the stains of one slide; None where there is too little to know one from."""

    hematoxylin_od: float | None
    """Median over all nuclei of their mean hematoxylin optical density."""
    dab_od: float | None
    """The same of DAB: follows the share of positive nuclei, and says little about the staining."""
    dab_od_positive: float | None
    """The same over positive nuclei: how strong the stain is."""
    dab_od_negative: float | None
    """The same over negative nuclei: how much of it lies where it does not belong."""
    background_level: float | None
    """Grey level of empty glass, 0..255, mean of red, green and blue; None where the sample showed no glass."""

    def rounded(self) -> StainStatistics:
        """Give the same with four decimals, as ``summary.json`` holds it."""
        return StainStatistics(*(None if value is None else round(value, 4) for value in astuple(self)))


def stain_statistics(
    hematoxylin_od: NDArray[np.floating],
    dab_od: NDArray[np.floating] | None,
    cut_od: float | None,
    background: tuple[float, float, float] | None,
) -> StainStatistics:
    """Summarise the stains of a slide.

    Parameters
    ----------
    hematoxylin_od
        Mean optical density of each nucleus, shape (n,); NaN is left out.
    dab_od
        The same of DAB; None on H&E.
    cut_od
        DAB density from which a nucleus is positive; None on H&E.
    background
        Grey levels of empty glass; None where none was seen.
    """
    dab = np.empty(0) if dab_od is None or cut_od is None else np.asarray(dab_od, np.float64)
    positive = np.zeros(0, bool) if cut_od is None else dab >= cut_od
    return StainStatistics(
        hematoxylin_od=_median(np.asarray(hematoxylin_od, np.float64)),
        dab_od=_median(dab),
        dab_od_positive=_median(dab[positive]),
        dab_od_negative=_median(dab[~positive]),
        background_level=None if background is None else float(np.mean(background)),
    )


def _median(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) >= MIN_NUCLEI else None


@dataclass(frozen=True, slots=True)
class ControlChart:
    """Values of a statistic in the order of the slides, and between which limits they are expected."""

    values: NDArray[np.float64]
    """Shape (n,); NaN where it is not known."""
    centre: float | None
    low: float | None
    high: float | None
    """None with fewer than ``MIN_SLIDES`` values."""

    @property
    def n_known(self) -> int:
        """Slides of which the statistic is known."""
        return int(np.isfinite(self.values).sum())

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Which values lie outside the limits, shape (n,)."""
        if self.low is None or self.high is None:
            return np.zeros(len(self.values), bool)
        # What is not known is neither below nor above.
        return np.asarray((self.values < self.low) | (self.values > self.high))


def control_chart(values: ArrayLike, finest: float = 0.0) -> ControlChart:
    """Lay a Shewhart chart of individual values, with limits that outliers do not move.

    The centre is the median, and the standard deviation the median distance between a value and the next, over 0.954
    (median moving range: Shewhart 1931, Economic Control of Quality of Manufactured Product; Wheeler and Chambers 1992,
    Understanding Statistical Process Control). Distances between neighbours are what differs without drift, so that a
    slow drift does not widen the limits that are to show it, as it would a standard deviation or MAD of all values.

    Of slides that differ by chance alone (normal), 0.3 % are flagged in long series, 1.0 % in 20, 2.1 % in 8.

    Parameters
    ----------
    values
        Values in the order of the slides, shape (n,); NaN where not known, and then passed over.
    finest
        Smallest standard deviation that is believed: equal slides would else differ by rounding.

    Raises
    ------
    ValueError
        When values are not in a row, or one is infinite.
    """
    row = np.asarray(values, np.float64)
    if row.ndim != 1 or np.isinf(row).any():
        raise ValueError(f"chart: values of shape {row.shape}; finite ones in a row are needed, or NaN.")
    known = row[~np.isnan(row)]
    if len(known) < MIN_SLIDES:
        return ControlChart(row, None, None, None)
    centre = float(np.median(known))
    sigma = max(float(np.median(np.abs(np.diff(known)))) / _RANGE_OF_TWO, finest)
    return ControlChart(row, centre, centre - LIMIT_SIGMAS * sigma, centre + LIMIT_SIGMAS * sigma)

"""Drift of the staining: figures on the stains of a slide, and a control chart of one over the slides of a cohort."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_SLIDES = 8
"""Fewest slides of a stain that limits are computed from."""
MIN_NUCLEI = 20
"""Fewest nuclei that a median is computed from."""
LIMIT_SIGMAS = 3.0
"""Distance of the limits from the centre, in standard deviations, as in Shewhart's charts."""
_RANGE_OF_TWO = math.sqrt(2) * NormalDist().inv_cdf(0.75)
"""Median distance of two values of a normal distribution, in its standard deviations: 0.954."""


@dataclass(frozen=True, slots=True)
class StainStatistics:
    """Figures on the stains of one slide; a figure is None where too few nuclei or pixels show it."""

    hematoxylin_od: float | None
    """Median over all nuclei of their mean hematoxylin optical density."""
    dab_od: float | None
    """The same median of DAB. It follows the share of positive nuclei, so it says little about the staining."""
    dab_od_positive: float | None
    """The same median of DAB over positive nuclei, which shows how strong the stain is."""
    dab_od_negative: float | None
    """The same median of DAB over negative nuclei, which shows how much stain lies where it does not belong."""
    background_level: float | None
    """Grey level of empty glass, 0..255, mean of red, green and blue; None where the sample showed no glass."""

    def rounded(self) -> StainStatistics:
        """Round every figure to the four decimals that ``summary.json`` has."""
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
        Mean hematoxylin optical density of each nucleus, shape (n,); NaN is left out.
    dab_od
        Mean DAB optical density of each nucleus, shape (n,); None on H&E.
    cut_od
        DAB optical density from which a nucleus is positive; None on H&E.
    background
        Grey levels of empty glass, red, green and blue, 0..255; None where no glass was seen.

    Returns
    -------
    The figures, not rounded.
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
    """Values of a statistic in the order of the slides, with the limits between which they are expected."""

    values: NDArray[np.float64]
    """Value of each slide, shape (n,); NaN where it is not known."""
    centre: float | None
    """Median of the values; None, as both limits are, with fewer than ``MIN_SLIDES`` known values."""
    low: float | None
    high: float | None

    @property
    def n_known(self) -> int:
        """Number of slides of which the statistic is known."""
        return int(np.isfinite(self.values).sum())

    @property
    def outside(self) -> NDArray[np.bool_]:
        """Which values lie outside the limits, shape (n,)."""
        if self.low is None or self.high is None:
            return np.zeros(len(self.values), bool)
        # Comparisons with NaN are false, so a slide whose value is not known is never outside.
        return np.asarray((self.values < self.low) | (self.values > self.high))


def control_chart(values: ArrayLike, finest: float = 0.0) -> ControlChart:
    """Compute a Shewhart chart of individual values, with limits that outliers do not move.

    The centre is the median. The standard deviation is the median distance between a value and the next, divided by
    0.954 (median moving range: Shewhart 1931, Economic Control of Quality of Manufactured Product; Wheeler and Chambers
    1992, Understanding Statistical Process Control). A slow drift hardly changes the distance between neighbours, so it
    does not widen the limits that are to show it. It would widen them if they came from the standard deviation or MAD
    of all values.

    Of slides that differ by chance alone (normal distribution), 0.3 % lie outside the limits in long series, 1.0 % in
    series of 20 slides, and 2.1 % in series of 8.

    Parameters
    ----------
    values
        Values in the order of the slides, shape (n,); NaN where not known, which is left out.
    finest
        Lower bound of the standard deviation, so that slides that differ by rounding alone do not lie outside.

    Returns
    -------
    The chart; it has no limits where fewer than ``MIN_SLIDES`` values are known.

    Raises
    ------
    ValueError
        When the array of values has not one dimension, or a value is infinite.
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

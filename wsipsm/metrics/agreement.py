"""The agreement of two columns of measurements: limits of agreement, intraclass correlation (ICC), and kappa of bands.

The statistics are those of pingouin (ICC), statsmodels (kappa) and scipy (t quantiles). pingouin and statsmodels come
with the extra ``agree``, so a module that must load without them imports this one inside a function.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pingouin
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from wsipsm.markers.bands import ComparedBands

MIN_SLIDES = 3
"""Fewest slides of a comparison; with two, an interval has one degree of freedom and is too wide to be of use."""
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; either is None where the data define none, and ``note`` gives the reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class LimitsOfAgreement:
    """Differences, measured minus reference, in the unit of the measurements."""

    bias: Estimate
    """Mean difference."""
    lower: Estimate
    upper: Estimate
    """Limits between which 95 % of the differences lie when these are normally distributed."""
    sd: float
    """Standard deviation of the differences."""


@dataclass(frozen=True, slots=True)
class Bands:
    """Bands of a labelling index, in percent."""

    name: str
    labels: tuple[str, ...]
    edges: tuple[tuple[float, bool], ...]
    """Edges between the bands in percent, ascending, each with whether a value on it belongs to the band above."""

    @classmethod
    def of(cls, compared: ComparedBands) -> Bands:
        """Make the bands from a marker's limits, which are fractions."""
        # Rounding is needed, since 100 times a limit such as 0.07 is not exactly 7.
        edges = tuple((round(100 * limit.value, 9), limit.starts_upper) for limit in compared.bands.limits)
        return cls(compared.title, tuple(band.span for band in compared.bands.bands), edges)

    def assign(self, percent: NDArray[np.float64]) -> NDArray[np.intp]:
        """Find the number of the band, from 0, of each value in percent; same shape, intp."""
        number = np.zeros(percent.shape, np.intp)
        for edge, is_above in self.edges:
            number += percent >= edge if is_above else percent > edge
        return number


@dataclass(frozen=True, slots=True)
class BandAgreement:
    """The share of slides whose two values fall in the same band."""

    name: str
    labels: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]
    """Numbers of slides; each row is a band of the reference, each column a band of the measurement."""
    share_agreeing: float
    """Share of slides in the same band, 0..1."""
    kappa: Estimate


def limits_of_agreement(reference: NDArray[np.float64], measured: NDArray[np.float64]) -> LimitsOfAgreement:
    """Compute bias and 95 % limits of agreement (Bland & Altman, Lancet 1986;327:307-310).

    Parameters
    ----------
    reference, measured
        Values of the same subjects in the same order, shape (n,), float64, finite, n >= 3, in one unit.

    Returns
    -------
    Limits at the mean difference plus and minus 1.96 standard deviations. The intervals are those of the paper:
    standard error s / sqrt(n) for the bias and sqrt(3 s^2 / n) for a limit, with Student's t.

    Raises
    ------
    ValueError
        When the columns differ in shape, are too short, or hold values that are not finite.
    """
    _check(reference, measured)
    difference = measured - reference
    n = difference.size
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    t = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, n - 1))
    reach = float(stats.norm.ppf(0.5 + _CONFIDENCE / 2)) * sd

    def around(value: float, standard_error: float) -> Estimate:
        return Estimate(value, value - t * standard_error, value + t * standard_error)

    of_limit = math.sqrt(3 / n) * sd
    return LimitsOfAgreement(
        bias=around(bias, sd / math.sqrt(n)),
        lower=around(bias - reach, of_limit),
        upper=around(bias + reach, of_limit),
        sd=sd,
    )


def intraclass_correlation(ratings: NDArray[np.float64]) -> Estimate:
    """Compute ICC(2,1): two-way random effects, absolute agreement, single measurement.

    Shrout & Fleiss, Psychol Bull 1979;86:420-428; with the interval of ICC(A,1) in McGraw & Wong, Psychol Methods
    1996;1:30-46. Unlike a correlation, it is lowered by a constant difference between the raters.

    Parameters
    ----------
    ratings
        Ratings of n subjects (rows) by k raters (columns), shape (n, k), float64, finite, n >= 3, k >= 2.

    Returns
    -------
    The ICC, with an interval where one is defined.

    Raises
    ------
    ValueError
        When there are fewer subjects or raters, or values that are not finite.
    """
    _check(*ratings.T)
    n, k = ratings.shape
    if k < 2:
        raise ValueError(f"ratings: {k} rater; at least two are needed")
    if np.ptp(ratings) == 0:
        return Estimate(None, note="every value is the same")
    table = pd.DataFrame(
        {"subject": np.repeat(np.arange(n), k), "rater": np.tile(np.arange(k), n), "rating": ratings.ravel()}
    )
    with _undisturbed_pingouin():
        result = pingouin.intraclass_corr(table, targets="subject", raters="rater", ratings="rating")
    row = result.set_index("Type").loc["ICC(A,1)"]
    value, (low, high) = float(row["ICC"]), (float(limit) for limit in row["CI95"])
    if not math.isfinite(value):
        return Estimate(None, note="the values vary too little")
    if not (math.isfinite(low) and math.isfinite(high)):
        return Estimate(value, note="the difference is the same everywhere, so no interval is defined")
    return Estimate(value, low, high)


def band_agreement(
    reference_percent: NDArray[np.float64], measured_percent: NDArray[np.float64], bands: Bands
) -> BandAgreement:
    """Compute the unweighted kappa of Cohen for the bands of two indices.

    Cohen, Educ Psychol Meas 1960;20:37-46; large-sample interval of Fleiss, Cohen & Everitt, Psychol Bull
    1969;72:323-327, cut to the possible -1..1.

    Parameters
    ----------
    reference_percent, measured_percent
        Labelling indices in percent, same subjects in the same order, shape (n,), float64, finite, n >= 3.
    bands
        Bands of the indices.

    Returns
    -------
    The table of bands, the share of slides that agree, and kappa.

    Raises
    ------
    ValueError
        When the columns differ in shape, are too short, or hold values that are not finite.
    """
    _check(reference_percent, measured_percent)
    n_bands = len(bands.labels)
    table = np.zeros((n_bands, n_bands), np.int64)
    np.add.at(table, (bands.assign(reference_percent), bands.assign(measured_percent)), 1)
    n_agreeing = int(np.trace(table))
    return BandAgreement(
        name=bands.name,
        labels=bands.labels,
        table=tuple(tuple(int(count) for count in row) for row in table),
        share_agreeing=n_agreeing / reference_percent.size,
        kappa=_kappa(table, n_agreeing),
    )


def _kappa(table: NDArray[np.int64], n_agreeing: int) -> Estimate:
    n = int(table.sum())
    if np.count_nonzero(table.sum(0) + table.sum(1)) == 1:
        return Estimate(None, note="all values lie in one band")
    with np.errstate(divide="ignore", invalid="ignore"):
        result = cohens_kappa(table)
    value = float(result.kappa)
    if n_agreeing == n:
        return Estimate(value, note="no disagreement, so no interval is defined")
    if 1 in (np.count_nonzero(table.sum(0)), np.count_nonzero(table.sum(1))):
        return Estimate(value, note="one of the two lies in one band throughout, which makes kappa 0")
    low, high = float(result.kappa_low), float(result.kappa_upp)
    if not low < high:  # in this form the comparison also finds NaN
        return Estimate(value, note="too few values for a large-sample interval")
    return Estimate(value, max(low, -1.0), min(high, 1.0))


def _check(*columns: NDArray[np.float64]) -> None:
    shapes: Sequence[tuple[int, ...]] = [column.shape for column in columns]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1:
        raise ValueError(f"columns of shape {shapes}; one-dimensional columns of one length are needed")
    if shapes[0][0] < MIN_SLIDES:
        raise ValueError(f"{shapes[0][0]} values; at least {MIN_SLIDES} are needed")
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError("values that are not finite; leave out subjects without a value")


@contextmanager
def _undisturbed_pingouin() -> Iterator[None]:
    """Set pingouin to full precision, and hide its warnings of deprecations, within the context."""
    rounding = pingouin.options.get("round.column.CI95")
    pingouin.options["round.column.CI95"] = None
    try:
        with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        pingouin.options["round.column.CI95"] = rounding

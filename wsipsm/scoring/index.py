"""The labelling index: the share of nuclei that a marker stains, its interval, and what limits its use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from wsipsm.markers.marker import Marker
from wsipsm.markers.registry import DEFAULT_MARKER

ALL_NUCLEI = "all nuclei"
"""Start of the region's name when none was drawn."""

_METHOD = "unweighted global: positive / (positive + negative) nuclei of the region; 95% Wilson score interval"


@dataclass(frozen=True, slots=True)
class LabellingIndex:
    """Share of positive nuclei in a region."""

    value: float | None
    """Fraction, 0..1; None when nothing was scored."""
    n_positive: int
    n_scored: int
    low: float | None
    high: float | None
    """Both ends of the 95 % interval of the fraction. It allows for counting alone, not for the choice of the region or
    of the cut."""
    method: str
    region: str
    flags: tuple[str, ...]
    """Sentences on what limits the use of the index; empty when nothing does."""


def wilson_interval(n_positive: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the interval of a proportion that stays within 0..1 and holds for few or no positives.

    Parameters
    ----------
    n_positive
        Number of positives.
    n
        Number of trials; 0 gives the whole range 0..1.
    confidence
        Coverage, between 0 and 1.

    Returns
    -------
    Lower and upper bound (Wilson 1927, without continuity correction).

    Raises
    ------
    ValueError
        Unless 0 <= n_positive <= n and 0 < confidence < 1.

    Examples
    --------
    >>> low, high = wilson_interval(0, 100)
    >>> low, round(high, 3)
    (0.0, 0.037)
    """
    if not 0 <= n_positive <= n:
        raise ValueError(f"interval: {n_positive} positive of {n}; counts with 0 <= positive <= all are needed.")
    if not 0 < confidence < 1:
        raise ValueError(f"interval: confidence {confidence}; a number between 0 and 1 is needed, such as 0.95.")
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = n_positive / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # The ends 0 and 1 are set, since rounding would leave a tiny distance to them.
    low = 0.0 if n_positive == 0 else max(0.0, centre - half)
    high = 1.0 if n_positive == n else min(1.0, centre + half)
    return low, high


def labelling_index(
    n_positive: int, n_negative: int, region: str, coverage: float, marker: Marker = DEFAULT_MARKER
) -> LabellingIndex:
    """Score a region from its counts.

    Parameters
    ----------
    n_positive, n_negative
        Nuclei of each class whose centroid lies in the region.
    region
        Name of the region; "all nuclei" when none was drawn.
    coverage
        Share of the region's area that could be read and searched, 0..1.
    marker
        Marker that was stained; it states how many nuclei a score of it needs.

    Returns
    -------
    The index, with flags for too few nuclei, an incomplete region, and a region that nobody drew.

    Examples
    --------
    >>> index = labelling_index(150, 850, region="tumour", coverage=1.0)
    >>> f"{index.value:.1%}, {index.low:.1%} to {index.high:.1%}"
    '15.0%, 12.9% to 17.3%'
    """
    n = n_positive + n_negative
    flags: list[str] = []
    if n == 0:
        flags.append("no nuclei were found in the region: there is no index.")
    elif n < marker.min_nuclei:
        flags.append(f"only {n} nuclei were scored; a score needs at least {marker.min_nuclei}, so do not report it.")
    if coverage < 1:
        # Rounded down, so that 99.99 % is never shown as complete.
        flags.append(
            f"{math.floor(coverage * 1000) / 10:.1f}% of the region was analysed, the rest could not be read; "
            "the index is of the analysed part."
        )
    # Where areas were cut out of all nuclei, the name is longer.
    if region.startswith(ALL_NUCLEI):
        flags.append(
            "all nuclei: stroma and lymphocytes count. "
            "Draw the invasive tumour in QuPath and pass it with --roi to score tumour alone."
        )
    if n == 0:
        return LabellingIndex(None, 0, 0, None, None, _METHOD, region, tuple(flags))
    low, high = wilson_interval(n_positive, n)
    return LabellingIndex(n_positive / n, n_positive, n, low, high, _METHOD, region, tuple(flags))

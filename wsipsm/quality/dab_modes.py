"""A check that the DAB cut divides two kinds of nuclei, not one kind in the middle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsipsm.quality.finding import Finding, Verdict

NEGATIVE_LEVEL_MAX = 0.58
"""Largest usual median of negative nuclei, as a share of the DAB cut.

Real Ki-67 images have 0.55 and less, mostly below 0.4. Where every nucleus is brown it is 0.61 and more, except where
nuclei are so dark that hardly any is called negative."""
GAP_MIN_OD = 0.07
"""Smallest usual distance between the medians of positive and negative nuclei, optical density. Real Ki-67 images have
0.10 and more, mostly above 0.2; the smallest is one image of very faint DAB."""
_MIN_NUCLEI = 10
"""Fewest nuclei of a class from which its median is computed."""


def check_modes(dab_od: NDArray[np.floating], cut_od: float) -> tuple[Finding, Finding]:
    """Check that the nuclei on both sides of the cut differ, and that those below it are unstained.

    Parameters
    ----------
    dab_od
        Mean DAB optical density of each nucleus, shape (n,).
    cut_od
        DAB optical density from which a nucleus is positive.

    Returns
    -------
    Findings ``negative_level``, the median of the negative nuclei divided by the cut, and ``dab_gap_od``, the distance
    between the medians of positive and negative nuclei.
    """
    dab_od = dab_od[np.isfinite(dab_od)]
    positive, negative = dab_od[dab_od >= cut_od], dab_od[dab_od < cut_od]
    return _check_negatives(negative, cut_od), _check_gap(positive, negative)


def _check_negatives(negative: NDArray[np.floating], cut_od: float) -> Finding:
    name = "negative_level"
    if cut_od <= 0:
        return _unknown(name, "a DAB cut of 0 calls every nucleus positive: there is no level to judge.")
    if len(negative) < _MIN_NUCLEI:
        return _unknown(name, f"only {len(negative)} nuclei are negative: too few to judge their level.")
    value = round(float(np.median(negative)) / cut_od, 4)
    if value <= NEGATIVE_LEVEL_MAX:
        text = "the nuclei below the DAB cut are at the level of unstained ones."
        return Finding(name=name, value=value, high=NEGATIVE_LEVEL_MAX, verdict=Verdict.OK, text=text)
    text = (
        f"the nuclei called negative are brown too: half of them lie above {value:.0%} of the DAB cut, unstained ones "
        f"below {NEGATIVE_LEVEL_MAX:.0%}. The cut may divide one kind of nuclei, and the index be too low. Look at the "
        "overview, and set the cut with score --dab-cut."
    )
    return Finding(name=name, value=value, high=NEGATIVE_LEVEL_MAX, verdict=Verdict.FLAG, text=text)


def _check_gap(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> Finding:
    name, unit = "dab_gap_od", "OD"
    fewer = min(len(positive), len(negative))
    if fewer < _MIN_NUCLEI:
        return _unknown(name, f"only {fewer} nuclei lie on one side of the DAB cut: too few to compare both.", unit)
    value = round(float(np.median(positive) - np.median(negative)), 4)
    if value >= GAP_MIN_OD:
        text = "positive and negative nuclei differ clearly in DAB."
        return Finding(name=name, value=value, unit=unit, low=GAP_MIN_OD, verdict=Verdict.OK, text=text)
    text = (
        f"positive and negative nuclei hardly differ in DAB ({value:.2f} OD between their medians, at least "
        f"{GAP_MIN_OD:g} is usual): the cut may divide one kind of nuclei. Look at the overview."
    )
    return Finding(name=name, value=value, unit=unit, low=GAP_MIN_OD, verdict=Verdict.FLAG, text=text)


def _unknown(name: str, text: str, unit: str = "") -> Finding:
    return Finding(name=name, value=None, unit=unit, verdict=Verdict.UNKNOWN, text=text)

"""The sensitivity of the index to the cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def threshold_curve(dab_od: NDArray[np.floating], cuts_od: ArrayLike) -> NDArray[np.float64]:
    """Compute the index at every cut.

    Parameters
    ----------
    dab_od
        Mean DAB optical density of each nucleus, shape (n,); NaN counts as negative, as in
        :func:`~wsipsm.instances.table.classify`.
    cuts_od
        Cuts from which a nucleus is positive, shape (m,), optical density, in any order.

    Returns
    -------
    Fraction of positive nuclei at each cut, 0..1, shape (m,); NaN when there are no nuclei.

    Raises
    ------
    ValueError
        When an array has not one dimension, or a cut is not finite.
    """
    dab_od, cuts = np.asarray(dab_od), np.asarray(cuts_od, np.float64)
    if dab_od.ndim != 1 or cuts.ndim != 1 or not np.isfinite(cuts).all():
        raise ValueError(
            f"cuts: shapes {dab_od.shape} and {cuts.shape}; densities and finite cuts in a row are needed."
        )
    if not len(dab_od):
        return np.full(len(cuts), np.nan)
    measured = np.sort(dab_od[~np.isnan(dab_od)].astype(np.float64))
    return np.asarray((len(measured) - np.searchsorted(measured, cuts, side="left")) / len(dab_od), np.float64)


def share_near_cut(dab_od: NDArray[np.floating], cut_od: float, within_od: float = 0.05) -> float:
    """Compute the share of nuclei whose class a small shift of the cut would change.

    Parameters
    ----------
    dab_od
        Mean DAB optical density of each nucleus, shape (n,); NaN is never near.
    cut_od
        The cut, optical density.
    within_od
        Distance from the cut, optical density, up to which a nucleus is near it, on both sides, the ends included.

    Returns
    -------
    Fraction of all nuclei, 0..1; NaN when there are none.

    Raises
    ------
    ValueError
        When the distance is negative or a number is not finite.
    """
    if not (np.isfinite(cut_od) and np.isfinite(within_od) and within_od >= 0):
        raise ValueError(
            f"cut: {cut_od} within {within_od}; finite optical densities are needed, the distance 0 or more."
        )
    dab_od = np.asarray(dab_od)
    if not len(dab_od):
        return float("nan")
    return float(np.mean(np.abs(dab_od.astype(np.float64) - cut_od) <= within_od))

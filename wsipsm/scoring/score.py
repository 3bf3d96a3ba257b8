"""The score of a region: every figure that a marker has there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wsipsm.markers.bands import BandCall
from wsipsm.markers.marker import Marker
from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.scoring.fields import FieldMean, Fields, area_weighted_mean, lay_fields, unweighted_mean
from wsipsm.scoring.hotspot import HotSpotSearch, find_hot_spot
from wsipsm.scoring.index import LabellingIndex, labelling_index
from wsipsm.scoring.sensitivity import share_near_cut, threshold_curve
from wsipsm.scoring.spatial import SpatialInterval, block_bootstrap_interval

CURVE_OD = (0.0, 1.0, 0.02)
"""First and last cut of the threshold curve, and its step."""
NEAR_OD = 0.05
"""Distance from the cut within which a nucleus counts as near it, optical density."""
AreasOf: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Function from boxes, shape (m, 4), um, to their areas inside the region, shape (m,), um2."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is scored beside the share of positive nuclei, for markers that have one."""

    key: str
    name: str
    value: float
    text: str
    """Value as it is shown to a reader."""
    method: str


@dataclass(frozen=True, slots=True)
class MarkerScore:
    """Every figure of a marker in a region."""

    index: LabellingIndex
    """Index of all nuclei of the region, the main figure."""
    interval: SpatialInterval | None
    """Interval of the same index that allows for neighbouring nuclei being alike; None without nuclei."""
    unweighted: FieldMean
    area_weighted: FieldMean
    hot_spot: HotSpotSearch
    bands: tuple[BandCall, ...]
    """Bands of the index and the spatial interval."""
    cut_od: float
    cut_from: str
    """Where the cut comes from, in plain words."""
    curve_od: tuple[float, ...]
    curve_index: tuple[float, ...]
    """Index at each of the cuts ``curve_od``; empty without nuclei."""
    share_near_cut: float | None
    """Share of nuclei within ``NEAR_OD`` of the cut."""
    fields: Fields
    figures: tuple[Figure, ...] = ()
    """Figures beside the share of positive nuclei, for markers that have them; empty without nuclei."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Sentences on what limits the use of the score."""
        unsure = [band for band in self.bands if band.straddled]
        straddling = [
            f"the interval straddles {' and '.join(f'{limit:.0%}' for limit in band.straddled)} ({band.name})."
            for band in unsure
        ]
        return (*self.index.flags, *(self.interval.flags if self.interval else ()), *straddling)


def score_nuclei(
    xy_um: NDArray[np.float64],
    dab_od: NDArray[np.floating],
    *,
    cut_od: float,
    cut_from: str,
    region: str,
    coverage: float,
    areas_of: AreasOf,
    marker: Marker = DEFAULT_MARKER,
    seed: int = 0,
) -> MarkerScore:
    """Score the nuclei of a region.

    Parameters
    ----------
    xy_um
        Centroids inside the region, shape (n, 2), um from the corner of the slide's bounds.
    dab_od
        Mean DAB optical density of each nucleus, shape (n,).
    cut_od
        DAB optical density from which a nucleus is positive.
    cut_from
        Origin of the cut, in plain words.
    region
        Name of the region; "all nuclei" when none was drawn.
    coverage
        Share of the region that could be read and searched, 0..1.
    areas_of
        Function that gives the areas of boxes inside the region.
    marker
        Marker that was stained: its bands, its further figures, and how many nuclei a score of it needs.
    seed
        Seed of the bootstraps.

    Returns
    -------
    The score; without nuclei its figures are None or empty.

    Raises
    ------
    ValueError
        When shapes differ, or positions are not finite.
    """
    positive = np.asarray(dab_od) >= cut_od
    n, n_positive = len(positive), int(positive.sum())
    index = labelling_index(n_positive, n - n_positive, region, coverage, marker)
    interval = block_bootstrap_interval(xy_um, positive, seed=seed) if n else None
    fields = lay_fields(xy_um, positive)
    first, last, step = CURVE_OD
    cuts = np.round(np.arange(first, last + step / 2, step), 4)
    return MarkerScore(
        index=index,
        interval=interval,
        unweighted=unweighted_mean(fields, seed=seed),
        area_weighted=area_weighted_mean(fields, areas_of(fields.boxes_um), seed=seed),
        hot_spot=find_hot_spot(xy_um, positive, min_nuclei=marker.min_nuclei, seed=seed),
        bands=tuple(one.call(n_positive / n, interval.low, interval.high) for one in marker.bands) if interval else (),
        cut_od=cut_od,
        cut_from=cut_from,
        curve_od=tuple(cuts.tolist()) if n else (),
        curve_index=tuple(threshold_curve(dab_od, cuts).tolist()) if n else (),
        share_near_cut=share_near_cut(dab_od, cut_od, NEAR_OD) if n else None,
        fields=fields,
        figures=_figures(np.asarray(dab_od), cut_od, marker) if n else (),
    )


def _figures(dab_od: NDArray[np.floating], cut_od: float, marker: Marker) -> tuple[Figure, ...]:
    values = [(kind, float(kind.measure(dab_od, cut_od))) for kind in marker.figures]
    return tuple(
        Figure(kind.key, kind.name, value, f"{value:.{kind.decimals}f}", kind.method) for kind, value in values
    )

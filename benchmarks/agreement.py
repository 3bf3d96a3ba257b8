"""Measures how far two runs on the same pixels agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.metrics.assignment import assign_pairs

Polygons: TypeAlias = NDArray[np.object_]


@dataclass(frozen=True)
class Agreement:
    """Nuclei of two runs, matched one to one at IoU of at least 0.5."""

    n_first: int
    n_second: int
    n_matched: int
    n_identical: int
    """Number of matches with equal outlines."""
    mean_iou: float

    @property
    def matched_fraction(self) -> float:
        """Matches over the larger count; 1 when neither run found any."""
        larger = max(self.n_first, self.n_second)
        return self.n_matched / larger if larger else 1.0

    @property
    def count_difference(self) -> float:
        """Second count minus the first, over the first."""
        return (self.n_second - self.n_first) / self.n_first if self.n_first else float(self.n_second > 0)


def match_polygons(first: Polygons, second: Polygons, iou: float = 0.5) -> Agreement:
    """Match outlines one to one, so that the sum of IoU is largest, among pairs of at least ``iou``."""
    rows, columns, values = overlapping_pairs(first, second)
    good = values >= iou
    rows, columns, values = rows[good], columns[good], values[good]
    chosen = assign_pairs(rows, columns, values)
    values = values[chosen]
    same = int(np.count_nonzero(values > 1 - 1e-9))
    return Agreement(len(first), len(second), len(chosen), same, float(values.mean()) if len(values) else 0.0)


def overlapping_pairs(
    first: Polygons, second: Polygons
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Find the pairs of outlines that share area, as indices of both, and their IoU."""
    rows, columns = shapely.STRtree(second).query(first, predicate="intersects")
    shared = shapely.area(shapely.intersection(first[rows], second[columns]))
    union = shapely.area(first[rows]) + shapely.area(second[columns]) - shared
    touching = shared > 0
    return rows[touching], columns[touching], shared[touching] / union[touching]


def largest_inner_overlap(polygons: Polygons) -> float:
    """Compute the largest IoU between two nuclei of one run."""
    rows, columns, values = overlapping_pairs(polygons, polygons)
    return float(values[rows < columns].max(initial=0.0))


def find_offset(first: Polygons, second: Polygons) -> NDArray[np.float64]:
    """Find the whole-pixel shift x, y from the first run's nuclei to the second's.

    It is the most frequent difference between centroids, so that it does not depend on the frames of the runs.
    """
    a, b = (shapely.get_coordinates(shapely.centroid(p)).reshape(-1, 2) for p in (first, second))
    if not len(a) or not len(b):
        return np.zeros(2)
    # All pairs with a sample of the first run's nuclei are counted: true pairs fall into one bin, others into many.
    sample = a[np.random.default_rng(0).permutation(len(a))[:400]]
    differences = (b[None] - sample[:, None]).reshape(-1, 2)
    votes = np.floor(differences / 2)
    bins, counts = np.unique(votes, axis=0, return_counts=True)
    best = bins[counts.argmax()] * 2 + 1
    near = differences[np.abs(differences - best).max(axis=1) <= 3]
    shift: NDArray[np.float64] = np.round(np.median(near, axis=0))
    return shift

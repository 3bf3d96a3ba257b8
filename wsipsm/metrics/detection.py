"""Scores of detected points against labelled points, matched one to one within a radius."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wsipsm.metrics.assignment import assign_pairs


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """Counts of a matching; counts of several images are added with ``+``.

    A ratio whose denominator is 0 is 1 when there was nothing to find and nothing was found, else 0.
    """

    n_matched: int
    n_truth: int
    n_predicted: int

    def __add__(self, other: DetectionScore) -> DetectionScore:
        return DetectionScore(
            self.n_matched + other.n_matched, self.n_truth + other.n_truth, self.n_predicted + other.n_predicted
        )

    @property
    def precision(self) -> float:
        """Share of the predictions that are matched."""
        return self._share(self.n_predicted)

    @property
    def recall(self) -> float:
        """Share of the labelled objects that are matched."""
        return self._share(self.n_truth)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self._share((self.n_truth + self.n_predicted) / 2)

    def _share(self, total: float) -> float:
        if total:
            return self.n_matched / total
        return 1.0 if self.n_truth == self.n_predicted == 0 else 0.0


@dataclass(frozen=True, slots=True)
class PointMatch:
    """Matched pairs of points."""

    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    """Indices of the matched points, shape (n_matched,), sorted by ``truth``."""
    distance: NDArray[np.float64]
    """Distance of each pair, in the points' unit, shape (n_matched,)."""
    score: DetectionScore


def match_points(truth_xy: NDArray[np.float64], predicted_xy: NDArray[np.float64], radius: float) -> PointMatch:
    """Match points one to one within a radius.

    Of all one-to-one matchings in which no pair is farther apart than ``radius``, the result is one with the most
    pairs, and of these the one with the smallest total distance. A method that assigns first and then drops pairs
    beyond the radius would lose matches where points are dense.

    Parameters
    ----------
    truth_xy, predicted_xy
        Points, shape (n, 2), in one unit.
    radius
        Largest distance of a match, in that unit, above 0.

    Returns
    -------
    The matched pairs and their counts.

    Raises
    ------
    ValueError
        When an array has another shape, or the radius is not above 0.
    """
    truth_xy, predicted_xy = _as_points(truth_xy), _as_points(predicted_xy)
    if not radius > 0:
        raise ValueError(f"match radius: {radius}; it must be above 0.")
    near = cKDTree(truth_xy).sparse_distance_matrix(cKDTree(predicted_xy), radius, output_type="ndarray")
    rows, columns, distance = near["i"], near["j"], near["v"]
    # A further pair gains more than all distances together can, so the number of pairs counts before their distances.
    worth = min(len(truth_xy), len(predicted_xy)) + 1
    chosen = assign_pairs(rows, columns, worth + 1 - distance / radius)
    chosen = chosen[np.argsort(rows[chosen], kind="stable")]
    score = DetectionScore(chosen.size, len(truth_xy), len(predicted_xy))
    return PointMatch(rows[chosen], columns[chosen], distance[chosen], score)


def nearest_within(xy: NDArray[np.float64], to_xy: NDArray[np.float64], radius: float) -> NDArray[np.intp]:
    """Find the index of the nearest of ``to_xy`` for each point, -1 where none lies within ``radius``, shape (n,)."""
    xy, to_xy = _as_points(xy), _as_points(to_xy)
    if not len(to_xy):
        return np.full(len(xy), -1, np.intp)
    distance, index = cKDTree(to_xy).query(xy)
    return np.where(distance <= radius, index, -1).astype(np.intp)


def _as_points(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    points = np.asarray(xy, np.float64)
    if points.size == 0:
        return points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points: shape {points.shape}; (n, 2) is needed.")
    return points

"""Means of the index over square fields, so that a crowded field counts no more than a sparse one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsipsm.scoring.spatial import Lattice, check_nuclei, count_cells, ratio_interval

FIELD_UM = 500.0
"""Side of a field, um: it holds some 500 to 1000 nuclei in cellular tumour."""
MIN_FIELD_NUCLEI = 50
"""Fewest nuclei of a field that is averaged; with fewer its own index is too uncertain."""

_UNWEIGHTED = "mean of the indices of square fields"
_WEIGHTED = "mean of the indices of square fields, each weighted by its area inside the region"


@dataclass(frozen=True, slots=True)
class Fields:
    """Square fields that hold nuclei, row by row; arrays of shape (m,)."""

    column: NDArray[np.int64]
    row: NDArray[np.int64]
    """Column and row of each field, counted from the corner of the slide's bounds."""
    n: NDArray[np.int64]
    n_positive: NDArray[np.int64]
    side_um: float

    @property
    def index(self) -> NDArray[np.float64]:
        """Share of positive nuclei of each field, 0..1, shape (m,)."""
        return np.asarray(self.n_positive / self.n, np.float64)

    @property
    def boxes_um(self) -> NDArray[np.float64]:
        """Left, top, right, bottom of each field, shape (m, 4), um from the corner of the slide's bounds."""
        corner = np.stack([self.column, self.row], 1) * self.side_um
        return np.concatenate([corner, corner + self.side_um], 1)


@dataclass(frozen=True, slots=True)
class FieldMean:
    """Mean index over fields."""

    value: float | None
    """Fraction, 0..1; None when no field holds enough nuclei."""
    low: float | None
    high: float | None
    """Both ends of the interval; None where there are too few fields for one."""
    n_fields: int
    """Fields that were averaged."""
    n_nuclei: int
    """Nuclei in them."""
    side_um: float
    method: str
    flags: tuple[str, ...]


def lay_fields(xy_um: NDArray[np.float64], positive: NDArray[np.bool_], *, side_um: float = FIELD_UM) -> Fields:
    """Count nuclei in square fields on a grid that starts at the corner of the slide's bounds.

    The grid does not depend on the region, so that a nucleus is in the same field whatever was drawn around it.

    Parameters
    ----------
    xy_um
        Centroids inside the region, shape (n, 2), um from the corner of the slide's bounds.
    positive
        Whether each nucleus is positive, shape (n,).
    side_um
        Side of a field, um.

    Returns
    -------
    The fields that hold nuclei.

    Raises
    ------
    ValueError
        When shapes differ, a position is not finite, or the side is out of range.
    """
    xy_um, positive = check_nuclei(xy_um, positive)
    if not 0 < side_um < np.inf:
        raise ValueError(f"fields: side {side_um} um; a positive length is needed, such as 500.")
    if not len(xy_um):
        nothing = np.empty(0, np.int64)
        return Fields(nothing, nothing, nothing, nothing, side_um)
    lattice = count_cells(xy_um, positive, side_um)
    if lattice.cell_um != side_um:
        raise ValueError(f"fields: side {side_um} um is too small for the extent; pass {lattice.cell_um:g} um or more.")
    row, column = np.nonzero(lattice.whole)
    n, n_positive = (values[row, column].astype(np.int64) for values in (lattice.whole, lattice.part))
    return Fields(column + lattice.corner[0], row + lattice.corner[1], n, n_positive, side_um)


def unweighted_mean(
    fields: Fields,
    *,
    min_nuclei: int = MIN_FIELD_NUCLEI,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> FieldMean:
    """Average the fields' indices, each counting once.

    After the "unweighted global" score of the International Ki67 in Breast Cancer Working Group, where a person
    chooses 4 fields, counts 100 cells in each and takes the plain mean (Leung et al. 2016, npj Breast Cancer 2:16014;
    counting rules Dowsett et al. 2011, J Natl Cancer Inst 103:1656). Here the fields tile the region instead
    of being chosen, and each counts all of its nuclei, whatever cell they are of.

    Parameters
    ----------
    fields
        Fields as :func:`lay_fields` returns them.
    min_nuclei
        Fields with fewer are left out.
    n_resamples, confidence, seed
        Settings of the interval: see :func:`~wsipsm.scoring.spatial.block_bootstrap_interval`, with fields in place of
        cells.
    """
    kept = fields.n >= max(1, min_nuclei)
    return _average(fields, np.where(kept, 1.0, 0.0), _UNWEIGHTED, (n_resamples, confidence, seed))


def area_weighted_mean(
    fields: Fields,
    area_um2: NDArray[np.float64],
    *,
    min_nuclei: int = MIN_FIELD_NUCLEI,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> FieldMean:
    """Average the fields' indices, each by its area inside the region.

    After the "weighted global" score of the International Ki67 in Breast Cancer Working Group, where each of the 4
    fields is weighted by the share of the tumour that a person takes it to stand for (Leung et al. 2016, npj Breast
    Cancer 2:16014). Here the fields tile the region, so each represents itself, and weights are areas. Whole fields
    have equal weights; only those that the outline cuts weigh less than in the unweighted mean.

    Parameters
    ----------
    fields
        Fields as :func:`lay_fields` returns them.
    area_um2
        Area of each field inside the region, shape (m,), um2, in the order of ``fields.boxes_um``.
    min_nuclei
        Fields with fewer are left out.
    n_resamples, confidence, seed
        Settings of the interval, as in :func:`unweighted_mean`.

    Raises
    ------
    ValueError
        When an area is missing, negative, or larger than a field.
    """
    area_um2 = np.asarray(area_um2, np.float64)
    largest = fields.side_um**2 * (1 + 1e-6)
    if area_um2.shape != fields.n.shape or not ((area_um2 >= 0) & (area_um2 <= largest)).all():
        raise ValueError(
            f"fields: areas of shape {area_um2.shape}; {fields.n.shape} between 0 and {largest:.0f} um2 are needed."
        )
    weight = np.where(fields.n >= max(1, min_nuclei), area_um2, 0.0)
    return _average(fields, weight, _WEIGHTED, (n_resamples, confidence, seed))


def _average(fields: Fields, weight: NDArray[np.float64], method: str, resampling: tuple[int, float, int]) -> FieldMean:
    used = weight > 0
    n_fields, n_nuclei = int(used.sum()), int(fields.n[used].sum())
    if not n_fields:
        return FieldMean(None, None, None, 0, 0, fields.side_um, method, ("no field holds enough nuclei.",))
    value = float(np.average(fields.index[used], weights=weight[used]))
    n_resamples, confidence, seed = resampling
    interval = ratio_interval(_as_lattice(fields, weight), n_resamples=n_resamples, confidence=confidence, seed=seed)
    flags = [] if interval is None else list(interval.flags)
    if interval is None:
        flags.append(f"{n_fields} fields, or fields that are all alike, are too few for an interval.")
    left_out = int(fields.n.sum()) - n_nuclei
    if left_out:
        flags.append(f"{len(used) - n_fields} sparse fields with {left_out} nuclei are left out.")
    return FieldMean(
        value=value,
        low=None if interval is None else min(interval.low, value),
        high=None if interval is None else max(interval.high, value),
        n_fields=n_fields,
        n_nuclei=n_nuclei,
        side_um=fields.side_um,
        method=method,
        flags=tuple(flags),
    )


def _as_lattice(fields: Fields, weight: NDArray[np.float64]) -> Lattice:
    """Put weight and weight x index on the grid; the largest weight becomes 1, so that sums keep their precision."""
    corner = (int(fields.column.min()), int(fields.row.min()))
    column, row = fields.column - corner[0], fields.row - corner[1]
    whole = np.zeros((int(row.max()) + 1, int(column.max()) + 1))
    whole[row, column] = weight / weight.max()
    part = np.zeros_like(whole)
    part[row, column] = whole[row, column] * fields.index
    return Lattice(part, whole, fields.side_um, corner)

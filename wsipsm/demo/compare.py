"""Compares the nuclei that a run found with those that were drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from wsipsm.demo.truth import DrawnTruth
from wsipsm.instances.cells import open_cells
from wsipsm.instances.table import centroids_px0
from wsipsm.keys import Column, NucleusClass
from wsipsm.metrics.assignment import assign_pairs

_COLUMNS = [
    Column.CLASS.value,
    Column.CENTROID_X_PX0.value,
    Column.CENTROID_Y_PX0.value,
    Column.GEOMETRY.value,
]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The agreement of the found with the drawn nuclei."""

    n_drawn: int
    n_found: int
    n_matched: int
    """Number of pairs of a drawn and a found nucleus, matched one to one."""
    n_same_class: int
    """Number of pairs whose classes agree."""
    median_iou: float | None
    """Median overlap of the pairs' outlines, intersection over union; None without pairs."""
    index_drawn: float | None
    index_measured: float | None
    """Labelling indices as fractions; None on H&E and without nuclei."""

    @property
    def recall(self) -> float:
        """Share of the drawn nuclei that were found, 0..1; 1 when none was drawn."""
        return self.n_matched / self.n_drawn if self.n_drawn else 1.0

    @property
    def precision(self) -> float:
        """Share of the found nuclei that were drawn, 0..1; 1 when none was found."""
        return self.n_matched / self.n_found if self.n_found else 1.0

    @property
    def class_agreement(self) -> float | None:
        """Share of the pairs whose classes agree; None without pairs."""
        return self.n_same_class / self.n_matched if self.n_matched else None

    @property
    def index_error(self) -> float | None:
        """Measured minus drawn labelling index, as a fraction; None where one of them is."""
        if self.index_drawn is None or self.index_measured is None:
            return None
        return self.index_measured - self.index_drawn

    def to_dict(self) -> dict[str, float | None]:
        """Return all values as a dictionary that JSON can hold."""
        return {
            **asdict(self),
            "recall": self.recall,
            "precision": self.precision,
            "class_agreement": self.class_agreement,
            "index_error": self.index_error,
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """Return rows of a table as text: name of the measure, value drawn, value found."""
        return [
            ("nuclei", f"{self.n_drawn:,}", f"{self.n_found:,}"),
            ("found of the drawn", "", f"{self.recall:.1%}"),
            ("drawn of the found", "", f"{self.precision:.1%}"),
            ("same class", "", _percent(self.class_agreement)),
            ("median overlap (IoU)", "", "none" if self.median_iou is None else f"{self.median_iou:.2f}"),
            ("labelling index", _percent(self.index_drawn), _percent(self.index_measured)),
        ]


def compare(truth: DrawnTruth, cells: Path | pa.Table) -> Comparison:
    """Match found nuclei to drawn ones, one to one, and count.

    A pair may match when the found centroid lies within the drawn nucleus' radius (that of the circle of its area)
    of the drawn centroid. Of all matchings with the largest possible number of pairs, the closest is taken (Hungarian
    method).

    Parameters
    ----------
    truth
        Nuclei that were drawn.
    cells
        Nuclei that the run found: the table, or the path of ``cells.parquet``.

    Raises
    ------
    UsageError
        When the file is no table of nuclei.
    """
    table = cells if isinstance(cells, pa.Table) else _read_cells(cells)
    polygons = shapely.from_wkb(table.column(Column.GEOMETRY.value).to_numpy(zero_copy_only=False))
    classes = np.asarray(table.column(Column.CLASS.value).to_pylist(), dtype=np.str_)
    drawn, found = _match(truth, centroids_px0(table))
    overlap = shapely.area(shapely.intersection(truth.polygons[drawn], polygons[found]))
    union = shapely.area(truth.polygons[drawn]) + shapely.area(polygons[found]) - overlap
    n_positive = int(np.count_nonzero(classes == NucleusClass.POSITIVE.value))
    n_scored = n_positive + int(np.count_nonzero(classes == NucleusClass.NEGATIVE.value))
    return Comparison(
        n_drawn=len(truth.polygons),
        n_found=table.num_rows,
        n_matched=len(drawn),
        n_same_class=int(np.count_nonzero(truth.classes[drawn] == classes[found])),
        median_iou=float(np.median(overlap / union)) if len(drawn) else None,
        index_drawn=truth.labelling_index,
        index_measured=n_positive / n_scored if n_scored else None,
    )


def _read_cells(path: Path) -> pa.Table:
    with open_cells(path) as cells:
        return cells.table(_COLUMNS)


def _match(truth: DrawnTruth, found_px0: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Match centroids; return the indices of the drawn and of the found nuclei of each pair."""
    none = np.empty(0, dtype=np.intp)
    if not len(truth.polygons) or not len(found_px0):
        return none, none
    centres = truth.centroids_px0
    radius = np.sqrt(shapely.area(truth.polygons) / np.pi)
    near = cKDTree(found_px0).query_ball_point(centres, radius)
    drawn = np.repeat(np.arange(len(near)), [len(found) for found in near])
    found = np.array([index for indices in near for index in indices], dtype=np.intp)
    distance = np.hypot(*(centres[drawn] - found_px0[found]).T) / radius[drawn]
    # Each gain is from 1 to 2, so more pairs always win, and closer ones among as many.
    chosen = assign_pairs(drawn, found, 2.0 - distance)
    return drawn[chosen], found[chosen]


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"

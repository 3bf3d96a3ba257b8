"""Reads the nuclei that a run wrote, so that they can be scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.geometry import Size
from wsipsm.instances.cells import open_cells
from wsipsm.instances.table import centroids_px0
from wsipsm.keys import Artefact, Column, NucleusClass
from wsipsm.metrics.labels import polygon_labels
from wsipsm.results.run_record import RunRecord
from wsipsm.results.summary import RunSummary


@dataclass(frozen=True)
class Cells:
    """Nuclei of one image."""

    polygons: NDArray[np.object_]
    """Outlines in level-0 pixels, corner convention, shape (n,)."""
    xy: NDArray[np.float64]
    """Centroids, pixels, corner convention, shape (n, 2)."""
    kinds: NDArray[np.object_]
    """Values of ``NucleusClass``, shape (n,)."""
    model: str
    """Name and checksum of the weights."""
    n_too_large: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def labels(self, size: Size) -> NDArray[np.int32]:
        """Draw the outlines as a label image of shape (height, width)."""
        return polygon_labels(list(self.polygons), size)

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the centroids of positive and of negative nuclei. Nuclei without a class count as negative."""
        positive = self.kinds == NucleusClass.POSITIVE.value
        return self.xy[positive], self.xy[~positive]


def read_run_nuclei(folder: Path) -> Cells:
    """Read the nuclei that a run wrote into a slide's folder.

    Raises
    ------
    UsageError
        When a file of the run is missing or cannot be read.
    """
    with open_cells(folder / Artefact.CELLS) as cells:
        table = cells.table()
    run = RunRecord.read(folder)
    summary = RunSummary.read(folder)
    return Cells(
        polygons=shapely.from_wkb(table.column(Column.GEOMETRY.value).to_numpy(zero_copy_only=False)),
        xy=centroids_px0(table),
        kinds=table.column(Column.CLASS.value).to_numpy(zero_copy_only=False),
        model=f"{summary.model} (sha256 {run.model.card.sha256[:12]})",
        n_too_large=summary.n_too_large,
        seconds=summary.seconds,
    )

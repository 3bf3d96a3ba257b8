"""Predictors that `accuracy.py` scores: the installed package as a user runs it, and what it wrote."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from wsipsm.config import RunOptions
from wsipsm.engine.events import ignore_events
from wsipsm.geometry import Size
from wsipsm.instances.table import centroids_px0
from wsipsm.keys import Artefact, Column, NucleusClass
from wsipsm.metrics.labels import polygon_labels
from wsipsm.stages.run import run_slide


@dataclass(frozen=True)
class Cells:
    """Nuclei of one image."""

    polygons: NDArray[np.object_]
    xy: NDArray[np.float64]
    kinds: NDArray[np.object_]
    model: str
    """Name and checksum of the weights."""
    n_too_large: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def labels(self, size: Size) -> NDArray[np.int32]:
        """Label image of the outlines."""
        return polygon_labels(list(self.polygons), size)

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centroids of positive and of negative nuclei. Nuclei without a class count as negative."""
        positive = self.kinds == NucleusClass.POSITIVE.value
        return self.xy[positive], self.xy[~positive]


def read_cells(folder: Path) -> Cells:
    """Read the nuclei that a run wrote."""
    table = pq.read_table(folder / Artefact.CELLS)
    run = orjson.loads((folder / Artefact.RUN).read_bytes())
    summary = orjson.loads((folder / Artefact.SUMMARY).read_bytes())
    return Cells(
        polygons=shapely.from_wkb(table.column(Column.GEOMETRY.value).to_numpy(zero_copy_only=False)),
        xy=centroids_px0(table),
        kinds=table.column(Column.CLASS.value).to_numpy(zero_copy_only=False),
        model=f"{summary['model']} (sha256 {run['model']['card']['sha256'][:12]})",
        n_too_large=summary["n_too_large"],
        seconds=summary["seconds"],
    )


def run_image(path: Path, mpp: float, model: str | None = None, seed: int = 0) -> Cells:
    """Do what ``wsipsm run PATH --mpp X --workers 0`` does, in a folder that is removed afterwards.

    Parameters
    ----------
    path
        Image file.
    mpp
        Its pixel size, um/px.
    model
        Name or path of weights; None: the shipped model for the stain that the image shows.
    seed
        For the sample of tissue pixels.
    """
    options = RunOptions(model=model, mpp=mpp, workers=0, seed=seed)
    with tempfile.TemporaryDirectory(prefix="wsipsm-accuracy-") as folder:
        summary = run_slide(path, folder, options, ignore_events)
        return read_cells(Path(summary.folder))

"""The results of a slide, read for work in Python: nuclei as polygons, the summary and the score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import shapely

from wsipsm.errors import UsageError
from wsipsm.instances.cells import open_cells
from wsipsm.instances.table import centroids_px0
from wsipsm.keys import Artefact, Column
from wsipsm.results.run_record import RunRecord
from wsipsm.results.score_record import ScoreRecord
from wsipsm.results.summary import RunSummary

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_UM_NAMES = {Column.CENTROID_X_PX0.value: "centroid_x_um", Column.CENTROID_Y_PX0.value: "centroid_y_um"}


def read_cells(path: str | Path, unit: Literal["px0", "um"] = "px0") -> GeoDataFrame:
    """Read the nuclei of a slide.

    Parameters
    ----------
    path
        The slide's folder of results, or its ``cells.parquet``.
    unit
        Unit of outlines and centroids. ``"px0"``: level-0 pixels from the corner of the canvas, the first pixel spans
        0..1. ``"um"``: microns from the corner of the part of the canvas that holds pixels, as in ``score.json``.

    Returns
    -------
    One row per nucleus, with the columns of `Column` and the outline as a polygon in ``geometry``; with ``"um"`` the
    centroids are called ``centroid_x_um`` and ``centroid_y_um``. There is no coordinate reference system (``crs``),
    since that would be a place on earth.

    Raises
    ------
    UsageError
        When the file is absent or damaged, or, with ``"um"``, the ``run.json`` of the folder, which holds the pixel
        size; the message names the file.

    Examples
    --------
    >>> cells = read_cells("results/case", unit="um")
    >>> bool(np.allclose(cells.area, cells["area_um2"]))
    True
    >>> sorted(cells["class"].unique())
    ['Negative', 'Positive']
    """
    import geopandas  # its import takes half a second, which no command should spend

    if unit not in ("px0", "um"):
        raise UsageError(f"unit {unit!r}: 'px0' or 'um' is needed.")
    file = Path(path)
    if file.name != Artefact.CELLS.value:
        file = file / Artefact.CELLS
    with open_cells(file) as cells:
        table = cells.table()
    outlines = shapely.from_wkb(table.column(Column.GEOMETRY.value).to_numpy(zero_copy_only=False))
    values = table.drop_columns([Column.GEOMETRY.value]).to_pandas()
    if unit == "um":
        run = RunRecord.read(_folder_of_run(file))
        frame, mpp = run.slide_frame(), run.slide.mpp or 1.0
        outlines = frame.shape_to_um(outlines, mpp)
        values[list(_UM_NAMES)] = frame.to_um(centroids_px0(table), mpp)
        values = values.rename(columns=_UM_NAMES)
    return geopandas.GeoDataFrame(values, geometry=np.asarray(outlines, dtype=object), crs=None)


def read_summary(path: str | Path) -> RunSummary:
    """Read the summary of a finished slide: counts, index with interval, checks and flags.

    Parameters
    ----------
    path
        The slide's folder of results, or its ``summary.json``.

    Raises
    ------
    UsageError
        When the file is absent, damaged or of another version; the message names it.

    Examples
    --------
    >>> summary = read_summary("results/case")
    >>> summary.n_nuclei == len(read_cells("results/case")) == summary.labelling_index.n_scored
    True
    """
    return RunSummary.read(Path(path))


def read_score(path: str | Path) -> ScoreRecord:
    """Read the marker's score that a folder shows: index, intervals, fields, hot spot, bands and threshold curve.

    Parameters
    ----------
    path
        The slide's folder of results, one of those in its ``scores``, or a ``score.json``.

    Raises
    ------
    UsageError
        When the file is absent, as on H&E, damaged or of another version; the message names it.

    Examples
    --------
    >>> score = read_score("results/case")
    >>> score.index.low <= score.index.value <= score.index.high
    True
    >>> score.cut.dab_od == score.scoring.dab_cut_od
    True
    """
    return ScoreRecord.read(Path(path))


def _folder_of_run(file: Path) -> Path:
    """Return the folder with the run.json for a file of nuclei, which may lie in it or in one of its ``scores``."""
    folder = file.absolute().parent
    return folder.parent.parent if folder.parent.name == Artefact.SCORES.value else folder

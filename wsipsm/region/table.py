"""The table of annotations: what each was taken for, its area and its nuclei."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import AliasChoices, Field
from shapely.geometry.base import BaseGeometry

from wsipsm.facts import Facts, Number
from wsipsm.region.base import PolygonRegion, Region, Use
from wsipsm.region.pieces import common, share_outside

_NEGLIGIBLE = 0.001
"""Share of an area that roundings and edges of pixels may take."""


class AnnotationFacts(Facts):
    """The use of a drawn annotation."""

    annotation: str
    """Name of the annotation, or how many there are."""
    classification: str = Field(validation_alias=AliasChoices("class", "classification"), serialization_alias="class")
    use: Use
    area_mm2: Number
    n_nuclei: int | None
    """None where a part of it was never searched."""


def annotation_rows(
    region: Region, xy_px0: NDArray[np.float64], mpp: float, searched: Region | None = None
) -> tuple[AnnotationFacts, ...]:
    """Say what each annotation was taken for, those that are counted first.

    Parameters
    ----------
    region
        Region whose annotations are listed.
    xy_px0
        Centroids of the nuclei that were found, level-0 pixels, shape (n, 2).
    mpp
        Pixel size of level 0, um/px.
    searched
        Where nuclei were looked for; None: in the region alone.

    Returns
    -------
    One an annotation; none where nothing was drawn.
    """
    if not isinstance(region, PolygonRegion):
        return ()
    where_looked = (searched or region).to_polygons() if region.parts else shapely.MultiPolygon()
    rows = []
    for part in region.parts:
        is_known = part.use == Use.COUNTED or share_outside(part.shape, where_looked) <= _NEGLIGIBLE
        rows.append(
            AnnotationFacts(
                annotation=part.annotation,
                classification=part.classification,
                use=part.use,
                area_mm2=round(part.area_px0() * mpp**2 * 1e-6, 6),
                n_nuclei=int(np.count_nonzero(_inside(part.shape, xy_px0))) if is_known else None,
            )
        )
    return tuple(rows)


def on_searched(region: Region, searched: Region, where: str) -> Region:
    """Take what was never searched for nuclei off the ground of a drawn region, and note how much that is.

    Parameters
    ----------
    region, searched
        What is scored, and where the run looked for nuclei.
    where
        What lies beyond, for the reader.
    """
    if not isinstance(region, PolygonRegion):
        return region
    looked = searched.to_polygons()
    outside = share_outside(region.shape, looked)
    if outside <= _NEGLIGIBLE:
        return region
    note = f"{outside:.1%} of the region lies {where}; area and density are of the rest."
    ground = common(region.to_ground(), looked)
    return PolygonRegion(region.shape, region.name, (*region.notes, note), region.parts, ground)


def _inside(shape: BaseGeometry, xy_px0: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(shapely.contains_xy(shape, xy_px0[:, 0], xy_px0[:, 1]), dtype=np.bool_)

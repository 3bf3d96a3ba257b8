"""The table of annotations: the use, the area and the number of nuclei of each."""

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
"""Largest share of an area that may be due to rounding and to the edges of pixels."""


class AnnotationFacts(Facts):
    """A row of the table of annotations."""

    annotation: str
    """Name of the annotation, or the number of annotations."""
    classification: str = Field(validation_alias=AliasChoices("class", "classification"), serialization_alias="class")
    use: Use
    area_mm2: Number
    n_nuclei: int | None
    """Number of nuclei in it; None where a part of it was never searched."""


def annotation_rows(
    region: Region, xy_px0: NDArray[np.float64], mpp: float, searched: Region | None = None
) -> tuple[AnnotationFacts, ...]:
    """Make the rows of the table of annotations; those that are counted come first.

    Parameters
    ----------
    region
        Region whose annotations are listed.
    xy_px0
        Centroids of the nuclei that were found, level-0 pixels, shape (n, 2).
    mpp
        Pixel size of level 0, um/px.
    searched
        Region that was searched for nuclei; None: the region itself.

    Returns
    -------
    One row for each part of the region; empty where nothing was drawn.
    """
    if not isinstance(region, PolygonRegion):
        return ()
    outline = (searched or region).to_polygons() if region.parts else shapely.MultiPolygon()
    rows = []
    for part in region.parts:
        is_known = part.use == Use.COUNTED or share_outside(part.shape, outline) <= _NEGLIGIBLE
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
    """Remove the area that was never searched from the ground of a drawn region, and add a note on its share.

    Parameters
    ----------
    region, searched
        Region that is scored, and region that the run searched for nuclei.
    where
        Words of the note that say where the area lies, such as "outside the tissue".
    """
    if not isinstance(region, PolygonRegion):
        return region
    outline = searched.to_polygons()
    outside = share_outside(region.shape, outline)
    if outside <= _NEGLIGIBLE:
        return region
    note = f"{outside:.1%} of the region lies {where}; area and density are of the rest."
    ground = common(region.to_ground(), outline)
    return PolygonRegion(region.shape, region.name, (*region.notes, note), region.parts, ground)


def _inside(shape: BaseGeometry, xy_px0: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(shapely.contains_xy(shape, xy_px0[:, 0], xy_px0[:, 1]), dtype=np.bool_)

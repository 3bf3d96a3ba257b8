"""Every column, class and artefact name, spelled once."""

from __future__ import annotations

from enum import StrEnum


class Stain(StrEnum):
    """The stains of a tissue."""

    HE = "he"
    """Hematoxylin and eosin."""
    IHC = "ihc"
    """Hematoxylin with DAB."""


BACKENDS = ("auto", "openvino", "torch")
"""What may run a network; auto takes OpenVINO where it is installed."""


class QuPathFrame(StrEnum):
    """The part of a slide that QuPath shows, where the scan lies on a larger, empty canvas."""

    CROPPED = "cropped"
    """The bounds that the file states: QuPath's own choice."""
    FULL = "full"
    """The whole canvas: imported with ``--no-crop``, or with the preference switched off."""


class NucleusClass(StrEnum):
    """Class of a nucleus, spelled as QuPath spells it."""

    NUCLEUS = "Nucleus"
    """No marker was scored (H&E)."""
    POSITIVE = "Positive"
    NEGATIVE = "Negative"


class Column(StrEnum):
    """Columns of cells.parquet, in file order."""

    NUCLEUS_ID = "nucleus_id"
    """UUID, the same from run to run for the same outline on the same slide."""
    CLASS = "class"
    PROBABILITY = "probability"
    """Mean of the network's nucleus map over the nucleus, 0..1."""
    POSITIVE_PROBABILITY = "positive_probability"
    """Mean of the network's positive map over the nucleus, 0..1; null without such a map."""
    CENTROID_X_PX0 = "centroid_x_px0"
    CENTROID_Y_PX0 = "centroid_y_px0"
    """Centroid in level-0 pixels, corner convention: the first pixel spans 0..1."""
    AREA_UM2 = "area_um2"
    PERIMETER_UM = "perimeter_um"
    CIRCULARITY = "circularity"
    """4 pi area / perimeter squared, of the smoothed outline; at most 1."""
    SOLIDITY = "solidity"
    """Area over area of the convex hull."""
    HEMATOXYLIN_OD = "hematoxylin_od_mean"
    DAB_OD = "dab_od_mean"
    """Means over the nucleus, optical density; DAB is null on H&E."""
    GEOMETRY = "geometry"
    """Polygon, WKB, level-0 pixels, corner convention."""


class Artefact(StrEnum):
    """Files of one slide's folder."""

    CELLS = "cells.parquet"
    GEOJSON = "cells.geojson.gz"
    SUMMARY = "summary.json"
    RUN = "run.json"
    SLIDE = "slide.json"
    """Which slide the folder is of, from the moment it is made."""
    OVERVIEW = "overview.png"
    SCORE = "score.json"
    SCORE_AREAS = "score.geojson"
    SCORES = "scores"
    """Folder of the run's own scoring, ``run``, and of every later one, by its key."""
    PICTURE = "slide.jpg"
    """The slide small, without nuclei: overviews of later scorings are drawn on it."""
    REGION = "region.geojson"
    TISSUE = "tissue.png"
    """The region of the run: drawn, or found."""
    SHARDS = "shards"

"""Names of all columns, classes and files of results; each is written here only."""

from __future__ import annotations

from enum import StrEnum


class Stain(StrEnum):
    """The pair of stains on a slide."""

    HE = "he"
    """Hematoxylin and eosin."""
    IHC = "ihc"
    """Hematoxylin with DAB."""


BACKENDS = ("auto", "openvino", "torch")
"""Backends that can run a network; ``auto`` uses torch on a GPU, and on a processor OpenVINO where it is installed."""

DEVICE_PATTERN = r"auto|cpu|cuda(:\d{1,3})?"
"""Where a network may run; auto takes the first GPU that torch can use, else the processor."""

PRECISIONS = ("auto", "float32", "float16", "bfloat16")
"""Formats in which a network may multiply; auto takes float16 on a GPU, else float32."""


class QuPathFrame(StrEnum):
    """The part of a slide that QuPath shows, where the scan lies on a larger, empty canvas."""

    CROPPED = "cropped"
    """The bounds that the file states, which is QuPath's default."""
    FULL = "full"
    """The whole canvas: the slide was imported with ``--no-crop``, or QuPath's preference was switched off."""


class NucleusClass(StrEnum):
    """The class of a nucleus, as QuPath writes it."""

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
    """Area over the area of the convex hull, of the smoothed outline; at most 1."""
    HEMATOXYLIN_OD = "hematoxylin_od_mean"
    DAB_OD = "dab_od_mean"
    """Means over the nucleus, optical density; DAB is null on H&E."""
    GEOMETRY = "geometry"
    """Polygon, WKB, level-0 pixels, corner convention."""


class Artefact(StrEnum):
    """The files and folders in the folder of one slide's results."""

    CELLS = "cells.parquet"
    GEOJSON = "cells.geojson.gz"
    SUMMARY = "summary.json"
    RUN = "run.json"
    TRACE = "trace.json"
    """Times at which each step ran, and on which worker; written by a profiled run alone."""
    SLIDE = "slide.json"
    """Identity of the slide to which the folder belongs, written when the folder is made."""
    OVERVIEW = "overview.png"
    SCORE = "score.json"
    SCORE_AREAS = "score.geojson"
    SCORES = "scores"
    """Folder of scorings: ``run`` for that of the run, and the key of each later one."""
    PICTURE = "slide.jpg"
    """A small picture of the slide without nuclei, on which the overviews of later scorings are drawn."""
    REGION = "region.geojson"
    TISSUE = "tissue.png"
    """The region of the run: the drawn one, or the tissue that was found."""
    SHARDS = "shards"

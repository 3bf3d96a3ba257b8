"""Regions in which nuclei count: the protocol, and regions that a person drew in QuPath."""

from wsipsm.region.base import DrawnPart, PolygonRegion, Region, Use
from wsipsm.region.read import read_roi
from wsipsm.region.roles import PLAIN_CLASS, RoiRules
from wsipsm.region.table import AnnotationFacts, annotation_rows, on_searched

__all__ = [
    "PLAIN_CLASS",
    "AnnotationFacts",
    "DrawnPart",
    "PolygonRegion",
    "Region",
    "RoiRules",
    "Use",
    "annotation_rows",
    "on_searched",
    "read_roi",
]

"""Tissue on a slide: the mask that is searched for nuclei, the area, and a sample of pixels."""

from wsipsm.tissue.find import (
    ALL_NUCLEI,
    Mask,
    TissueMask,
    find_slide_tissue,
    find_tissue,
    refuse_fluorescence,
)
from wsipsm.tissue.sample import TissueSample, sample_tissue

__all__ = [
    "ALL_NUCLEI",
    "Mask",
    "TissueMask",
    "TissueSample",
    "find_slide_tissue",
    "find_tissue",
    "refuse_fluorescence",
    "sample_tissue",
]

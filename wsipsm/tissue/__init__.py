"""Tissue on a slide: where to search, how large it is, and a sample of its pixels."""

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

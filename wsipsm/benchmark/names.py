"""Names of sets, protocols and built-in methods, spelled once."""

from __future__ import annotations

from enum import StrEnum


class SetName(StrEnum):
    """Sets that can be scored on."""

    MONUSEG = "monuseg"
    """H&E, nuclei outlined (Kumar et al. 2017, doi:10.1109/TMI.2017.2677499)."""
    BCDATA = "bcdata"
    """Ki-67, points (Huang et al. 2020)."""
    SHIDC = "shidc"
    """Ki-67, points (Negahbani et al. 2021)."""
    DCIS = "dcis"
    """Ki-67, points inside tumour masks, at half scale."""


class ScoringProtocol(StrEnum):
    """The pixels that are scored, and what counts as a true nucleus."""

    WHOLE = "whole"
    """Whole images and the organisers' instances; nothing is chosen on them."""
    PAPER = "paper"
    """The way in which the published PSM code scores MoNuSeg; only to compare with the printed table."""


class BuiltIn(StrEnum):
    """Methods that need no training here."""

    FLOOR = "floor"
    """Stain thresholds and a watershed, no network."""
    CELLPROFILER = "cellprofiler"
    """Re-creation of CellProfiler's IdentifyPrimaryObjects."""
    FIJI = "fiji"
    """Re-creation of a Fiji macro: colour deconvolution, threshold, watershed."""
    WSIPSM = "wsipsm"
    """The installed model, as ``wsipsm run`` uses it."""

"""Names of sets, scoring protocols and built-in methods."""

from __future__ import annotations

from enum import StrEnum


class SetName(StrEnum):
    """Sets that can be scored on."""

    MONUSEG = "monuseg"
    """H&E with outlines of nuclei (Kumar et al. 2017, doi:10.1109/TMI.2017.2677499)."""
    BCDATA = "bcdata"
    """Ki-67 with points (Huang et al. 2020)."""
    SHIDC = "shidc"
    """Ki-67 with points (Negahbani et al. 2021)."""
    DCIS = "dcis"
    """Ki-67 with points inside tumour masks, at half scale."""


class ScoringProtocol(StrEnum):
    """The rule for which pixels are scored, and what counts as a true nucleus."""

    WHOLE = "whole"
    """Whole images and the organisers' instances; no setting is chosen on them."""
    PAPER = "paper"
    """The rule of the published PSM code for MoNuSeg, only for comparison with the printed table."""


class BuiltIn(StrEnum):
    """Methods that need no training here."""

    FLOOR = "floor"
    """Stain thresholds and a watershed, without a network."""
    CELLPROFILER = "cellprofiler"
    """Re-creation of CellProfiler's IdentifyPrimaryObjects."""
    FIJI = "fiji"
    """Re-creation of a Fiji macro: colour deconvolution, threshold, watershed."""
    WSIPSM = "wsipsm"
    """The installed model, as ``wsipsm run`` uses it."""

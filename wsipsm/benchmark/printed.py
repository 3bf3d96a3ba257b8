"""Figures as the paper prints them (Chen et al., MICCAI 2023, arXiv:2308.11144); wsipsm measured none of them.

Only figures with a source are listed. PSM's AJI on MoNuSeg, its precision and MP on BCData are confirmed by a second
listing of the paper's results; the other figures have one source. Figures for which no readable source was found are
left out: PSM's pixel IoU and object Dice, the rows of U-Net, MedT, Qu et al., Tian et al., CellProfiler and Fiji in
Table 1, precision, recall, MP and MN of the supervised rows of Table 2, and all of Table 3 (pretext tasks), of which
only the order is known: similarity and contrastiveness are above ImageNet pre-training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wsipsm.benchmark.names import SetName

_SUPERVISED, _UNSUPERVISED = "supervised", "without labels"


@dataclass(frozen=True)
class PrintedRow:
    """One row of a printed table."""

    table: int
    method: str
    labels: str
    """Kind of training: supervised, or without labels."""
    scores: Mapping[str, float]
    """Scores by the columns of the printed table: fractions, except that MP and MN are errors in nuclei per image."""


PRINTED: Mapping[SetName, tuple[PrintedRow, ...]] = MappingProxyType(
    {
        SetName.MONUSEG: (
            PrintedRow(1, "MoNuSeg 2018 winner", _SUPERVISED, {"AJI": 0.691}),
            PrintedRow(1, "CDNet", _SUPERVISED, {"AJI": 0.633}),
            PrintedRow(1, "CyCADA", _UNSUPERVISED, {"F1": 0.705, "AJI": 0.472}),
            PrintedRow(1, "Hou et al. 2019", _UNSUPERVISED, {"F1": 0.750, "AJI": 0.498}),
            PrintedRow(1, "PSM", _UNSUPERVISED, {"F1": 0.762, "AJI": 0.542}),
        ),
        SetName.BCDATA: (
            PrintedRow(2, "SC-CNN", _SUPERVISED, {"F1": 0.798}),
            PrintedRow(2, "CSRNet", _SUPERVISED, {"F1": 0.829}),
            PrintedRow(2, "U-CSRNet", _SUPERVISED, {"F1": 0.863}),
            PrintedRow(2, "PSM", _UNSUPERVISED, {"P": 0.855, "R": 0.771, "F1": 0.811, "MP": 8.89, "MN": 28.02}),
        ),
    }
)

CAVEATS: Mapping[SetName, str] = MappingProxyType(
    {
        SetName.MONUSEG: "F1 is by pixels (Dice above). On the 14 test images: central 512 px crops, connected "
        "components as true instances, the epoch chosen on these very images, by the published code; rows of "
        "other papers are of other splits. An independent rerun of PSM gave AJI 0.471 (COIN, ICCV 2025).",
        SetName.BCDATA: "On all 402 test images. Neither paper nor published code says at which radius points match "
        "or how the two classes are pooled.",
    }
)

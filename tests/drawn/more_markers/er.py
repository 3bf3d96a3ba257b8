"""Estrogen receptor as tests put it beside the package's markers: percent positive by ASCO and CAP, and an H-score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsipsm.markers.bands import Band, BandSet, ComparedBands, Limit
from wsipsm.markers.figures import FigureKind
from wsipsm.markers.marker import Marker, Place

STEP_OD = 0.15


def h_score(dab_od: NDArray[np.floating], cut_od: float) -> float:
    return 100 * sum(float((dab_od >= cut_od + step * STEP_OD).mean()) for step in range(3))


STATUS = BandSet(
    name="receptor status, 1 and 10%",
    bands=(
        Band("negative", "below 1 %", "below 1%: negative"),
        Band("low positive", "1 to 10 %", "1 to 10%: low positive"),
        Band("positive", "above 10 %", "above 10%: positive"),
    ),
    limits=(Limit(0.01, starts_upper=True), Limit(0.10, starts_upper=False)),
    reference="Allison et al. 2020, J Clin Oncol 38:1346, 10.1200/JCO.19.02309",
)
MARKER = Marker(
    key="er",
    name="ER",
    aliases=frozenset({"sp1", "estrogenreceptor"}),
    place=Place.NUCLEI,
    index_name="percent positive",
    min_nuclei=100,
    min_nuclei_reference="Allison et al. 2020",
    bands=(STATUS,),
    compared_by=(
        ComparedBands(STATUS, "ASCO and CAP", "status", "Bands of ASCO and CAP (Allison et al., J Clin Oncol 2020)."),
    ),
    figures=(FigureKind("h_score", "H-score", h_score, 0, "three strengths, 0.15 OD apart (McCarty et al. 1985)"),),
    index_columns=("er_percent",),
)

"""Ki-67: the share of nuclei in the cell cycle."""

from __future__ import annotations

from wsipsm.markers.bands import Band, BandSet, ComparedBands, Limit
from wsipsm.markers.marker import Marker, Place

_LOW, _HIGH = Limit(0.05, starts_upper=False), Limit(0.30, starts_upper=True)
"""Limits of the International Ki67 in Breast Cancer Working Group: 5 % itself is low and 30 % itself is high."""
_TWENTY = Limit(0.20, starts_upper=True)

PROGNOSTIC = BandSet(
    name="prognostic bands, 5 and 30%",
    bands=(
        Band("low", "5 % or less", "5% or less: low, usable for prognosis in ER+ HER2- T1-2 N0-1 breast cancer"),
        Band(
            "intermediate",
            "between 5 and 30 %",
            "between 5 and 30%: intermediate, Ki-67 alone is not reliable here",
        ),
        Band("high", "30 % or more", "30% or more: high, usable for prognosis in ER+ HER2- T1-2 N0-1 breast cancer"),
    ),
    limits=(_LOW, _HIGH),
    reference="International Ki67 in Breast Cancer Working Group: Nielsen et al. 2021, "
    "J Natl Cancer Inst 113:808, 10.1093/jnci/djaa201",
)
"""The working group takes an index of 5 % or less, or of 30 % or more, as reliable, and one between them not."""
DRUG = BandSet(
    name="drug threshold, 20% (abemaciclib)",
    bands=(
        Band("below", "below 20 %", "below the 20% threshold of the drug's trial"),
        Band("at or above", "20 % or more", "at or above the 20% threshold of the drug's trial"),
    ),
    limits=(_TWENTY,),
    reference="monarchE: Harbeck et al. 2021, Ann Oncol 32:1571, 10.1016/j.annonc.2021.09.015; "
    "in the trial by an approved test, not by this one",
)
"""Limit of abemaciclib's first indication (FDA 2021, dropped in March 2023; other authorities may keep it)."""
ST_GALLEN = BandSet(
    name="St Gallen cut, 20%",
    bands=(
        Band("low", "below 20 %", "below 20%: low by the St Gallen consensus of 2013"),
        Band("high", "20 % or more", "20% or more: high by the St Gallen consensus of 2013"),
    ),
    limits=(_TWENTY,),
    reference="St Gallen consensus of 2013: Goldhirsch et al. 2013, Ann Oncol 24:2206, 10.1093/annonc/mdt303",
)

MARKER = Marker(
    key="ki67",
    name="Ki-67",
    aliases=frozenset({"mib1", "309", "sp6"}),
    place=Place.NUCLEI,
    min_nuclei=500,
    min_nuclei_reference="500 to 1000 are recommended: Dowsett et al. 2011, J Natl Cancer Inst 103:1656, "
    "10.1093/jnci/djr393",
    # Both sets were made for scores of invasive tumour by people, or by the approved test; none for automated scores.
    bands=(PROGNOSTIC, DRUG),
    compared_by=(
        ComparedBands(
            PROGNOSTIC,
            title="International Ki67 Working Group",
            column="band",
            words="Bands of the International Ki67 Working Group: 5 % or less, 30 % or more, and between (Nielsen et "
            "al., JNCI 2021).",
        ),
        ComparedBands(
            ST_GALLEN,
            title="20 % cut",
            column="cut_20",
            words="The cut at 20 % is that of the St Gallen consensus of 2013: 20 % or more is high.",
        ),
    ),
    index_columns=("ki67_index", "ki67", "ki_67_index", "ki_67"),
)

"""Where an index lies among the limits that are in use, and whether its interval decides the question."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

PROGNOSTIC_LOW, PROGNOSTIC_HIGH = 0.05, 0.30
"""Limits of the International Ki67 in Breast Cancer Working Group."""
DRUG_THRESHOLD = 0.20
"""Limit of abemaciclib's first indication (FDA 2021, dropped in March 2023; other authorities may keep it)."""


class Band(StrEnum):
    """What a limit makes of an index."""

    LOW = "low"
    INTERMEDIATE = "intermediate"
    HIGH = "high"
    BELOW = "below"
    AT_OR_ABOVE = "at or above"


@dataclass(frozen=True, slots=True)
class BandCall:
    """An index against one set of limits."""

    name: str
    band: Band
    meaning: str
    """Of the band, in plain words."""
    limits: tuple[float, ...]
    straddled: tuple[float, ...]
    """Limits that the interval reaches across: on this count the band is not certain."""
    reference: str

    @property
    def certain(self) -> bool:
        """Whether the whole interval lies in the band."""
        return not self.straddled

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``summary.json``."""
        return {
            **asdict(self),
            "band": str(self.band),
            "limits": list(self.limits),
            "straddled": list(self.straddled),
            "certain": self.certain,
        }


_MEANING = {
    Band.LOW: "5% or less: low, usable for prognosis in ER+ HER2- T1-2 N0-1 breast cancer",
    Band.INTERMEDIATE: "between 5 and 30%: intermediate, Ki-67 alone is not reliable here",
    Band.HIGH: "30% or more: high, usable for prognosis in ER+ HER2- T1-2 N0-1 breast cancer",
    Band.BELOW: "below the 20% threshold of the drug's trial",
    Band.AT_OR_ABOVE: "at or above the 20% threshold of the drug's trial",
}


def bands_of(value: float, low: float, high: float) -> list[BandCall]:
    """Place an index among the prognostic bands and the drug threshold, which are different questions.

    Both were set on scores of invasive tumour by people, or by the approved test; neither on a score like this one.

    Parameters
    ----------
    value
        Index as a fraction.
    low, high
        Its interval; the block-bootstrap one is the honest choice.

    Returns
    -------
    The prognostic bands, then the drug threshold.

    Raises
    ------
    ValueError
        Unless 0 <= low <= value <= high <= 1.
    """
    if not 0 <= low <= value <= high <= 1:
        raise ValueError(
            f"bands: {value} in {low} to {high}; fractions with 0 <= low <= value <= high <= 1 are needed."
        )
    prognostic = Band.LOW if value <= PROGNOSTIC_LOW else Band.HIGH if value >= PROGNOSTIC_HIGH else Band.INTERMEDIATE
    # 5 % itself is low and 30 % itself is high, so an interval that ends there is not across.
    across = []
    if low <= PROGNOSTIC_LOW < high:
        across.append(PROGNOSTIC_LOW)
    if low < PROGNOSTIC_HIGH <= high:
        across.append(PROGNOSTIC_HIGH)
    drug = Band.AT_OR_ABOVE if value >= DRUG_THRESHOLD else Band.BELOW
    return [
        BandCall(
            name="prognostic bands, 5 and 30%",
            band=prognostic,
            meaning=_MEANING[prognostic],
            limits=(PROGNOSTIC_LOW, PROGNOSTIC_HIGH),
            straddled=tuple(across),
            reference="International Ki67 in Breast Cancer Working Group: Nielsen et al. 2021, "
            "J Natl Cancer Inst 113:808, 10.1093/jnci/djaa201",
        ),
        BandCall(
            name="drug threshold, 20% (abemaciclib)",
            band=drug,
            meaning=_MEANING[drug],
            limits=(DRUG_THRESHOLD,),
            straddled=(DRUG_THRESHOLD,) if low < DRUG_THRESHOLD <= high else (),
            reference="monarchE: Harbeck et al. 2021, Ann Oncol 32:1571, 10.1016/j.annonc.2021.09.015; "
            "in the trial by an approved test, not by this one",
        ),
    ]

"""The checks of a slide's stain that need no nuclei: whether the model suits it, and its hues."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsipsm.keys import Stain
from wsipsm.models.card import ModelCard
from wsipsm.quality.finding import Finding, Verdict
from wsipsm.quality.hue import check_hues
from wsipsm.stain import StainDecision

STAIN_NAMES = {Stain.HE: "H&E", Stain.IHC: "hematoxylin-DAB"}


def check_stain(pixels: NDArray[np.uint8], decision: StainDecision, card: ModelCard) -> tuple[Finding, ...]:
    """Check the stain of a slide on a sample of its pixels.

    Parameters
    ----------
    pixels
        Sample of tissue, with the glass between it, shape (n, 3), uint8.
    decision
        The stain that the slide was found to have, and how certain that is.
    card
        Card of the model that will find the nuclei.

    Returns
    -------
    ``stain_of_model`` where the model is made for another stain, and the findings of
    :func:`~wsipsm.quality.hue.check_hues` where the model scores DAB.
    """
    matches = _check_model(decision, card)
    if card.stain is not Stain.IHC:
        return matches
    return (*matches, *check_hues(pixels))


def _check_model(decision: StainDecision, card: ModelCard) -> tuple[Finding, ...]:
    """Make a finding where the model is made for another stain than the slide's, which only a named model can be."""
    if card.stain == decision.stain:
        return ()
    looks = f"the slide looks like {STAIN_NAMES[decision.stain]}, and the model {card.name} is made for"
    if card.stain is not Stain.IHC:
        text = f"{looks} {STAIN_NAMES[card.stain]}: it makes no index. Leave --model out to score the marker."
        verdict = Verdict.FLAG
    elif decision.is_certain:
        text = (
            f"{looks} {STAIN_NAMES[card.stain]}: an index would count eosin as DAB, so none is given. {decision.reason}"
        )
        verdict = Verdict.WITHHOLD
    else:
        text = f"{looks} {STAIN_NAMES[card.stain]}. {decision.reason}"
        verdict = Verdict.FLAG
    return (Finding(name="stain_of_model", value=None, verdict=verdict, text=text),)

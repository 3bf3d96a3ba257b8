"""A check of the pixel size: whether a picture looks as tissue does at the pixel size that is stated.

Patches are read as if their pixels were half as large as stated, as large, and twice as large. For each, a
:class:`~wsipsm.quality.ruler.Ruler` estimates how far the assumed size lies from the true one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsipsm.quality.finding import Finding, Verdict
from wsipsm.quality.ruler import Ruler
from wsipsm.slide.base import MppStatement, MppVerdict

STEPS = (-1.0, 0.0, 1.0)
"""Octaves (factors of 2) from the stated pixel size, or from the one estimated first, to the assumed ones."""
FAR_STEPS = (-3.0, -2.0, 2.0, 3.0)
"""Further steps, which are tried where no nuclei are seen near the stated size."""
NEAR_OCTAVES = 0.6
"""An estimate up to this far from the stated size is final; for one farther off, more patches are read around it."""
FARTHEST_OCTAVES = 2.0
"""The second measurement is centred at most this far from the stated size: the ruler is fitted up to one octave
more."""
FLAG_OCTAVES = 0.8
"""An estimate at least this far from the stated size is flagged: a factor of 1.74."""
_MIN_NUCLEUS_SCORE = 0.04
"""Mean nucleus score of a patch; one that stays below it at every step shows too few nuclei to be used."""


@dataclass(frozen=True, slots=True)
class PatchSeen:
    """Description of one patch that was read at one assumed pixel size."""

    place: int
    """Number of the point on the slide; the same at every step."""
    step: float
    """Octaves from the stated pixel size to the one at which it was read."""
    described: NDArray[np.float32]
    """Description as :meth:`wsipsm.models.describe.Describer.describe` gives it, shape (3, channels)."""
    nucleus_score: float
    """Mean nucleus score, 0..1."""


def estimate_octaves(seen: Sequence[PatchSeen], ruler: Ruler) -> float | None:
    """Estimate how many octaves the true pixel size lies above the stated one.

    Parameters
    ----------
    seen
        Patches at several steps, as many above as below the most likely pixel size.
    ruler
        Ruler of the network that described them.

    Returns
    -------
    Octaves, the mean over the patches in which nuclei were seen at any step; None where there are none.
    """
    highest: dict[int, float] = {}
    for one in seen:
        highest[one.place] = max(highest.get(one.place, 0.0), one.nucleus_score)
    used = [one for one in seen if highest[one.place] >= _MIN_NUCLEUS_SCORE]
    if not used:
        return None
    octaves = ruler.octaves(np.stack([one.described for one in used]))
    return float(np.mean(octaves + [one.step for one in used]))


def check_pixel_size(octaves: float | None, stated_mpp: float, source: str) -> Finding:
    """Judge the stated pixel size by the picture.

    Parameters
    ----------
    octaves
        Octaves as :func:`estimate_octaves` returns them.
    stated_mpp
        The pixel size that is used, um/px.
    source
        Where it is stated.

    Returns
    -------
    Finding ``pixel_size``; its value is the pixel size that would fit the picture, um/px.
    """
    stated = f"{stated_mpp:.4g} um/px ({source})"
    if octaves is None:
        text = f"too few nuclei were seen in a sample to check the pixel size of {stated} by the picture."
        return _finding(None, stated_mpp, Verdict.UNKNOWN, text)
    fits = stated_mpp * 2**octaves
    if abs(octaves) < FLAG_OCTAVES:
        return _finding(fits, stated_mpp, Verdict.OK, f"the picture fits the pixel size of {stated}.")
    text = (
        f"the picture does not fit the pixel size of {stated}: its nuclei have the size of nuclei at about "
        f"{fits:.2g} um/px. If the pixel size is wrong, so are all counts and areas. Check the scanner's value, and "
        "pass it with --mpp."
    )
    return _finding(fits, stated_mpp, Verdict.FLAG, text)


def unchecked_pixel_size(stated_mpp: float, reason: str) -> Finding:
    """Report that the picture did not serve to check the pixel size, with the reason."""
    return _finding(None, stated_mpp, Verdict.UNKNOWN, f"the pixel size was not checked by the picture: {reason}.")


def check_statements(statements: Iterable[MppStatement], picture: Finding) -> Finding | None:
    """Flag statements of a file that contradict the pixel size in use.

    Parameters
    ----------
    statements
        All statements of the pixel size; the first is the one that is used.
    picture
        Finding of :func:`check_pixel_size`.

    Returns
    -------
    Finding ``pixel_size_statements``; None where nothing contradicts, the picture fits, or the user gave the size.
    """
    statements = list(statements)
    contradicting = [one for one in statements if one.verdict == MppVerdict.CONTRADICTS and one.value is not None]
    if not contradicting or picture.verdict == Verdict.OK or statements[0].text == "given by the user":
        return None
    others = " and ".join(f"{one.value:.4g} um/px by the {one.source}" for one in contradicting)
    used = f"{statements[0].value:.4g} um/px by the {statements[0].source}"
    text = (
        f"the file states its pixel size in two ways: {used}, which is used, and {others}. "
        "Pass the right one with --mpp."
    )
    return Finding(
        name="pixel_size_statements", value=statements[0].value, unit="um/px", verdict=Verdict.FLAG, text=text
    )


def _finding(value: float | None, stated_mpp: float, verdict: Verdict, text: str) -> Finding:
    factor = 2**FLAG_OCTAVES
    return Finding(
        name="pixel_size",
        value=None if value is None else round(value, 4),
        unit="um/px",
        low=round(stated_mpp / factor, 4),
        high=round(stated_mpp * factor, 4),
        verdict=verdict,
        text=text,
    )

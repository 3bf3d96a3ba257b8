"""A check of where the brown (DAB) lies: in nuclei, or around them and in membranes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.markers.marker import Marker
from wsipsm.quality.finding import Finding, Verdict

HOLLOW_MAX, HOLLOW_MAX_OF_ROUND = 0.17, 0.35
"""Largest share of positive nuclei with a pale centre that is usual, for ragged and for round outlines.

Real Ki-67 images have 0.15 and less, mostly 0; membrane markers have 0.23 to 0.48. Chromatin may leave the centre of a
round outline pale, as in the drawn nuclei of the demo (0.29); the outlines of a membrane marker are ragged."""
_ROUND_SOLIDITY = 0.96
"""Median solidity of positive nuclei from which their outlines count as round."""
RINGED_MAX = 0.25
"""Largest share of nuclei with more DAB around than within that is usual; real Ki-67 images have 0.08 and less."""
SOLIDITY_MIN = 0.88
"""Smallest median solidity of positive nuclei that is usual; real Ki-67 images have 0.92 and more, a membrane marker
0.84."""
MIN_POSITIVE = 20
"""Fewest nuclei from which a share or a median is computed."""
RING_UM = (1.0, 3.0)
"""Inner and outer distance of the ring around a nucleus from its outline, um."""
_PALE_CENTRE = 0.95
"""A centre is pale when its blue density lies below this share of that around it."""
_CONFIDENCE = 0.95
_MIN_PIXELS = 5
"""Fewest pixels from which a mean is computed."""
_MEANINGS = MappingProxyType(
    {
        "hollow_share": "positive nuclei have a pale centre: the brown lies in membranes and cytoplasm",
        "ringed_share": "nuclei have more brown around than within: it lies in the cytoplasm",
    }
)
"""What a share above its bound means, by the name of the finding."""
_BOUND = " (at most "
"""Words between what was found and its bound in a text; :func:`say_for` cuts the text here."""


@dataclass(frozen=True, slots=True)
class BrownPlace:
    """The place of the brown of one nucleus."""

    is_positive: bool
    """Whether its mean DAB optical density reaches the cut."""
    is_hollow: bool | None
    """Whether its centre absorbs less blue light than what surrounds it within the outline; None: too few pixels."""
    is_ringed: bool | None
    """Whether more DAB lies around the outline than within, and enough for a positive nucleus; None: too few pixels."""


def place_brown(
    inside: NDArray[np.bool_], blue_od: NDArray[np.float32], dab_od: NDArray[np.float32], mpp: float, cut_od: float
) -> BrownPlace:
    """Compare the centre of a nucleus with its outer part, and its inside with a ring around it.

    The centre is judged by blue light, which DAB absorbs most. The unmixed amount of DAB would mislead: it is low again
    where a nucleus is so dark that all channels are black.

    Parameters
    ----------
    inside
        Pixels of the nucleus, shape (h, w), with a margin of 3 um around.
    blue_od, dab_od
        Optical density of the blue channel, and of DAB, shape (h, w).
    mpp
        Pixel size, um/px.
    cut_od
        DAB optical density from which a nucleus is positive.

    Returns
    -------
    Where the brown of this nucleus lies.
    """
    depth = cv2.distanceTransform(np.pad(inside, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    relative = depth / max(float(depth.max()), 1e-6)
    centre = _mean(blue_od, relative > 0.6)
    middle = _mean(blue_od, (relative > 0.3) & (relative <= 0.6))
    within = _mean(dab_od, inside)
    distance_um = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5) * mpp
    around = _mean(dab_od, (distance_um > RING_UM[0]) & (distance_um <= RING_UM[1]))
    hollow = None if centre is None or middle is None else centre < _PALE_CENTRE * middle
    ringed = None if within is None or around is None else around > max(within, cut_od)
    return BrownPlace(within is not None and within >= cut_od, hollow, ringed)


def check_brown(places: Sequence[BrownPlace], solidity: NDArray[np.floating], marker: Marker) -> tuple[Finding, ...]:
    """Check that brown fills nuclei, does not surround them, and has their shape.

    Parameters
    ----------
    places
        Where the brown of each nucleus of a sample lies.
    solidity
        Solidity of all positive nuclei, shape (n,).
    marker
        Marker that is scored; it states where its brown belongs.

    Returns
    -------
    Findings ``hollow_share``, ``ringed_share`` and ``positive_solidity``.
    """
    hollow = [place.is_hollow for place in places if place.is_positive and place.is_hollow is not None]
    ringed = [place.is_ringed for place in places if place.is_ringed is not None]
    is_round = len(solidity) > 0 and float(np.median(solidity)) >= _ROUND_SOLIDITY
    hollow_max = HOLLOW_MAX_OF_ROUND if is_round else HOLLOW_MAX
    return (
        _check_share("hollow_share", hollow, hollow_max, marker),
        _check_share("ringed_share", ringed, RINGED_MAX, marker),
        check_solidity(solidity, marker),
    )


def _check_share(name: str, marked: Sequence[bool], high: float, marker: Marker) -> Finding:
    if len(marked) < MIN_POSITIVE:
        text = f"only {len(marked)} nuclei could be measured: too few to say where the brown lies."
        return Finding(name=name, value=None, verdict=Verdict.UNKNOWN, text=text)
    share = sum(marked) / len(marked)
    # The share of a small sample is uncertain, and no slide may lose its index by chance. So it is the lower end of the
    # share's interval that must exceed the bound.
    if _at_least(sum(marked), len(marked)) <= high:
        text = "the brown lies in nuclei."
        return Finding(name=name, value=round(share, 4), high=high, verdict=Verdict.OK, text=text)
    text = _withheld(f"{share:.0%} of {len(marked)} {_MEANINGS[name]}", high, marker)
    return Finding(name=name, value=round(share, 4), high=high, verdict=Verdict.WITHHOLD, text=text)


def check_solidity(solidity: NDArray[np.floating], marker: Marker) -> Finding:
    """Check that what is positive has the shape of nuclei.

    Parameters
    ----------
    solidity
        Solidity of all positive nuclei, shape (n,).
    marker
        Marker that is scored; it states where its brown belongs.

    Returns
    -------
    Finding ``positive_solidity``.
    """
    name = "positive_solidity"
    if len(solidity) < MIN_POSITIVE:
        text = f"only {len(solidity)} nuclei are positive: too few to judge their shape."
        return Finding(name=name, value=None, verdict=Verdict.UNKNOWN, text=text)
    value = round(float(np.median(solidity)), 4)
    if value >= SOLIDITY_MIN:
        text = "positive nuclei are shaped like nuclei."
        return Finding(name=name, value=value, low=SOLIDITY_MIN, verdict=Verdict.OK, text=text)
    text = (
        f"what is called positive is not shaped like nuclei (solidity {value:.2f}, usually {SOLIDITY_MIN:g} and more): "
        f"the brown lies in membranes and cytoplasm; {_what_to_do(marker)}"
    )
    return Finding(name=name, value=value, low=SOLIDITY_MIN, verdict=Verdict.WITHHOLD, text=text)


def say_for(finding: Finding, marker: Marker) -> Finding:
    """Write the text of a finding on where the brown lies for another marker; other findings stay as they are.

    The first part of the text is kept, since the number of nuclei is stored nowhere else. The advice after it depends
    on the marker, so it is written again.
    """
    if finding.name not in _MEANINGS or finding.verdict != Verdict.WITHHOLD or finding.high is None:
        return finding
    found = finding.text.partition(_BOUND)[0]
    return finding.model_copy(update={"text": _withheld(found, finding.high, marker)})


def _withheld(found: str, high: float, marker: Marker) -> str:
    return f"{found}{_BOUND}{high:.0%} is usual): {_what_to_do(marker)}"


def _what_to_do(marker: Marker) -> str:
    return (
        f"no index is given, since {marker.belief}. If the marker is a nuclear one, look at the overview: outlines may "
        "hold more than the nucleus."
    )


def _at_least(n_marked: int, n: int) -> float:
    """Compute the lower end of the one-sided Wilson interval of a share, 0..1."""
    z2 = NormalDist().inv_cdf(_CONFIDENCE) ** 2
    share = n_marked / n
    half = float(np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))))
    return (share + z2 / (2 * n) - half) / (1 + z2 / n)


def _mean(values: NDArray[np.float32], where: NDArray[np.bool_]) -> float | None:
    return float(values[where].mean()) if np.count_nonzero(where) >= _MIN_PIXELS else None

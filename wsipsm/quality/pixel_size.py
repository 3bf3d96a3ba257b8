"""Pixel size: whether nuclei have the size and look of nuclei at the one that is stated.

The shipped network is the ruler. It searches the same patches as if their pixels were 1/8 to 8 times as
large as stated; how many whole, compact nuclei it finds at each, how large and how sure, says which of them is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from wsipsm.keys import Stain
from wsipsm.quality.finding import Finding, Verdict
from wsipsm.slide.base import MppStatement, MppVerdict

STEPS = (-3, -2, -1, 0, 1, 2, 3)
"""Octaves by which the stated pixel size is multiplied."""
NEAR_STEPS = (-1, 0, 1)
"""Enough where the picture fits what is stated."""
NEAR_OCTAVES = 0.7
"""An estimate this near is believed at once; one farther off is made again on more patches and all steps."""
FLAG_OCTAVES = 0.9
"""Estimates as far from the stated size are flagged: a factor of 1.9."""
_MIN_NUCLEI = 12
"""In three neighbouring steps; fewer say nothing."""
_MIN_NUCLEI_IN_MIDDLE = 5
_MIN_NUCLEI_AT_ESTIMATE = 10
_MIN_SOLIDITY = 0.9
_SPREAD_OCTAVES = 0.5
"""An estimate counts the less, the farther it lies from the step it is made at."""


@dataclass(frozen=True, slots=True)
class NucleiSeen:
    """Whole, compact nuclei found at one assumed pixel size."""

    area_um2: NDArray[np.float64]
    """Shape (n,), under that assumption."""
    probability: NDArray[np.float64]
    """Mean nucleus score of each, 0..1."""
    distance: NDArray[np.float64]
    """Highest distance score of each, 0..1."""
    searched_um2: float
    """Area of the patches, under that assumption."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """A linear estimate of octaves between the true and an assumed pixel size, fitted for one set of weights.

    ``benchmarks/pixel_size_fit.py`` makes it, on images whose pixel size is known and on the same images told wrong.
    The rulers below are by its first form, which saw two patches an image.
    """

    sha256: str
    """Of the weights."""
    weights: tuple[tuple[float, ...], ...]
    """Of the features of three neighbouring steps, a row each, the finest assumption first."""
    intercept: float


RULERS = {
    Stain.HE: Ruler(
        sha256="30d4a60bb74c722fe8ecef5ec9d5d3a4deb863e6c79ebaa7b8ef6a1c5846b951",
        weights=(
            (-0.0657, -0.1030, 0.1117, 0.9746, -1.3826, -3.1664),
            (-0.0877, -0.1518, 0.0277, -1.7624, 4.1676, -5.3262),
            (-0.0599, -0.0494, 0.2243, -1.7614, 3.8766, 0.7628),
        ),
        intercept=1.1765,
    ),
    Stain.IHC: Ruler(
        sha256="2f34224661855f1147064a7ca1a2b5e02e51e673828296c5f65a035f4aa3b5d7",
        weights=(
            (-0.0613, -0.1233, -0.0125, -0.6090, 1.5092, -0.8335),
            (-0.1476, -0.1132, -0.0200, -0.5331, 10.9553, 0.0932),
            (0.0125, -0.0921, 0.1431, 0.2678, 4.6701, 0.0856),
        ),
        intercept=-13.1114,
    ),
}


def see_nuclei(
    labels: NDArray[np.int32], nucleus: NDArray[np.float32], distance: NDArray[np.float32], mpp: float
) -> NucleiSeen:
    """Measure the whole, compact nuclei of one patch.

    Parameters
    ----------
    labels
        Label image, shape (h, w), 0 = background.
    nucleus, distance
        Scores 0..1 of the same shape.
    mpp
        Assumed pixel size, um/px.
    """
    height, width = labels.shape
    found = []
    for region in regionprops(labels):  # type: ignore[no-untyped-call]
        top, left, bottom, right = region.bbox
        if top == 0 or left == 0 or bottom == height or right == width or region.solidity <= _MIN_SOLIDITY:
            continue
        inside = region.image
        found.append((region.area * mpp**2, nucleus[region.slice][inside].mean(), distance[region.slice][inside].max()))
    area, probability, highest = np.asarray(found, dtype=np.float64).reshape(-1, 3).T
    return NucleiSeen(area, probability, highest, height * width * mpp**2)


def pool(seen: Sequence[NucleiSeen]) -> NucleiSeen:
    """Put the nuclei of several patches together; of none, there are none."""
    none = np.empty(0)
    return NucleiSeen(
        np.concatenate([none, *(one.area_um2 for one in seen)]),
        np.concatenate([none, *(one.probability for one in seen)]),
        np.concatenate([none, *(one.distance for one in seen)]),
        sum(one.searched_um2 for one in seen),
    )


def features(seen: NucleiSeen) -> list[float]:
    """Describe what was found at one step: median area, area-weighted median, density, share covered, certainty."""
    n = len(seen.area_um2)
    searched = max(seen.searched_um2, 1.0)
    density = math.log2(n / searched * 1e4 + 2)
    if n == 0:
        return [2.0, 2.0, density, 0.0, 0.8, 0.6]
    areas = np.sort(seen.area_um2)
    shares = np.cumsum(areas) / areas.sum()
    weighted = float(areas[np.searchsorted(shares, 0.5)])
    return [
        math.log2(float(np.median(areas)) + 4),
        math.log2(weighted + 4),
        density,
        float(areas.sum() / searched),
        float(seen.probability.mean()),
        float(seen.distance.mean()),
    ]


def estimate_octaves(steps: Mapping[int, NucleiSeen], ruler: Ruler) -> float | None:
    """Estimate how many octaves the true pixel size lies above the stated one.

    Parameters
    ----------
    steps
        What was found at each step of octaves: ``NEAR_STEPS`` or ``STEPS``.
    ruler
        For the network that found it.

    Returns
    -------
    Octaves; None where too few nuclei were found.
    """
    by_centre: dict[int, float] = {}
    for centre in sorted(steps):
        window = [steps.get(centre + offset) for offset in (-1, 0, 1)]
        known = [seen for seen in window if seen is not None]
        counts = [len(seen.area_um2) for seen in known]
        if len(known) < len(window) or sum(counts) < _MIN_NUCLEI or counts[1] < _MIN_NUCLEI_IN_MIDDLE:
            continue
        by_centre[centre] = float(np.sum(np.multiply([features(seen) for seen in known], ruler.weights)))
        by_centre[centre] += ruler.intercept
    if not by_centre:
        return None
    estimate = by_centre.get(0, math.inf)
    if abs(estimate) > NEAR_OCTAVES:
        nearness = {step: math.exp(-((off / _SPREAD_OCTAVES) ** 2) / 2) + 1e-6 for step, off in by_centre.items()}
        estimate = sum(nearness[step] * (step + off) for step, off in by_centre.items()) / sum(nearness.values())
    nearest = min(steps, key=lambda step: abs(step - estimate))
    return estimate if len(steps[nearest].area_um2) >= _MIN_NUCLEI_AT_ESTIMATE else None


def check_pixel_size(octaves: float | None, stated_mpp: float, source: str) -> Finding:
    """Judge the stated pixel size by the picture.

    Parameters
    ----------
    octaves
        As :func:`estimate_octaves` gives them.
    stated_mpp
        The pixel size that is used, um/px.
    source
        Where it is stated.
    """
    stated = f"{stated_mpp:.4g} um/px ({source})"
    if octaves is None:
        text = f"too few nuclei were found in a sample to check the pixel size of {stated} by the picture."
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
    """Say why the picture was not asked."""
    return _finding(None, stated_mpp, Verdict.UNKNOWN, f"the pixel size was not checked by the picture: {reason}.")


def check_statements(statements: Iterable[MppStatement], picture: Finding) -> Finding | None:
    """Judge statements that contradict the one that is used; a picture that fits it decides, and so does the user."""
    statements = list(statements)
    contradicting = [one for one in statements if one.verdict == MppVerdict.CONTRADICTS and one.value is not None]
    if not contradicting or picture.verdict == Verdict.OK or statements[0].text == "given by the user":
        return None
    told = " and ".join(f"{one.value:.4g} um/px by the {one.source}" for one in contradicting)
    used = f"{statements[0].value:.4g} um/px by the {statements[0].source}"
    text = (
        f"the file states its pixel size in two ways: {used}, which is used, and {told}. Pass the right one with --mpp."
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

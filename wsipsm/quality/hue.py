"""A check, before nuclei are searched, that the colours of a slide are those of hematoxylin and DAB.

Every figure is a ratio of optical densities over glass, so that neither the strength of a stain nor the tint of the
glass changes it much. "Real" below means Ki-67 images of real slides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsipsm.quality.finding import Finding, Verdict
from wsipsm.stain import OD_CAP, estimate_background, optical_density, reference_amounts

_STAINED_OD_SUM = 0.3
"""Sum of a pixel's three optical densities from which it is stained."""
_PALE_OD_SUM = 0.12
"""The same for a picture that has hardly any stronger pixels; only its colour is checked then."""
_BLACK_OD = OD_CAP - 0.2
"""Optical density from which a pixel is left out: the camera cuts off such dark values, and they lose their hue."""
_MIN_PIXELS = 300
_BLUE_WARMTH = -0.03
"""Warmth (see ``_warmth``) below which a pixel is blue."""
_MIN_CHROMOGEN_PIXELS = 60
_CHROMOGEN_STEPS = ((0.3, 0.003), (0.2, 0.02))
"""Pairs: the DAB density by Ruifrok's vectors above which a pixel is taken for the chromogen, and the smallest share of
such pixels. The strong pixels are tried first, since hematoxylin on stroma is among the pale ones."""
_PUREST_SHARE = 0.05
"""Share of the chromogen's pixels, the warmest ones, that its hue is measured on."""

COLOUR_MIN = 0.075
"""Smallest chroma, 95th percentile, of a picture in colour. Real: 0.089 and more, least in glioma; grey pictures with
camera noise of 3 levels have 0.071 and less."""
BLUE_MIN, BLUE_NONE = 0.01, 0.002
"""Smallest usual share of blue pixels, and the share below which no index is given. Real: 0.043 and more, least where
nearly every nucleus is brown."""
COUNTERSTAIN_GREEN = (0.24, 1.8)
"""Usual range of green over red density of the counterstain. Real: 0.43 to 1.34; methyl green has 0.15."""
GREEN_SHARE_MAX = 0.05
"""Largest usual share of green pixels. Real: 0.004 and less, 0.03 where DAB is weakened to 0.3 of its strength; drawn
green chromogens mostly have 0.06 and more."""
_GREENER = 0.04
"""Blue less green density, over the sum, above which a pixel is green."""
GREEN_EXCESS_MAX = 1.28
"""Largest green density over the mean of red and blue that DAB has. Real: 1.09 and less; AEC has 1.41 and more, purple
1.8, fast red 2.1."""
NEUTRAL_MAX, NEUTRAL_CERTAIN = 0.52, 0.6
"""Red over blue density of a strong chromogen above which it is flagged, and above which no index is given. Real: 0.34
and less; drawn melanin has 0.53 to 0.76, silver 1."""
PALE_NEUTRAL_MAX = 1.0
"""The same bound for a pale chromogen. It is higher because the hematoxylin in the same nucleus outweighs faint DAB:
the ratio reaches 0.89 where DAB is weakened to 0.4 of its strength."""
_STRONG_OD_SUM = 1.6
"""Median density sum of the purest pixels from which a chromogen is strong. Drawn pigment has 2.07 and more; real DAB
that is weakened to 0.6 of its strength has 1.4 and less."""


def check_hues(pixels: NDArray[np.uint8]) -> tuple[Finding, ...]:
    """Check that a sample has colour, a blue counterstain, and a brown like that of DAB.

    Parameters
    ----------
    pixels
        Sample of tissue, with the glass between it, shape (n, 3), uint8.

    Returns
    -------
    Findings ``colour``, ``hematoxylin_share``, ``counterstain_hue``, ``green_share``, ``chromogen_red`` and
    ``chromogen_dark``. Where no glass is seen its tint is unknown, and of these only ``colour`` withholds an index.
    """
    background, seen = estimate_background(pixels)
    od = optical_density(pixels, background)
    not_black = od[od.max(axis=1) < _BLACK_OD]
    stained, pale = (not_black[not_black.sum(axis=1) > least] for least in (_STAINED_OD_SUM, _PALE_OD_SUM))
    if len(pale) < _MIN_PIXELS:
        return (_unknown("colour", f"only {len(pale)} stained pixels in the sample: too few to judge their hue."),)
    colour = _check_colour(stained if len(stained) >= _MIN_PIXELS else pale)
    if colour.verdict is not Verdict.OK or len(stained) < _MIN_PIXELS:
        return (colour,)
    rest = (*_check_counterstain(stained), _check_green(stained, seen), *_check_chromogen(stained))
    return (colour, *(rest if seen else map(_without_glass, rest)))


def _without_glass(finding: Finding) -> Finding:
    if finding.verdict is not Verdict.WITHHOLD:
        return finding
    text = f"{finding.text} No glass was seen, so its tint may be the cause."
    return finding.model_copy(update={"verdict": Verdict.FLAG, "text": text})


def _check_colour(stained: NDArray[np.float32]) -> Finding:
    chroma = (stained.max(axis=1) - stained.min(axis=1)) / stained.sum(axis=1)
    value = float(np.percentile(chroma, 95))
    text = (
        f"the picture is grey (colour {value:.2f}, at least {COLOUR_MIN:g} is needed): brown and blue cannot be told "
        "apart, so no index is given. Scan the slide in colour."
    )
    if value >= COLOUR_MIN:
        return _finding("colour", value, Verdict.OK, "the picture has colours.", low=COLOUR_MIN)
    return _finding("colour", value, Verdict.WITHHOLD, text, low=COLOUR_MIN)


def _check_counterstain(stained: NDArray[np.float32]) -> tuple[Finding, ...]:
    blue = stained[_warmth(stained) < _BLUE_WARMTH]
    share = len(blue) / len(stained)
    name = "hematoxylin_share"
    if share >= BLUE_MIN:
        found = _finding(name, share, Verdict.OK, "the slide has a blue counterstain.", low=BLUE_MIN)
        return found, _check_counterstain_hue(blue)
    text = (
        f"{share:.1%} of the stained pixels are blue: either there is no hematoxylin, or every nucleus is brown. A "
        "negative nucleus would not be seen, so a share of positive ones means little. Look at the slide."
    )
    return (_finding(name, share, Verdict.WITHHOLD if share < BLUE_NONE else Verdict.FLAG, text, low=BLUE_MIN),)


def _check_counterstain_hue(blue: NDArray[np.float32]) -> Finding:
    name, (low, high) = "counterstain_hue", COUNTERSTAIN_GREEN
    if len(blue) < _MIN_PIXELS:
        return _unknown(name, f"only {len(blue)} pixels of counterstain in the sample: too few to judge their hue.")
    red, green, _ = np.median(blue, axis=0)
    value = float(green / red)
    if low <= value <= high:
        return _finding(name, value, Verdict.OK, "the counterstain has the hue of hematoxylin.", low=low, high=high)
    text = (
        f"the counterstain is not the blue of hematoxylin (green over red {value:.2f}, usual {low:g} to {high:g}; "
        "methyl green 0.15): negative nuclei may be missed. Stain with hematoxylin."
    )
    return _finding(name, value, Verdict.FLAG, text, low=low, high=high)


def _check_green(stained: NDArray[np.float32], glass_seen: bool) -> Finding:
    """Find pixels that let green light pass, as no usual stain does.

    Hematoxylin absorbs green more than blue, DAB more than red, and eosin most of all.
    """
    name = "green_share"
    if not glass_seen:
        return _unknown(name, "no glass was seen: what is green may be its tint.")
    greener = stained[:, 2] - stained[:, 1] > _GREENER * stained.sum(axis=1)
    share = float(np.mean(greener & (_warmth(stained) < _BLUE_WARMTH)))
    if share <= GREEN_SHARE_MAX:
        return _finding(name, share, Verdict.OK, "nothing of the stain is green.", high=GREEN_SHARE_MAX)
    text = (
        f"{share:.0%} of the stained pixels are green, as neither hematoxylin nor DAB is: with a green chromogen "
        "positive nuclei are called negative, with a green counterstain negative ones may be missed. Stain with DAB "
        "and hematoxylin."
    )
    return _finding(name, share, Verdict.FLAG, text, high=GREEN_SHARE_MAX)


def _check_chromogen(stained: NDArray[np.float32]) -> tuple[Finding, Finding]:
    """Judge what would be counted as DAB by its purest pixels, those with the least hematoxylin in them."""
    amounts = reference_amounts(stained)[:, 1]
    for least_od, least_share in _CHROMOGEN_STEPS:
        taken = stained[amounts > least_od]
        if len(taken) >= max(_MIN_CHROMOGEN_PIXELS, least_share * len(stained)):
            warmth = _warmth(taken)
            purest = taken[warmth >= np.quantile(warmth, 1 - _PUREST_SHARE)]
            red, green, blue = np.median(purest / purest.sum(axis=1, keepdims=True), axis=0)
            is_strong = float(np.median(purest.sum(axis=1))) >= _STRONG_OD_SUM
            return _check_red(float(2 * green / (red + blue))), _check_dark(float(red / blue), is_strong)
    text = f"only {len(taken)} pixels of the sample are as strong as DAB: too few to judge their hue."
    return _unknown("chromogen_red", text), _unknown("chromogen_dark", text)


def _check_red(value: float) -> Finding:
    name = "chromogen_red"
    if value <= GREEN_EXCESS_MAX:
        return _finding(name, value, Verdict.OK, "the chromogen is no redder than DAB.", high=GREEN_EXCESS_MAX)
    text = (
        f"the chromogen is red or purple, not the brown of DAB (green over the mean of red and blue {value:.2f}, "
        f"DAB at most {GREEN_EXCESS_MAX:g}; AEC 1.4, purple 1.9, fast red 2.5): no index is given. Stain with DAB."
    )
    return _finding(name, value, Verdict.WITHHOLD, text, high=GREEN_EXCESS_MAX)


def _check_dark(value: float, is_strong: bool) -> Finding:
    name, high = "chromogen_dark", NEUTRAL_MAX if is_strong else PALE_NEUTRAL_MAX
    if value <= high:
        return _finding(name, value, Verdict.OK, "the chromogen is no blacker than DAB.", high=high)
    text = (
        f"what is dark here is blackish, not the brown of DAB (red over blue {value:.2f}, DAB at most {high:g}; "
        "melanin and formalin pigment about 0.7, silver 1): pigment may be counted as positive. Look at the slide; "
        "bleach pigment, or use another chromogen."
    )
    verdict = Verdict.WITHHOLD if is_strong and value > NEUTRAL_CERTAIN else Verdict.FLAG
    return _finding(name, value, verdict, text, high=high)


def _warmth(od: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute blue minus red density, over the sum: below 0 for hematoxylin, above 0 for brown; shape (n,)."""
    warmth: NDArray[np.float32] = (od[:, 2] - od[:, 0]) / od.sum(axis=1)
    return warmth


def _finding(
    name: str, value: float, verdict: Verdict, text: str, low: float | None = None, high: float | None = None
) -> Finding:
    return Finding(name=name, value=round(value, 4), low=low, high=high, verdict=verdict, text=text)


def _unknown(name: str, text: str) -> Finding:
    return Finding(name=name, value=None, verdict=Verdict.UNKNOWN, text=text)

"""Stains: detection of the pair of stains, fit of their vectors, and the amount of each in a pixel.

Light that passes a stain falls off exponentially (Beer-Lambert), so optical densities, not grey levels, add up over
stains. Everything here is fitted once for a slide and then applied pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.keys import Stain

Vector = tuple[float, float, float]
"""Values for red, green and blue."""

FITTED = "fitted on the slide"
OD_CAP = 1.6
"""Highest optical density of a channel: below grey level 5 of 255, noise and JPEG decide the value, not the stain."""
FALLBACK_BACKGROUND: Vector = (245.0, 245.0, 245.0)
"""Grey levels of glass on a usual brightfield scan, used where a sample shows no glass."""
DEFAULT_DAB_CUT_OD = 0.2
"""QuPath's default for a single threshold on the mean DAB OD of a nucleus."""
DAB_CUT_BOUNDS_OD = (0.1, 0.45)
"""Lowest and highest cut: a lower one would count haze, a higher one only the most strongly stained nuclei."""

_MIN_GLASS_LEVEL = 200
"""Lowest grey level of glass in its brightest channel; a darker even area may be pale tissue, such as the neuropil of
the brain."""
_MIN_GLASS_SHARE = 0.15
"""Smallest share of pixels that are glass, where glass is tinted or dim."""
_MAX_GLASS_SPREAD = (3.5, 5.0)
"""Largest standard deviations of red minus green, and of green minus blue, over pixels of glass, grey levels.

They were 2.7 and 4.9 or less on 53 Ki-67 images with glass, except coarse ones. On the palest tissue of H&E without
glass they were 10 and 7, or the share of such pixels was 0.03.
"""

REFERENCE_HEMATOXYLIN: Vector = (0.650, 0.704, 0.286)
REFERENCE_DAB: Vector = (0.268, 0.570, 0.776)
"""Vectors of Ruifrok and Johnston 2001, of unit length."""
REFERENCE_EOSIN: Vector = (0.216, 0.801, 0.558)
"""QuPath's default, which is nearer to the eosin of scanned slides than that of the 2001 paper (0.07, 0.99, 0.11)."""

_NO_GLASS = "background:"
"""Start of the notes that say that no glass was found."""
_STAINED_OD_SUM = 0.2
"""Sum of OD over the channels above which the hue of a pixel is used."""
_MIN_STAINED_PIXELS = 300
_PINK_MINUS_BROWN_CUT = 0.15
"""Share of pink minus share of brown pixels above which a slide is H&E.

It was 0.31 or more on 33 H&E images and slides, and 0.05 or less on 47 with hematoxylin-DAB. With half or 1.5 times the
stain, gamma 0.8 and 1.25, or a white balance that is 6 % off, it was 0.21 or more and 0.13 or less.
"""
_MIN_BROWN_SHARE = 0.015
_FIT_OD_SUM = 0.45
"""Sum of OD above which pixels are used to fit vectors (0.15 a channel, Macenko 2009); paler ones have noisy hues."""
_MAX_FROM_REFERENCE_DEG = 30.0
_MIN_BETWEEN_STAINS_DEG = 12.0
_MAX_FITTED_PIXELS = 200_000
_MIN_NUCLEAR_OD = 0.15
_UNSTAINED_OD = 0.07
"""DAB OD that unmixing finds in unstained pixels; it is added to OD before ratios are computed."""
_MIN_BROWN_TO_CUT = 1.6
"""Smallest ratio of the median of the brown pixels to the cut. It was 1.63 or more on slides with positive nuclei, and
1.4 where the cut went through haze."""


@dataclass(frozen=True, slots=True)
class StainProfile:
    """The absorption of the stains of one slide, which is the same for all its pixels."""

    stain: Stain
    background: Vector
    """Grey levels of empty glass, 0..255."""
    hematoxylin: Vector
    """Stain vector of hematoxylin: its OD in red, green and blue, scaled to unit length."""
    counterstain: Vector
    """Stain vector of eosin (H&E) or DAB (IHC), of unit length."""
    dab_cut_od: float | None
    """Mean DAB OD from which a nucleus counts as positive; None on H&E."""
    n_pixels: int
    """Number of pixels in the sample, of which at most 200,000 are fitted."""
    seed: int
    notes: tuple[str, ...]
    """One note for each value that was replaced by a fixed one, with the reason."""
    cut_from: str = FITTED
    """Origin of the DAB cut, in words."""

    @property
    def glass_notes(self) -> tuple[str, ...]:
        """Notes that say that no glass was found; empty where it was."""
        return tuple(note for note in self.notes if note.startswith(_NO_GLASS))


@dataclass(frozen=True, slots=True)
class StainDecision:
    """The stain that was detected on a slide, and the numbers that support it."""

    stain: Stain
    reason: str
    is_certain: bool = True
    """False where the sample has too few stained pixels for a decision."""


def optical_density(rgb: NDArray[np.uint8], background: Vector) -> NDArray[np.float32]:
    """Convert grey levels to optical density, -log10((I + 1) / (I0 + 1)).

    Parameters
    ----------
    rgb
        Grey levels, shape (..., 3), uint8.
    background
        Grey levels I0 of empty glass.

    Returns
    -------
    Optical density, shape (..., 3), float32, clipped to 0..``OD_CAP``: pixels brighter than glass count as glass, and
    the densities of black pixels, which are unknown, stay finite and comparable.
    """
    # A table of the 256 densities of a channel is far faster than a logarithm for each pixel.
    levels = np.arange(256, dtype=np.float64)[:, None]
    table = np.clip(-np.log10((levels + 1) / (np.asarray(background, dtype=np.float64) + 1)), 0, OD_CAP)
    if rgb.size == 0:
        return np.zeros(rgb.shape, dtype=np.float32)
    flat = cv2.LUT(np.ascontiguousarray(rgb).reshape(-1, 1, 3), table.astype(np.float32).reshape(256, 1, 3))
    return np.asarray(flat, dtype=np.float32).reshape(rgb.shape)


def detect_stain(pixels: NDArray[np.uint8]) -> StainDecision:
    """Distinguish H&E from hematoxylin-DAB by the hues of stained pixels.

    Eosin absorbs green far more than red or blue, hematoxylin absorbs green and red alike, and DAB absorbs blue most.
    So H&E has many pink pixels, and IHC, even without any brown, has nearly none.

    Parameters
    ----------
    pixels
        Sample of tissue, with the glass between it, shape (n, 3), uint8.
    """
    background, _ = estimate_background(pixels)
    od = optical_density(pixels, background)
    total = od.sum(axis=1)
    stained = (total > _STAINED_OD_SUM) & (od.max(axis=1) < OD_CAP)
    n_stained = int(stained.sum())
    if n_stained < _MIN_STAINED_PIXELS:
        return StainDecision(
            Stain.HE,
            f"only {n_stained} stained pixels in a sample of {len(pixels)}: too few to tell; taken as H&E.",
            is_certain=False,
        )
    red, green, blue = (od[stained] / total[stained, None]).T
    green_excess = green - np.maximum(red, blue)
    # Hematoxylin over eosin also absorbs green most, but red more than blue; pink absorbs blue as much as red or more.
    pink = float(np.mean(((green_excess > 0.12) & (blue - red > -0.05)) | (green_excess > 0.25)))
    brown = _brown_share(od[stained])
    numbers = (
        f"{pink:.1%} of the stained pixels are pink (eosin) and {brown:.1%} brown (DAB), "
        f"difference {pink - brown:+.2f} against a cut of {_PINK_MINUS_BROWN_CUT:+.2f}"
    )
    if pink - brown > _PINK_MINUS_BROWN_CUT:
        return StainDecision(Stain.HE, f"H&E: {numbers}.")
    return StainDecision(Stain.IHC, f"hematoxylin-DAB: {numbers}.")


def fit_stain_profile(pixels: NDArray[np.uint8], stain: Stain, seed: int) -> StainProfile:
    """Fit background, stain vectors and the DAB cut to a sample of one slide.

    Vectors are the extreme hues in the plane of largest OD variance (Macenko et al. 2009). Implausible ones are
    replaced by those of Ruifrok and Johnston, with a note.

    Parameters
    ----------
    pixels
        Sample of tissue, with the glass between it, shape (n, 3), uint8.
    stain
        Stain of the slide.
    seed
        Seed of the choice of pixels, where there are more than 200,000.

    Examples
    --------
    >>> fit_stain_profile(np.full((9000, 3), 240, np.uint8), Stain.IHC, seed=0).background
    (240.0, 240.0, 240.0)
    """
    notes: list[str] = []
    sample = pixels
    if len(pixels) > _MAX_FITTED_PIXELS:
        chosen = np.random.default_rng(seed).choice(len(pixels), _MAX_FITTED_PIXELS, replace=False)
        sample = pixels[np.sort(chosen)]
    background, seen = estimate_background(sample)
    if not seen:
        notes.append(f"{_NO_GLASS} no bright glass in the sample; 245 of 255 taken for all channels.")
    od = optical_density(sample, background)
    hematoxylin, counterstain = _fit_vectors(od, stain, notes)
    cut = None
    if stain is Stain.IHC:
        amounts = od @ _unmixing(hematoxylin, counterstain)
        cut = _fit_dab_cut(amounts[:, 0], amounts[:, 1], notes)
    return StainProfile(stain, background, hematoxylin, counterstain, cut, len(pixels), seed, tuple(notes))


def separate(rgb: NDArray[np.uint8], profile: StainProfile) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Split pixels into their stains by linear unmixing of optical density.

    The third direction is the residual, perpendicular to both stains (Ruifrok and Johnston 2001).

    Parameters
    ----------
    rgb
        Grey levels, shape (height, width, 3), uint8.
    profile
        Stain profile of the slide that the pixels come from.

    Returns
    -------
    hematoxylin, counterstain
        Optical densities of hematoxylin, and of eosin or DAB; shape (height, width), float32, at least 0.
    """
    od = optical_density(rgb, profile.background)
    matrix = _unmixing(profile.hematoxylin, profile.counterstain)
    red, green, blue = od[..., 0], od[..., 1], od[..., 2]
    # It is done channel by channel: a matrix product may round a pixel differently at another place in the array.
    hematoxylin, counterstain = (
        np.maximum(red * weights[0] + green * weights[1] + blue * weights[2], np.float32(0)) for weights in matrix.T
    )
    return hematoxylin, counterstain


def reference_amounts(od: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the amounts of hematoxylin and DAB by Ruifrok's vectors, whatever was fitted.

    Parameters
    ----------
    od
        Optical density, shape (n, 3).

    Returns
    -------
    Shape (n, 2), float32; below 0 where a pixel lies outside the two stains.
    """
    return np.asarray(od @ _unmixing(REFERENCE_HEMATOXYLIN, REFERENCE_DAB), dtype=np.float32)


def _unmixing(hematoxylin: Vector, counterstain: Vector) -> NDArray[np.float32]:
    """Compute the matrix, shape (3, 2), by which OD is multiplied to give the amounts of both stains."""
    residual = np.cross(hematoxylin, counterstain)
    rows = np.array([hematoxylin, counterstain, residual / np.linalg.norm(residual)])
    return np.linalg.inv(rows)[:, :2].astype(np.float32)


def estimate_background(pixels: NDArray[np.uint8]) -> tuple[Vector, bool]:
    """Find the grey levels of empty glass.

    Parameters
    ----------
    pixels
        Sample of a slide, shape (n, 3), uint8.

    Returns
    -------
    Median of the brightest pixels, and True; or ``FALLBACK_BACKGROUND``, and False, when they do not look like glass.
    """
    if len(pixels) == 0:
        return FALLBACK_BACKGROUND, False
    # A median needs no more pixels; every k-th one is used, so that nothing is random.
    pixels = pixels[:: 1 + len(pixels) // _MAX_FITTED_PIXELS]
    white = (pixels == 255).all(axis=1)
    near_white = (pixels >= 250).all(axis=1) & ~white
    # Pure white without nearly white pixels is padding of the canvas and not glass under a bright lamp.
    if white.any() and near_white.sum() < 0.1 * white.sum():
        if white.all():
            return (255.0, 255.0, 255.0), True
        pixels = pixels[~white]
    brightness = pixels.mean(axis=1)
    brightest = pixels[brightness >= np.percentile(brightness, 99) - 10]
    median = np.median(brightest, axis=0)
    neutral = median.mean() >= 200 and median.max() - median.min() <= 35
    if neutral or _is_even(brightest, len(pixels), median):
        return _vector(median), True
    return FALLBACK_BACKGROUND, False


def _is_even(brightest: NDArray[np.uint8], n_pixels: int, median: NDArray[np.floating[Any]]) -> bool:
    """Check whether the brightest pixels are many and of one hue, as tinted or dim glass is and pale tissue is not."""
    if len(brightest) < _MIN_GLASS_SHARE * n_pixels or median.max() < _MIN_GLASS_LEVEL:
        return False
    # Lamps and old glue are yellow, blue or green; an even area that absorbs green most is eosin.
    if median[1] < min(median[0], median[2]):
        return False
    levels = brightest.astype(np.float32)
    spreads = np.std(levels[:, :2] - levels[:, 1:], axis=0)
    return bool(np.all(spreads <= _MAX_GLASS_SPREAD))


def _brown_share(od: NDArray[np.float32]) -> float:
    """Compute the share of stained pixels that absorb blue most."""
    return float(np.mean((od[:, 2] - od[:, :2].max(axis=1)) / od.sum(axis=1) > 0.02))


def _fit_vectors(od: NDArray[np.float32], stain: Stain, notes: list[str]) -> tuple[Vector, Vector]:
    """Fit the stain vectors of a sample; add a note for each that a reference replaces."""
    second_name, second_reference = ("DAB", REFERENCE_DAB) if stain is Stain.IHC else ("eosin", REFERENCE_EOSIN)
    references = (REFERENCE_HEMATOXYLIN, second_reference)
    usable = od[(od.sum(axis=1) > _FIT_OD_SUM) & (od.max(axis=1) < OD_CAP - 0.1)]
    if len(usable) < _MIN_STAINED_PIXELS:
        notes.append(f"stain vectors: only {len(usable)} well stained pixels; Ruifrok's vectors taken.")
        return references
    if stain is Stain.IHC and (brown := _brown_share(usable)) < _MIN_BROWN_SHARE:
        notes.append(f"stain vectors: {brown:.1%} of the stained pixels are brown, too few to fit; Ruifrok's taken.")
        return references
    fitted = _extreme_hues(usable, stain)
    kept: list[Vector] = []
    for name, vector, reference in zip(("hematoxylin", second_name), fitted, references, strict=True):
        angle = _angle_deg(vector, reference)
        if angle > _MAX_FROM_REFERENCE_DEG:
            notes.append(f"{name} vector: the fit lies {angle:.0f} degrees from Ruifrok's; Ruifrok's taken.")
        kept.append(reference if angle > _MAX_FROM_REFERENCE_DEG else vector)
    if (between := _angle_deg(kept[0], kept[1])) < _MIN_BETWEEN_STAINS_DEG:
        notes.append(f"stain vectors: only {between:.0f} degrees between both fits; Ruifrok's vectors taken.")
        return references
    return kept[0], kept[1]


def _extreme_hues(od: NDArray[np.float32], stain: Stain) -> tuple[Vector, Vector]:
    """Find both vectors, at the 1st and 99th percentile of the angle in the main plane (Macenko 2009)."""
    _, eigenvectors = np.linalg.eigh(np.cov(od.astype(np.float64), rowvar=False))
    plane = eigenvectors[:, [2, 1]]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    projected = od @ plane
    angles = np.percentile(np.arctan2(projected[:, 1], projected[:, 0]), (1, 99))
    ends = [plane @ np.array([np.cos(angle), np.sin(angle)]) for angle in angles]
    # Hematoxylin is the end that absorbs more red: relative to blue beside DAB, absolutely beside eosin.
    if stain is Stain.IHC:
        ends.sort(key=lambda end: float(end[2] - end[0]))
    else:
        ends.sort(key=lambda end: -float(end[0]))
    return _unit(ends[0]), _unit(ends[1])


def _fit_dab_cut(hematoxylin_od: NDArray[np.float32], dab_od: NDArray[np.float32], notes: list[str]) -> float:
    """Fit Otsu's cut between blue and brown pixels; QuPath's 0.2 where no cut is plausible."""
    nuclear = dab_od[np.maximum(hematoxylin_od, 0) + np.maximum(dab_od, 0) > _MIN_NUCLEAR_OD]
    low, high = DAB_CUT_BOUNDS_OD
    share = float(np.mean(nuclear > DEFAULT_DAB_CUT_OD)) if len(nuclear) else 0.0
    if len(nuclear) < _MIN_STAINED_PIXELS or share < _MIN_BROWN_SHARE:
        notes.append(f"DAB cut: {share:.1%} of the stained pixels are brown, too few to fit; QuPath's 0.2 taken.")
        return DEFAULT_DAB_CUT_OD
    # Values are clipped, so that black nuclei, which are certainly positive, do not move the cut: without it, Otsu's
    # cut is 0.8 OD on slides that have them, which would lose weakly positive nuclei.
    cut = _otsu(np.clip(nuclear, 0, high))
    if cut < low:
        notes.append(f"DAB cut: the fit gave {cut:.2f} OD, outside {low} to {high}; QuPath's 0.2 taken.")
        return DEFAULT_DAB_CUT_OD
    return round(min(cut, max(low, _cut_by_ratio(nuclear))), 4)


def _cut_by_ratio(nuclear: NDArray[np.float32]) -> float:
    """Fit Otsu's cut to the logarithm of DAB OD, so that it follows the slide's strength of DAB; or infinity.

    A cut on clipped OD is nearly the same for faint and for dark stains, and so loses the weakly positive nuclei of
    faint ones.
    """
    cut = float(np.exp(_otsu(np.log(np.clip(nuclear, 0, OD_CAP) + _UNSTAINED_OD)))) - _UNSTAINED_OD
    # If the brown pixels lie just above the cut, it divides pixels of one kind, such as haze.
    brown = nuclear[nuclear > cut]
    return cut if len(brown) and float(np.median(brown)) >= _MIN_BROWN_TO_CUT * cut else np.inf


def _otsu(values: NDArray[np.floating[Any]]) -> float:
    from skimage.filters import threshold_otsu  # a worker fits no cut, and need not load it

    return float(threshold_otsu(values))  # type: ignore[no-untyped-call]


def _angle_deg(first: Vector, second: Vector) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(_unit(first), _unit(second)), -1, 1))))


def _unit(values: Vector | NDArray[np.floating[Any]]) -> Vector:
    array = np.asarray(values, dtype=np.float64)
    return _vector(array / np.linalg.norm(array))


def _vector(values: NDArray[np.floating[Any]]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])

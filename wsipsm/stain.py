"""Stains: which ones were used, how they absorb, how much of each is in a pixel.

Light that passes a stain falls off exponentially (Beer-Lambert), so optical densities, not grey levels,
add up over stains. Everything here is fitted once a slide and then applied pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from wsipsm.keys import Stain

Vector = tuple[float, float, float]
"""Red, green, blue."""

FITTED = "fitted on the slide"
OD_CAP = 1.6
"""Highest optical density of a channel: below grey level 5 of 255, noise and JPEG decide the value, not stain."""
FALLBACK_BACKGROUND: Vector = (245.0, 245.0, 245.0)
"""Glass of a usual brightfield scan, taken where a sample shows none."""
DEFAULT_DAB_CUT_OD = 0.2
"""QuPath's default for one threshold on a nucleus' DAB OD mean."""
DAB_CUT_BOUNDS_OD = (0.1, 0.45)
"""A cut outside is a failed fit: lower lies haze, higher only the strongest nuclei would count."""

_MIN_GLASS_LEVEL = 200
"""The lowest level of glass in the brightest channel: dimmer evenness may be pale tissue, as the neuropil of the
brain."""
_MIN_GLASS_SHARE = 0.15
_MAX_GLASS_SPREAD = (3.5, 5.0)
"""Standard deviations of red minus green, and of green minus blue, over the brightest pixels, grey levels.

Measured on 53 Ki-67 images with glass: 2.7 and 4.9 or less, but for coarse ones; on the palest tissue of H&E without
glass: 10 and 7, or a share of 0.03.
"""

REFERENCE_HEMATOXYLIN: Vector = (0.650, 0.704, 0.286)
REFERENCE_DAB: Vector = (0.268, 0.570, 0.776)
"""Ruifrok and Johnston 2001, unit length."""
REFERENCE_EOSIN: Vector = (0.216, 0.801, 0.558)
"""QuPath's default: nearer to the eosin of scanned slides than the 2001 paper's (0.07, 0.99, 0.11)."""

_NO_GLASS = "background:"
_STAINED_OD_SUM = 0.2
"""Sum of OD over the channels from which a pixel says something about hue."""
_MIN_STAINED_PIXELS = 300
_PINK_MINUS_BROWN_CUT = 0.15
"""Measured on 33 H&E images and slides: 0.31 and more; on 47 with hematoxylin-DAB: 0.05 and less.

Half or 1.5 times the stain, gamma 0.8 and 1.25, white balance 6 % off leave 0.21 and more against 0.13 and less.
"""
_MIN_BROWN_SHARE = 0.015
_FIT_OD_SUM = 0.45
"""Vectors are fitted from this OD sum on (0.15 a channel, Macenko 2009): paler pixels have noisy hues."""
_MAX_FROM_REFERENCE_DEG = 30.0
_MIN_BETWEEN_STAINS_DEG = 12.0
_MAX_FITTED_PIXELS = 200_000
_MIN_NUCLEAR_OD = 0.15
_UNSTAINED_OD = 0.07
"""DAB that unmixing finds in unstained pixels: below it, ratios say nothing."""
_MIN_BROWN_TO_CUT = 1.6
"""Median of the brown pixels over the cut: 1.63 and more on slides with positive nuclei, 1.4 where haze was cut."""


@dataclass(frozen=True, slots=True)
class StainProfile:
    """The absorption of the stains of one slide; the same for every pixel of it."""

    stain: Stain
    background: Vector
    """Grey levels of empty glass, 0..255."""
    hematoxylin: Vector
    """Share of the OD in red, green, blue; unit length."""
    counterstain: Vector
    """The same for eosin (H&E) or DAB (IHC)."""
    dab_cut_od: float | None
    """Mean DAB OD from which a nucleus counts as positive; None on H&E."""
    n_pixels: int
    """Pixels that the fit was given."""
    seed: int
    notes: tuple[str, ...]
    """What fell back to a fixed value, and why."""
    cut_from: str = FITTED
    """Where the DAB cut comes from."""

    @property
    def glass_notes(self) -> tuple[str, ...]:
        """Notes that say that no glass was seen; none when it was."""
        return tuple(note for note in self.notes if note.startswith(_NO_GLASS))


@dataclass(frozen=True, slots=True)
class StainDecision:
    """The stain that a slide was taken for, and the numbers that say so."""

    stain: Stain
    reason: str
    is_certain: bool = True
    """False where the sample holds too little to say."""


def optical_density(rgb: NDArray[np.uint8], background: Vector) -> NDArray[np.float32]:
    """Change grey levels into optical density, -log10((I + 1) / (I0 + 1)).

    Parameters
    ----------
    rgb
        Grey levels, shape (..., 3), uint8.
    background
        Grey levels I0 of empty glass.

    Returns
    -------
    Optical density, shape (..., 3), float32, clipped to 0..``OD_CAP``: brighter than glass is glass, and
    black pixels, whose density is unknown, stay finite and comparable.
    """
    # 256 grey levels have 256 densities a channel: a table is far faster than a logarithm a pixel.
    levels = np.arange(256, dtype=np.float64)[:, None]
    table = np.clip(-np.log10((levels + 1) / (np.asarray(background, dtype=np.float64) + 1)), 0, OD_CAP)
    if rgb.size == 0:
        return np.zeros(rgb.shape, dtype=np.float32)
    flat = cv2.LUT(np.ascontiguousarray(rgb).reshape(-1, 1, 3), table.astype(np.float32).reshape(256, 1, 3))
    return np.asarray(flat, dtype=np.float32).reshape(rgb.shape)


def detect_stain(pixels: NDArray[np.uint8]) -> StainDecision:
    """Distinguish H&E from hematoxylin-DAB by the hues of stained pixels.

    Eosin absorbs green far more than red or blue, hematoxylin green and red alike, DAB blue most. So H&E has
    many pink pixels and IHC, even without any brown in it, has nearly none.

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
    # Purple of hematoxylin over eosin leans to red and has green in excess too; only pink leans to blue as well.
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

    Vectors are the extreme hues in the plane of largest OD variance (Macenko et al. 2009). What is not plausible
    is replaced by Ruifrok and Johnston's values and noted.

    Parameters
    ----------
    pixels
        Sample of tissue, with the glass between it, shape (n, 3), uint8.
    stain
        What the slide was stained with.
    seed
        Chooses the pixels that are fitted when there are more than 200,000.

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
    # Channel by channel: a matrix product may round a pixel differently at another place in the array.
    hematoxylin, counterstain = (
        np.maximum(red * weights[0] + green * weights[1] + blue * weights[2], np.float32(0)) for weights in matrix.T
    )
    return hematoxylin, counterstain


def reference_amounts(od: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the amounts of hematoxylin and DAB by Ruifrok's vectors, whatever was fitted.

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
    """Compute the matrix (3, 2) that takes OD to the amounts of both stains."""
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
    # A median needs no more; every k-th pixel, so that nothing is left to chance.
    pixels = pixels[:: 1 + len(pixels) // _MAX_FITTED_PIXELS]
    white = (pixels == 255).all(axis=1)
    near_white = (pixels >= 250).all(axis=1) & ~white
    # Pure white without its neighbours is padding of the canvas, not a bright lamp.
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
    """Tell whether the brightest pixels are many and of one hue, as glass is, tinted or dim, and pale tissue is not."""
    if len(brightest) < _MIN_GLASS_SHARE * n_pixels or median.max() < _MIN_GLASS_LEVEL:
        return False
    # Lamps and old glue are yellow, blue or green. What absorbs green most is eosin, however even.
    if median[1] < min(median[0], median[2]):
        return False
    levels = brightest.astype(np.float32)
    spreads = np.std(levels[:, :2] - levels[:, 1:], axis=0)
    return bool(np.all(spreads <= _MAX_GLASS_SPREAD))


def _brown_share(od: NDArray[np.float32]) -> float:
    """Compute the share of stained pixels that absorb blue most."""
    return float(np.mean((od[:, 2] - od[:, :2].max(axis=1)) / od.sum(axis=1) > 0.02))


def _fit_vectors(od: NDArray[np.float32], stain: Stain, notes: list[str]) -> tuple[Vector, Vector]:
    """Fit the stain vectors of a sample; append to ``notes`` what was replaced by a reference."""
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
    """Find hematoxylin and second vector: 1st and 99th percentile of the angle in the main plane (Macenko 2009)."""
    _, eigenvectors = np.linalg.eigh(np.cov(od.astype(np.float64), rowvar=False))
    plane = eigenvectors[:, [2, 1]]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    projected = od @ plane
    angles = np.percentile(np.arctan2(projected[:, 1], projected[:, 0]), (1, 99))
    ends = [plane @ np.array([np.cos(angle), np.sin(angle)]) for angle in angles]
    # Hematoxylin is the end that absorbs more red: against blue beside DAB, by itself beside eosin.
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
    # Clipped, because how much darker than certainly brown a nucleus is must not move the cut: unclipped, Otsu
    # lands at 0.8 OD on slides with black nuclei and loses their weak positives.
    cut = _otsu(np.clip(nuclear, 0, high))
    if cut < low:
        notes.append(f"DAB cut: the fit gave {cut:.2f} OD, outside {low} to {high}; QuPath's 0.2 taken.")
        return DEFAULT_DAB_CUT_OD
    return round(min(cut, max(low, _cut_by_ratio(nuclear))), 4)


def _cut_by_ratio(nuclear: NDArray[np.float32]) -> float:
    """Fit Otsu's cut by how many times browner pixels are, which follows the slide's own strength of DAB; or infinity.

    Differences of OD, clipped, cut faint and dark stains at the same level, and so lose the weak positives of faint
    ones.
    """
    cut = float(np.exp(_otsu(np.log(np.clip(nuclear, 0, OD_CAP) + _UNSTAINED_OD)))) - _UNSTAINED_OD
    # Brown that begins right at the cut is the upper half of one kind of pixels, as of haze.
    brown = nuclear[nuclear > cut]
    return cut if len(brown) and float(np.median(brown)) >= _MIN_BROWN_TO_CUT * cut else np.inf


def _otsu(values: NDArray[np.floating[Any]]) -> float:
    return float(threshold_otsu(values))  # type: ignore[no-untyped-call]


def _angle_deg(first: Vector, second: Vector) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(_unit(first), _unit(second)), -1, 1))))


def _unit(values: Vector | NDArray[np.floating[Any]]) -> Vector:
    array = np.asarray(values, dtype=np.float64)
    return _vector(array / np.linalg.norm(array))


def _vector(values: NDArray[np.floating[Any]]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])

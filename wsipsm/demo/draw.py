"""Draws a slide whose nuclei are known: hematoxylin with DAB, or hematoxylin and eosin.

Colours arise as on a real slide: amounts of the stains add up in optical density, along the stain vectors of Ruifrok
and Johnston (2001) for hematoxylin with DAB, and of Macenko et al. (2009) for H&E, whose eosin is nearer to that of
scanned slides; blur of the optics and noise of the camera are added. All random choices depend on the seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray

from wsipsm.demo.layout import Kind, Nuclei, Tissue, lay_tissue, place_nuclei, smooth_noise
from wsipsm.demo.truth import TRUTH_SUFFIX, DrawnTruth
from wsipsm.errors import UsageError
from wsipsm.geometry import Size
from wsipsm.keys import NucleusClass, Stain
from wsipsm.rundir import output_error, write_aside

__all__ = ["TRUTH_SUFFIX", "DrawnTruth", "draw_array", "draw_slide"]

_VECTORS = {
    Stain.IHC: np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776]], np.float32),
    Stain.HE: np.array([[0.563, 0.720, 0.406], [0.216, 0.801, 0.558]], np.float32),
}
"""Optical density in red, green and blue of hematoxylin and of the other stain, shape (2, 3)."""
_GLASS = np.array([243.0, 242.0, 239.0], np.float32)
_TILE_PX = 256
_BAND_ROWS = 512


@dataclass(slots=True)
class _Stains:
    """Amounts of the stains in optical density, float32, shape (height, width); drawing adds to them in place."""

    hematoxylin: NDArray[np.float32]
    other: NDArray[np.float32]
    """DAB or eosin."""


def draw_slide(
    path: Path,
    *,
    seed: int = 0,
    size: tuple[int, int] = (4000, 3000),
    n_nuclei: int = 2500,
    positive_fraction: float = 0.27,
    mpp: float = 0.25,
    touching_fraction: float = 0.08,
    stain: Stain = Stain.IHC,
) -> DrawnTruth:
    """Draw a slide as a tiled, pyramidal JPEG TIFF that states its pixel size, and its truth as JSON beside it.

    Parameters
    ----------
    path
        Path of the TIFF; the truth has the same name with the suffix ``.truth.json``.
    seed, size, n_nuclei, positive_fraction, mpp, touching_fraction, stain
        The same as in :func:`draw_array`.

    Raises
    ------
    OutputError
        When a file cannot be written.
    UsageError
        When a number is outside the range that can be drawn.
    """
    rgb, truth = draw_array(
        seed=seed,
        size=size,
        n_nuclei=n_nuclei,
        positive_fraction=positive_fraction,
        mpp=mpp,
        touching_fraction=touching_fraction,
        stain=stain,
    )
    try:
        with write_aside(path) as temporary:
            _write_pyramid(temporary, rgb, mpp)
        with write_aside(path.with_suffix(TRUTH_SUFFIX)) as temporary:
            truth.save(temporary)
    except FileNotFoundError as error:
        raise output_error(path, error) from error
    return truth


def draw_array(
    *,
    seed: int = 0,
    size: tuple[int, int] = (4000, 3000),
    n_nuclei: int = 2500,
    positive_fraction: float = 0.27,
    mpp: float = 0.25,
    touching_fraction: float = 0.08,
    stain: Stain = Stain.IHC,
) -> tuple[NDArray[np.uint8], DrawnTruth]:
    """Draw a slide in memory.

    Parameters
    ----------
    seed
        Seed of every random choice.
    size
        Width and height, pixels.
    n_nuclei
        Number of nuclei; fewer are drawn when there is no room.
    positive_fraction
        Share of nuclei with DAB, 0..1; it is not used for H&E.
    mpp
        Pixel size, um/px; all lengths of the drawing are in um.
    touching_fraction
        Share of nuclei that touch another one.
    stain
        Hematoxylin with DAB, or hematoxylin and eosin.

    Returns
    -------
    RGB image, uint8, shape (height, width, 3), and the truth.

    Raises
    ------
    UsageError
        When a number is outside the range that can be drawn.
    """
    if min(size) < 64 or n_nuclei < 0 or not 0 <= positive_fraction <= 1 or not 0.1 <= mpp <= 1:
        raise UsageError(
            f"drawn slide: {size[0]}x{size[1]} px, {n_nuclei} nuclei, positive fraction {positive_fraction}, "
            f"{mpp} um/px; "
            "at least 64x64 px, 0 nuclei, a fraction of 0..1 and 0.1 to 1 um/px are needed. Change the number."
        )
    extent = Size(*size)
    rng = np.random.default_rng(seed)
    tissue = lay_tissue(rng, extent, mpp)
    nuclei = place_nuclei(rng, tissue, mpp, n_nuclei, touching_fraction)
    classes = _choose_classes(rng, nuclei, positive_fraction, stain)
    stains = _draw_ground(rng, tissue, mpp, stain)
    _draw_nuclei(rng, stains, nuclei, classes, mpp)
    rgb = _expose(rng, stains, mpp, _VECTORS[stain])
    polygons = np.asarray(shapely.polygons(nuclei.outlines), dtype=object).reshape(-1)
    return rgb, DrawnTruth(extent, mpp, stain, seed, polygons, classes)


def _choose_classes(
    rng: np.random.Generator, nuclei: Nuclei, positive_fraction: float, stain: Stain
) -> NDArray[np.str_]:
    """Choose classes with exactly the wanted share of positives, most of them tumour nuclei."""
    n = len(nuclei.kinds)
    if stain is Stain.HE:
        return np.full(n, NucleusClass.NUCLEUS.value, dtype="<U8")
    classes = np.full(n, NucleusClass.NEGATIVE.value, dtype="<U8")
    odds = np.array([1.0, 0.15, 0.15])[nuclei.kinds]
    # The largest Gumbel keys are a sample without replacement, weighted by the odds.
    order = np.argsort(-(np.log(odds) + rng.gumbel(size=n)))
    classes[order[: round(n * positive_fraction)]] = NucleusClass.POSITIVE.value
    return classes


def _draw_ground(rng: np.random.Generator, tissue: Tissue, mpp: float, stain: Stain) -> _Stains:
    """Draw the amounts of stain outside nuclei, in fibrous stroma and granular cytoplasm; glass has none."""
    height, width = tissue.tissue.shape
    size = Size(width, height)
    fibres = _fibres(rng, size, mpp, tissue.fibre_angle)
    cloud = smooth_noise(rng, size, 25 / mpp)
    grain = 0.6 * smooth_noise(rng, size, 3 / mpp) + 0.6 * smooth_noise(rng, size, 1 / mpp)
    stroma = tissue.tissue * (1 - tissue.nests)
    nests = tissue.tissue * tissue.nests
    if stain is Stain.HE:
        hematoxylin = stroma * (0.06 + 0.02 * cloud + 0.02 * grain) + nests * (0.17 + 0.03 * cloud + 0.03 * grain)
        other = stroma * (0.34 + 0.13 * fibres + 0.04 * cloud) + nests * (0.25 + 0.03 * cloud + 0.03 * grain)
    else:
        hematoxylin = stroma * (0.05 + 0.03 * fibres + 0.012 * cloud + 0.01 * grain)
        hematoxylin += nests * (0.075 + 0.015 * cloud + 0.016 * grain)
        other = stroma * (0.022 + 0.008 * cloud) + nests * (0.03 + 0.01 * cloud + 0.008 * grain)
    return _Stains(np.maximum(hematoxylin, 0), np.maximum(other, 0))


def _fibres(rng: np.random.Generator, size: Size, mpp: float, angle: float) -> NDArray[np.float32]:
    """Draw wavy streaks of unit variance along ``angle``, from noise stretched along it and sampled on a bent grid."""
    length_px, thickness_px = 45 / mpp, 2.2 / mpp
    bend = 14 / mpp * smooth_noise(rng, size, 70 / mpp)
    x = np.arange(size.width, dtype=np.float32)[None, :]
    y = np.arange(size.height, dtype=np.float32)[:, None]
    reach = math.hypot(size.width, size.height) / 2 + 60 / mpp
    along = math.cos(angle) * (x - size.width / 2) + math.sin(angle) * (y - size.height / 2)
    across = -math.sin(angle) * (x - size.width / 2) + math.cos(angle) * (y - size.height / 2) + bend
    shape = (math.ceil(2 * reach / thickness_px) + 2, math.ceil(2 * reach / length_px) + 2)
    streaks = rng.standard_normal(shape, dtype=np.float32)
    map_x = ((along + reach) / length_px).astype(np.float32)
    map_y = ((across + reach) / thickness_px).astype(np.float32)
    field = cv2.remap(streaks, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(field, dtype=np.float32)


def _draw_nuclei(
    rng: np.random.Generator, stains: _Stains, nuclei: Nuclei, classes: NDArray[np.str_], mpp: float
) -> None:
    """Add every nucleus to the amounts of stain, in place."""
    chromatin_size = Size(1024, 1024)
    scales = [smooth_noise(rng, chromatin_size, feature_um / mpp) for feature_um in (0.5, 0.9, 1.9)]
    chromatin = 0.4 * scales[0] + 0.65 * scales[1] + 0.65 * scales[2]
    for outline, kind, name in zip(nuclei.outlines, nuclei.kinds, classes, strict=True):
        margin = math.ceil(1.5 / mpp)
        left, top = np.maximum(np.floor(outline.min(axis=0)).astype(int) - margin, 0)
        right, bottom = np.ceil(outline.max(axis=0)).astype(int) + margin
        window = np.s_[top:bottom, left:right]
        # The window ends at the image's edge, so the mask must have its shape.
        height, width = stains.hematoxylin[window].shape
        soft, rim = _soft_mask(rng, outline - (left, top), width, height, mpp)
        row, column = rng.integers(0, (1024 - height, 1024 - width))
        texture = chromatin[row : row + height, column : column + width]
        hematoxylin, dab = _amounts(rng, soft, rim, texture, Kind(kind), NucleusClass(name))
        stains.hematoxylin[window] = stains.hematoxylin[window] * (1 - 0.8 * soft) + hematoxylin
        if dab is not None:
            stains.other[window] += dab
        elif name == NucleusClass.NUCLEUS:
            stains.other[window] *= 1 - 0.55 * soft


def _soft_mask(
    rng: np.random.Generator, outline: NDArray[np.float64], width: int, height: int, mpp: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute a nucleus's coverage, 0..1 with a soft edge, and each pixel's closeness to its membrane, 0..1."""
    mask = np.zeros((height, width), np.uint8)
    # OpenCV takes four fractional bits and counts from pixel centres, the outline from corners.
    points = np.rint((outline - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=4)
    inward = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 3)
    rim = np.exp(-inward * mpp / 0.55).astype(np.float32)
    sigma = max(0.3, rng.uniform(0.16, 0.34) / mpp)
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), sigma)
    return np.asarray(soft, dtype=np.float32), rim


def _amounts(
    rng: np.random.Generator,
    soft: NDArray[np.float32],
    rim: NDArray[np.float32],
    texture: NDArray[np.float32],
    kind: Kind,
    name: NucleusClass,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Draw the amounts of hematoxylin and DAB of one nucleus; DAB is None for a nucleus without it."""
    dense = 1.35 if kind is Kind.LYMPHOCYTE else 1.0
    clumped = soft * np.clip(1 + rng.uniform(0.10, 0.24) * texture, 0.45, 1.7)
    if name is NucleusClass.NUCLEUS:
        strength = dense * rng.uniform(0.5, 0.95)
        return strength * clumped * (0.86 + 0.3 * rim), None
    if name is NucleusClass.NEGATIVE:
        strength = dense * rng.uniform(0.24, 0.55)
        return strength * clumped * (0.84 + 0.3 * rim), None
    strength = float(np.clip(rng.lognormal(math.log(0.75), 0.45), 0.32, 1.9))
    granular = soft * np.clip(1 + rng.uniform(0.12, 0.30) * texture, 0.35, 1.8)
    return rng.uniform(0.08, 0.3) * clumped, strength * granular


def _expose(rng: np.random.Generator, stains: _Stains, mpp: float, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Compute the image of the stains with blur and camera noise, in bands of rows to bound memory."""
    height, width = stains.hematoxylin.shape
    glass = 1 + 0.006 * smooth_noise(rng, Size(width, height), 300 / mpp)
    rgb = np.empty((height, width, 3), np.uint8)
    sigma = 0.16 / mpp
    margin = math.ceil(4 * sigma)
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        above, below = max(0, top - margin), min(height, bottom + margin)
        band = np.s_[above:below]
        density = np.stack([stains.hematoxylin[band], stains.other[band]], axis=-1) @ vectors
        light = np.exp(density * np.float32(-math.log(10))) * _GLASS * glass[band, :, None]
        light = cv2.GaussianBlur(light, (0, 0), sigma)[top - above : bottom - above]
        light += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(1.6)
        rgb[top:bottom] = np.clip(np.rint(light), 0, 255)
    return rgb


def _write_pyramid(path: Path, rgb: NDArray[np.uint8], mpp: float) -> None:
    """Write a generic tiled JPEG TIFF, each level with a quarter of the side, and the pixel size in its tags."""
    levels = [rgb]
    while max(levels[-1].shape[:2]) > 1024:
        height, width = levels[-1].shape[:2]
        smaller = cv2.resize(levels[-1], (math.ceil(width / 4), math.ceil(height / 4)), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(smaller, dtype=np.uint8))
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            per_cm = 1e4 / (mpp * 4**number)
            tiff.write(
                level,
                tile=(_TILE_PX, _TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                subfiletype=1 if number else 0,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                software="wsipsm demo",
                metadata=None,
            )

"""Lays out a drawn slide: the areas of its tissue and the outlines of its nuclei, without colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.geometry import Size

_N_VERTICES = 48
_COARSE_UM = 4.0
"""Pixel size in um of the fields on which tissue is laid out before they are enlarged."""


class Kind(IntEnum):
    """Kinds of nuclei, which differ in size, shape and strength of stain."""

    TUMOUR = 0
    STROMA = 1
    LYMPHOCYTE = 2


@dataclass(frozen=True, slots=True)
class Tissue:
    """Fields of tissue and tumour nests at full size, float32, shape (height, width)."""

    tissue: NDArray[np.float32]
    """1 inside the tissue, 0 on glass, with a soft edge."""
    nests: NDArray[np.float32]
    """1 in tumour nests, 0 in stroma, with a soft edge."""
    fibre_angle: float
    """Main direction of the stroma's fibres, radians."""


@dataclass(frozen=True, slots=True)
class Nuclei:
    """Placed nuclei; no two outlines overlap."""

    outlines: NDArray[np.float64]
    """Vertices x, y in level-0 pixels, corner convention, shape (n, 48, 2)."""
    kinds: NDArray[np.intp]
    """Values of ``Kind``, shape (n,)."""


def smooth_noise(rng: np.random.Generator, size: Size, feature_px: float) -> NDArray[np.float32]:
    """Draw Gaussian noise with features about ``feature_px`` wide, unit variance, shape (height, width)."""
    step = max(1.0, feature_px)
    shape = (math.ceil(size.height / step) + 2, math.ceil(size.width / step) + 2)
    coarse = rng.standard_normal(shape, dtype=np.float32)
    field = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC) if step > 1 else coarse
    # Interpolation lowers the variance between the nodes; the factor 1.3 restores it on average.
    return np.asarray(field[: size.height, : size.width] * (1.3 if step > 1 else 1.0), dtype=np.float32)


def lay_tissue(rng: np.random.Generator, size: Size, mpp: float) -> Tissue:
    """Lay out one irregular piece of tissue with a few lumens, and tumour nests in it."""
    step = _COARSE_UM / mpp
    coarse = Size(max(8, math.ceil(size.width / step)), max(8, math.ceil(size.height / step)))
    y, x = np.mgrid[: coarse.height, : coarse.width].astype(np.float32)
    x = (x + 0.5) / coarse.width * 2 - 1
    y = (y + 0.5) / coarse.height * 2 - 1
    extent_px = max(coarse.width, coarse.height)
    bumps = 0.10 * smooth_noise(rng, coarse, extent_px / 4) + 0.03 * smooth_noise(rng, coarse, extent_px / 14)
    inward = 0.84 - (np.abs(x) ** 2.6 + np.abs(y) ** 2.6) ** (1 / 2.6) + bumps * (np.hypot(x, y) > 0.3)
    inward = np.minimum(inward, 0.93 - np.maximum(np.abs(x), np.abs(y)))
    lumens = smooth_noise(rng, coarse, 60 / _COARSE_UM) + 0.4 * smooth_noise(rng, coarse, 20 / _COARSE_UM)
    tissue = 1 / (1 + np.exp(-np.clip(inward * extent_px / 1.2, -30, 30)))
    tissue *= 1 / (1 + np.exp(np.clip((lumens - 2.7) * 6, -30, 30)))
    nests = smooth_noise(rng, coarse, 130 / _COARSE_UM) + 0.35 * smooth_noise(rng, coarse, 35 / _COARSE_UM)
    nests = 1 / (1 + np.exp(-np.clip((nests + 0.15) * 5, -30, 30)))

    def full(field: NDArray[np.floating]) -> NDArray[np.float32]:
        resized = cv2.resize(field.astype(np.float32), (size.width, size.height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(np.clip(resized, 0, 1), dtype=np.float32)

    return Tissue(full(tissue), full(nests), float(rng.uniform(0, math.pi)))


def place_nuclei(
    rng: np.random.Generator, tissue: Tissue, mpp: float, n_nuclei: int, touching_fraction: float
) -> Nuclei:
    """Place nuclei one by one where there is room; there are fewer than ``n_nuclei`` when the tissue is full.

    Parameters
    ----------
    rng
        Generator of all random choices.
    tissue
        Areas where nuclei may be; they are denser in nests than in stroma.
    mpp
        Pixel size, um/px.
    n_nuclei
        Number of nuclei to place.
    touching_fraction
        Share of nuclei that touch another one; all others are at least 0.7 um apart.
    """
    height, width = tissue.tissue.shape
    taken = np.zeros((height, width), np.uint8)
    gap_px = 0.7 / mpp
    n_touching = round(n_nuclei * touching_fraction / 2)
    placed: list[NDArray[np.float64]] = []
    kinds: list[int] = []
    tries = 0
    while len(placed) < n_nuclei and tries < 12:
        tries += 1
        centres, shapes, drawn_kinds = _candidates(rng, tissue, mpp, 2 * n_nuclei + 64)
        for centre, shape, kind in zip(centres, shapes, drawn_kinds, strict=True):
            if len(placed) >= n_nuclei:
                break
            outline = shape + centre
            if not _take_room(taken, outline, gap_px):
                continue
            placed.append(outline)
            kinds.append(int(kind))
            if n_touching > 0 and kind == Kind.TUMOUR and len(placed) < n_nuclei:
                partner = _place_touching(rng, taken, outline, gap_px)
                if partner is not None:
                    placed.append(partner)
                    kinds.append(int(kind))
                    n_touching -= 1
    outlines = np.array(placed).reshape(-1, _N_VERTICES, 2)
    return Nuclei(outlines, np.array(kinds, dtype=np.intp))


def _candidates(
    rng: np.random.Generator, tissue: Tissue, mpp: float, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Draw centres, outlines around the origin and kinds of nuclei, without a check whether there is room."""
    height, width = tissue.tissue.shape
    centres = rng.uniform((0, 0), (width, height), (n, 2))
    column, row = centres.astype(np.intp).T
    inside, nest = tissue.tissue[row, column], tissue.nests[row, column]
    keep = (inside > 0.95) & (rng.random(n) < 0.3 + 0.7 * nest)
    centres, nest = centres[keep], nest[keep]
    n = len(centres)
    chance = rng.random(n)
    kinds = np.where(chance < nest * 0.92, Kind.TUMOUR, np.where(rng.random(n) < 0.35, Kind.LYMPHOCYTE, Kind.STROMA))
    low = np.array([7.4, 6.4, 6.0])[kinds]
    high = np.array([11.0, 8.6, 7.0])[kinds]
    radius_px = rng.uniform(low, high) / 2 / mpp
    aspect = rng.uniform(np.array([0.7, 0.45, 0.86])[kinds], np.array([1.0, 0.62, 1.0])[kinds])
    angle = np.where(kinds == Kind.STROMA, tissue.fibre_angle + rng.normal(0, 0.35, n), rng.uniform(0, math.pi, n))
    return centres, _outlines(rng, radius_px, aspect, angle, kinds), kinds.astype(np.intp)


def _outlines(
    rng: np.random.Generator,
    radius_px: NDArray[np.float64],
    aspect: NDArray[np.float64],
    angle: NDArray[np.float64],
    kinds: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Draw ellipses around the origin with a few Fourier terms on their radius, shape (n, 48, 2)."""
    n = len(radius_px)
    theta = np.linspace(0, 2 * math.pi, _N_VERTICES, endpoint=False)
    wobble = np.ones((n, _N_VERTICES))
    strength = np.array([1.0, 0.7, 0.5])[kinds]
    for order, amount in ((2, 0.035), (3, 0.035), (4, 0.02), (5, 0.012)):
        size = rng.normal(0, amount, n) * strength
        wobble += size[:, None] * np.cos(order * theta + rng.uniform(0, 2 * math.pi, (n, 1)))
    along = (radius_px / np.sqrt(aspect))[:, None] * wobble * np.cos(theta)
    across = (radius_px * np.sqrt(aspect))[:, None] * wobble * np.sin(theta)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack([along * cos - across * sin, along * sin + across * cos], axis=-1)


def _raster(outline: NDArray[np.float64], left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    points = np.rint(outline - (left, top) - 0.5).astype(np.int32)
    return np.asarray(cv2.fillPoly(mask, [points], 1), dtype=np.uint8)


def _take_room(taken: NDArray[np.uint8], outline: NDArray[np.float64], gap_px: float) -> bool:
    """Mark a nucleus and its gap as taken, unless it leaves the image or overlaps; return whether it was marked."""
    margin = math.ceil(gap_px) + 2
    left, top = np.floor(outline.min(axis=0)).astype(int) - margin
    right, bottom = np.ceil(outline.max(axis=0)).astype(int) + margin
    if left < 0 or top < 0 or right > taken.shape[1] or bottom > taken.shape[0]:
        return False
    window = taken[top:bottom, left:right]
    mask = _raster(outline, left, top, right - left, bottom - top)
    if np.any(window[mask > 0]):
        return False
    size = 2 * math.ceil(gap_px) + 1
    cv2.max(window, cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))), dst=window)
    return True


def _place_touching(
    rng: np.random.Generator, taken: NDArray[np.uint8], outline: NDArray[np.float64], gap_px: float
) -> NDArray[np.float64] | None:
    """Place a similar nucleus that touches ``outline`` in a random direction; None where there is no room."""
    centre = outline.mean(axis=0)
    turn = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(turn), math.sin(turn)
    shape = (outline - centre) @ np.array([[cos, sin], [-sin, cos]]) * rng.uniform(0.85, 1.1)
    direction = rng.uniform(0, 2 * math.pi)
    unit = np.array([math.cos(direction), math.sin(direction)])
    polygon = shapely.Polygon(outline)
    for distance in np.arange(2.0, 6 * np.abs(shape).max(), 0.5):
        partner = shape + centre + unit * distance
        if shapely.distance(polygon, shapely.Polygon(partner)) > 0:
            return partner if _take_room_beside(taken, outline, partner, gap_px) else None
    return None


def _take_room_beside(
    taken: NDArray[np.uint8], neighbour: NDArray[np.float64], outline: NDArray[np.float64], gap_px: float
) -> bool:
    """Mark ``outline`` and its gap as taken if there is room, where the gap around ``neighbour`` counts as free."""
    margin = math.ceil(gap_px) + 4
    left, top = np.floor(np.minimum(neighbour.min(axis=0), outline.min(axis=0))).astype(int) - margin
    right, bottom = np.ceil(np.maximum(neighbour.max(axis=0), outline.max(axis=0))).astype(int) + margin
    if left < 0 or top < 0 or right > taken.shape[1] or bottom > taken.shape[0]:
        return False
    window = taken[top:bottom, left:right]
    before = window.copy()
    size = 2 * math.ceil(gap_px) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    ring = cv2.dilate(_raster(neighbour, left, top, right - left, bottom - top), kernel)
    window[ring > 0] = 0
    free = _take_room(taken, outline, gap_px)
    cv2.max(window, before, dst=window)
    return free

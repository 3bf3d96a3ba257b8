"""Tissue on a slide, from its thumbnail.

The mask decides where nuclei are sought, so it is generous: a piece of glass taken for tissue costs seconds,
a piece of tissue taken for glass costs nuclei.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.errors import SlideReadError, UnsupportedSlideError
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import Slide, SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.read import read_box
from wsipsm.stain import OD_CAP, estimate_background, optical_density

_STAINED_OD = 0.06
"""Mean OD plus spread of OD over the channels. Measured: glass stays under 0.03 (99 %), pale IHC stroma is 0.07."""
_SMOOTHING_PX0 = 6.0
_SPECK_PX0 = 60.0
_CLOSING_PX0 = 150.0
_LARGEST_HOLE_PX0 = 500.0
_MARGIN_PX0 = 120.0
"""Lengths in level-0 pixels, at 0.25 to 0.5 um/px: gaps of 75 to 150 um close, a margin of 30 to 60 um is added."""
_WHOLE_FROM = 0.85
_WHOLE_CROP_FROM = 0.7
_CROP_PX0 = 4096
"""An image up to this side is a crop that somebody chose: its pale parts are stroma sooner than glass."""
_INK_FROM_PX0_PER_PIXEL = 3.0
"""Ink is looked for on overviews only: at finer scales single nuclei are as dark and as saturated."""
_DARK_LEVEL = 60
_SAMPLE_MPP = 0.5
_SAMPLE_PATCH_PX = 128
_SAMPLE_PATCHES = 64

Mask = NDArray[np.bool_]

ALL_NUCLEI = "all nuclei"
"""Name of the region when nobody drew one: stroma and lymphocytes are in it."""


@dataclass(frozen=True)
class TissueMask:
    """Tissue as a raster at thumbnail scale; a ``Region`` (see ``wsipsm.region``)."""

    mask: Mask
    """Shape (height, width)."""
    px0_per_pixel: float
    """Level-0 pixels per mask pixel."""
    note: str | None
    """What a reader should know: nothing found, everything taken."""
    fraction: float
    """Share of the mask that is tissue."""
    name: str = ALL_NUCLEI
    origin_px0: tuple[int, int] = (0, 0)
    """x, y at level 0 where the mask begins: the corner of the part of the canvas that holds pixels."""

    def touches(self, box_px0: Box) -> bool:
        """Whether any point of a level-0 box lies in tissue."""
        height, width = self.mask.shape
        s = self.px0_per_pixel
        box_px0 = box_px0.shift(-self.origin_px0[0], -self.origin_px0[1])
        if box_px0.area == 0 or box_px0.right <= 0 or box_px0.bottom <= 0:
            return False
        left, top = int(max(0, box_px0.x) / s), int(max(0, box_px0.y) / s)
        if left > width or top > height:
            return False
        # Rounding of the thumbnail's size can leave a last sliver of slide beyond the mask: its edge pixels own it.
        left, top = min(left, width - 1), min(top, height - 1)
        bottom, right = max(top + 1, math.ceil(box_px0.bottom / s)), max(left + 1, math.ceil(box_px0.right / s))
        return bool(np.any(self.mask[top:bottom, left:right]))

    def contains(self, xy_px0: NDArray[np.float64]) -> Mask:
        """Whether points lie in tissue.

        Parameters
        ----------
        xy_px0
            Level-0 pixels, shape (n, 2), float64.

        Returns
        -------
        Shape (n,), bool; False outside the slide.
        """
        height, width = self.mask.shape
        x, y = np.floor((xy_px0 - self.origin_px0) / self.px0_per_pixel).T
        inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
        column = np.minimum(np.where(inside, x, 0).astype(np.intp), width - 1)
        row = np.minimum(np.where(inside, y, 0).astype(np.intp), height - 1)
        return np.asarray(inside & self.mask[row, column], dtype=np.bool_)

    def area_px0(self) -> float:
        """Area in level-0 pixels."""
        return float(self.mask.sum()) * self.px0_per_pixel**2

    def areas_in(self, boxes_px0: NDArray[np.float64]) -> NDArray[np.float64]:
        """Area of tissue in each box.

        Parameters
        ----------
        boxes_px0
            Left, top, right, bottom, level-0 pixels, shape (m, 4).

        Returns
        -------
        Level-0 pixels, shape (m,).
        """
        height, width = self.mask.shape
        summed = np.zeros((height + 1, width + 1))
        np.cumsum(np.cumsum(self.mask, axis=0), axis=1, out=summed[1:, 1:])
        boxes = (np.asarray(boxes_px0, dtype=np.float64).reshape(-1, 4) - self.origin_px0 * 2) / self.px0_per_pixel
        left, top, right, bottom = boxes.T

        def area_to(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
            # Between pixel corners the summed mask is bilinear, so parts of pixels count as parts.
            at = np.stack([np.clip(y, 0, height), np.clip(x, 0, width)])
            return np.asarray(ndimage.map_coordinates(summed, at, order=1), dtype=np.float64)

        areas = area_to(right, bottom) - area_to(left, bottom) - area_to(right, top) + area_to(left, top)
        return np.maximum(areas, 0.0) * self.px0_per_pixel**2

    def to_polygons(self) -> shapely.Polygon | shapely.MultiPolygon:
        """Outline of the mask's pixels, level-0 pixels; empty where there is no tissue."""
        padded = np.pad(self.mask.astype(np.int8), ((0, 0), (1, 1)))
        step = np.diff(padded, axis=1)
        row, left = np.nonzero(step == 1)
        right = np.nonzero(step == -1)[1]
        corners = np.stack([left, row, right, row + 1], axis=1) * self.px0_per_pixel + self.origin_px0 * 2
        shape = shapely.union_all(shapely.box(*corners.T))
        return shape if isinstance(shape, (shapely.Polygon, shapely.MultiPolygon)) else shapely.MultiPolygon()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``; ``hash`` names the mask."""
        digest = hashlib.sha256(f"{self.mask.shape} {self.px0_per_pixel!r} {self.origin_px0}".encode())
        digest.update(np.packbits(self.mask).tobytes())
        return {
            "kind": "tissue",
            "name": self.name,
            "area_px0": self.area_px0(),
            "n_parts": int(cv2.connectedComponents(self.mask.astype(np.uint8), connectivity=8)[0]) - 1,
            "fraction": self.fraction,
            "px0_per_pixel": self.px0_per_pixel,
            "origin_px0": list(self.origin_px0),
            "note": self.note,
            "hash": digest.hexdigest()[:16],
        }


def find_tissue(thumbnail: NDArray[np.uint8], px0_per_pixel: float, slide_size: Size) -> TissueMask:
    """Find tissue on a thumbnail of a brightfield slide.

    What absorbs more than glass is tissue, unless it is black or has the hue of ink. Small gaps are closed and
    a margin is added. An image without glass, or nearly without, is taken whole; so is one without tissue, with
    a note. An image that is nearly all black gives an empty mask and a note.

    Parameters
    ----------
    thumbnail
        RGB of the whole slide, shape (height, width, 3), uint8.
    px0_per_pixel
        Level-0 pixels per thumbnail pixel.
    slide_size
        Level-0 size.
    """
    height, width = thumbnail.shape[:2]
    off = max(abs(width * px0_per_pixel - slide_size.width), abs(height * px0_per_pixel - slide_size.height))
    if off > 2 * px0_per_pixel + 1:
        raise ValueError(
            f"thumbnail: {width}x{height} px at {px0_per_pixel:.3g} level-0 px each; "
            f"a slide of {slide_size.width}x{slide_size.height} px is meant."
        )
    whole = np.ones((height, width), dtype=np.bool_)
    dark = thumbnail.max(axis=2) < _DARK_LEVEL
    if (lit := _missing_light(thumbnail, dark)) is not None:
        note = (
            f"tissue: {dark.mean():.0%} of the slide is black and {lit:.1%} of the rest is light; brightfield tissue "
            "lies on light glass, so no tissue was taken. Pass --roi to choose a region by hand."
        )
        return TissueMask(~whole, px0_per_pixel, note, 0.0)
    glass, seen = estimate_background(thumbnail[~dark])
    if not seen:
        # A dark border would still be no tissue, so only a crop without one is taken as it is.
        mask = whole if dark.mean() < 0.05 else _tidy(~_grow(dark, 2), px0_per_pixel)
        return _result(mask, px0_per_pixel, "tissue: no bright glass in the picture; all of it was taken.")
    od = optical_density(thumbnail, glass)
    stained = _stained(thumbnail, glass, px0_per_pixel)
    if px0_per_pixel >= _INK_FROM_PX0_PER_PIXEL:
        stained &= ~_grow(dark | _ink(od), 3)
    mask = _tidy(_without_specks(stained, od, px0_per_pixel), px0_per_pixel)
    if not mask.any():
        return _result(whole, px0_per_pixel, "tissue: none found on the thumbnail; the whole slide was searched.")
    is_crop = max(slide_size.width, slide_size.height) <= _CROP_PX0
    if mask.mean() >= (_WHOLE_CROP_FROM if is_crop else _WHOLE_FROM):
        return _result(whole, px0_per_pixel, None)
    return _result(mask, px0_per_pixel, None)


def find_slide_tissue(info: SlideInfo, thumbnail: NDArray[np.uint8], px0_per_pixel: float) -> TissueMask:
    """Find tissue on the thumbnail of the part of a slide that holds pixels (``SlideFrame.content``).

    Parameters
    ----------
    info
        Of the slide.
    thumbnail, px0_per_pixel
        As for :func:`find_tissue`.
    """
    content = SlideFrame.of(info).content
    tissue = find_tissue(thumbnail, px0_per_pixel, Size(content.width, content.height))
    return replace(tissue, origin_px0=(content.x, content.y))


def sample_tissue_pixels(slide: Slide, tissue: TissueMask, seed: int, n_pixels: int = 200_000) -> NDArray[np.uint8]:
    """Draw pixels from seeded patches spread over the tissue.

    Parameters
    ----------
    slide
        An open slide; read at about 0.5 um/px, at level 0 when its pixel size is unknown.
    tissue
        Where to look; the glass between tissue comes along, which shows the background.
    seed
        The same seed gives the same pixels.
    n_pixels
        Fewer come back when the tissue is smaller.

    Returns
    -------
    Shape (n, 3), uint8; empty when there is no tissue.

    Raises
    ------
    SlideReadError
        When no patch can be read; single bad patches are left out.
    """
    rng = np.random.default_rng(seed)
    mpp = slide.info.mpp
    scale = max(1.0, _SAMPLE_MPP / mpp) if mpp else 1.0
    content = SlideFrame.of(slide.info).content
    boxes = _sample_boxes(content, tissue, scale, rng)
    patches: list[NDArray[np.uint8]] = []
    failure: SlideReadError | None = None
    for box in boxes:
        try:
            patches.append(read_box(slide, box, scale, (content.x, content.y)).reshape(-1, 3))
        except SlideReadError as error:
            failure = error
    if not patches:
        if failure is not None:
            raise failure
        return np.empty((0, 3), dtype=np.uint8)
    quota = math.ceil(n_pixels / len(patches))
    drawn = [patch[rng.permutation(len(patch))[:quota]] for patch in patches]
    return np.concatenate(drawn)[:n_pixels]


def refuse_fluorescence(thumbnail: NDArray[np.uint8], path: str) -> None:
    """Stop on a fluorescence slide: a dark field on which one colour glows.

    Parameters
    ----------
    thumbnail
        RGB, shape (height, width, 3), uint8.
    path
        Named in the message.

    Raises
    ------
    UnsupportedSlideError
        When it is one. A grey or many-coloured label image and a dark scanner border are none.
    """
    brightest, darkest = thumbnail.max(axis=2), thumbnail.min(axis=2)
    lit = brightest >= _DARK_LEVEL
    share_lit = float(lit.mean())
    if not 0.002 < share_lit < 0.6:
        return
    glowing = thumbnail[lit]
    saturated = float(np.mean((brightest - darkest)[lit] > 0.6 * brightest[lit]))
    channel_shares = np.bincount(glowing.argmax(axis=1), minlength=3) / len(glowing)
    channel = int(channel_shares.argmax())
    if saturated < 0.9 or channel_shares[channel] < 0.9:
        return
    colour = ("red", "green", "blue")[channel]
    raise UnsupportedSlideError(
        f"{path}: {1 - share_lit:.0%} of the slide is dark and the rest glows {colour}, as fluorescence does; "
        "a brightfield slide (H&E, or hematoxylin with DAB) is needed. No option changes this."
    )


def _missing_light(thumbnail: NDArray[np.uint8], dark: Mask) -> float | None:
    """Share of light grey pixels among those not dark, when a mostly black image has too few of them; else None."""
    if dark.mean() < 0.5:
        return None
    rest = thumbnail[~dark]
    darkest, brightest = rest.min(axis=1), rest.max(axis=1)
    light = float(np.mean((darkest > 150) & (brightest - darkest < 60))) if len(rest) else 0.0
    return light if light < 0.1 else None


def _stained(thumbnail: NDArray[np.uint8], glass: tuple[float, float, float], px0_per_pixel: float) -> Mask:
    """Pixels that absorb more than glass; colour counts more than grey, which may be dust or shade."""
    sigma = max(0.7, _SMOOTHING_PX0 / px0_per_pixel)
    smooth = cv2.GaussianBlur(thumbnail, (0, 0), sigma)
    od = optical_density(np.asarray(smooth, dtype=np.uint8), glass)
    mean, spread = _mean_and_spread(od)
    return np.asarray(mean + spread > _STAINED_OD, dtype=np.bool_)


def _mean_and_spread(od: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean, and largest minus smallest, over the channels: by hand, since NumPy is slow along a short axis."""
    red, green, blue = od[..., 0], od[..., 1], od[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    mean = (red + green + blue) / np.float32(3)
    return mean.astype(np.float32), spread.astype(np.float32)


def _ink(od: NDArray[np.float32]) -> Mask:
    """Hues that no stain has: green below red and blue in OD, or hardly any blue, or hardly any red, and strong."""
    red, green, blue = od[..., 0], od[..., 1], od[..., 2]
    total = np.maximum(red + green + blue, 1e-6)
    green_ink = (np.minimum(red, blue) - green > 0.1) & (green < 0.6 * OD_CAP)
    blue_ink = (blue / total < 0.09) & (total > 0.6)
    red_ink = (red / total < 0.08) & (blue / total > 0.38) & (total > 0.9)
    return np.asarray(green_ink | blue_ink | red_ink, dtype=np.bool_)


def _without_specks(stained: Mask, od: NDArray[np.float32], px0_per_pixel: float) -> Mask:
    """Drop dust, and thin grey lines as glass edges give them."""
    if not stained.any():
        return stained
    count, labels, stats, _ = cv2.connectedComponentsWithStats(stained.astype(np.uint8), connectivity=8)
    mean, spread = _mean_and_spread(od)
    grey = np.bincount(labels.ravel(), spread.ravel(), count) < 0.25 * np.bincount(labels.ravel(), mean.ravel(), count)
    distance = cv2.distanceTransform(stained.astype(np.uint8), cv2.DIST_L2, 5)
    half_width = np.asarray(
        ndimage.maximum(distance[stained], np.asarray(labels[stained], dtype=np.int32), np.arange(count)),
        dtype=np.float64,
    )
    thin = half_width < 0.12 * np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    keep = (stats[:, cv2.CC_STAT_AREA] >= max(3.0, (_SPECK_PX0 / px0_per_pixel) ** 2)) & ~(grey & thin)
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)


def _tidy(mask: Mask, px0_per_pixel: float) -> Mask:
    """Close gaps, fill small holes, add a margin."""
    closed = ~_grow(~_grow(mask, _CLOSING_PX0 / px0_per_pixel), _CLOSING_PX0 / px0_per_pixel)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~closed).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= (_LARGEST_HOLE_PX0 / px0_per_pixel) ** 2
    small[0] = False
    filled = np.asarray(closed | small[labels], dtype=np.bool_)
    return _grow(filled, max(1.0, _MARGIN_PX0 / px0_per_pixel))


def _grow(mask: Mask, radius_px: float) -> Mask:
    """Dilate by a disk; by distances, so that the cost does not depend on the radius."""
    if not mask.any():
        return mask
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(distance <= radius_px, dtype=np.bool_)


def _result(mask: Mask, px0_per_pixel: float, note: str | None) -> TissueMask:
    return TissueMask(mask, px0_per_pixel, note, float(mask.mean()))


def _sample_boxes(content: Box, tissue: TissueMask, scale: float, rng: np.random.Generator) -> list[Box]:
    """Working-pixel boxes, from the content's corner, of patches in tissue, one from each stratum of a raster."""
    width, height = math.ceil(content.width / scale), math.ceil(content.height / scale)
    patch_width, patch_height = min(_SAMPLE_PATCH_PX, width), min(_SAMPLE_PATCH_PX, height)
    step = max(1.0, math.sqrt(content.area / 1_000_000))
    rows, columns = np.mgrid[0 : math.ceil(content.height / step), 0 : math.ceil(content.width / step)]
    points = (np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * step
    points = points[tissue.contains(points + np.array([content.x, content.y]))]
    if len(points) == 0:
        return []
    strata = np.array_split(np.arange(len(points)), min(_SAMPLE_PATCHES, len(points)))
    chosen = points[[int(rng.choice(stratum)) for stratum in strata]] / scale
    left = np.clip(chosen[:, 0] - patch_width / 2, 0, width - patch_width).astype(int)
    top = np.clip(chosen[:, 1] - patch_height / 2, 0, height - patch_height).astype(int)
    corners = sorted(set(zip(left.tolist(), top.tolist(), strict=True)))
    return [Box(x, y, patch_width, patch_height) for x, y in corners]

"""Detection of tissue on the thumbnail of a slide.

There are two masks. The one that is searched for nuclei is generous, since a piece of glass taken for tissue costs
seconds, and a piece of tissue taken for glass costs nuclei. The one whose area counts is the outline of the tissue.
Ink belongs to neither.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.errors import UnsupportedSlideError
from wsipsm.facts import TissueFacts
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.stain import Vector, estimate_background
from wsipsm.tissue.ink import find_ink, ink_on_tissue
from wsipsm.tissue.outline import STAINED_OD, close_and_fill, extremes, grow, mean_and_spread, outline_tissue

_SMOOTHING_PX0 = 6.0
_SPECK_PX0 = 60.0
_CLOSING_PX0 = 150.0
_LARGEST_HOLE_PX0 = 500.0
_MARGIN_PX0 = 120.0
"""Lengths in level-0 pixels, for slides of 0.25 to 0.5 um/px: gaps of 75 to 150 um are closed, and a margin of 30 to
60 um is added."""
_WHOLE_FROM = 0.85
_WHOLE_CROP_FROM = 0.7
"""Share of a slide, and of a crop, that the mask must cover for the whole image to be searched."""
_CROP_PX0 = 4096
"""Longest side of a crop that somebody chose, whose pale parts are more likely stroma than glass."""
_DARK_FROM_PX0_PER_PIXEL = 3.0
"""Scale from which black is no tissue; on finer thumbnails single nuclei are as dark."""
_ASSUMED_MPP = 0.25
"""Pixel size, um/px, that is assumed for the sizes of ink and of gaps in tissue where a slide states none."""
_DARK_LEVEL = 60
"""Grey level of the brightest channel below which a pixel is black."""

Mask = NDArray[np.bool_]

ALL_NUCLEI = "all nuclei"
"""Name of the region when nobody drew one; it includes stroma and lymphocytes."""


@dataclass(frozen=True)
class TissueMask:
    """Tissue as a raster at thumbnail scale; a ``Region`` (see ``wsipsm.region``)."""

    mask: Mask
    """Pixels in which nuclei are searched and count, shape (height, width): tissue with a margin, without ink."""
    px0_per_pixel: float
    """Level-0 pixels per mask pixel."""
    note: str | None
    """Note for the user where no tissue was found, or the whole image was taken; else None."""
    tissue: Mask
    """Pixels of tissue, inside ``mask``, shape (height, width); areas and densities refer to it."""
    ink_fraction: float = 0.0
    """Share of the tissue that is covered by ink, 0..1; ink is left out of both masks."""
    name: str = ALL_NUCLEI
    origin_px0: tuple[int, int] = (0, 0)
    """x, y at level 0 of the mask's corner, which is that of the part of the canvas that holds pixels."""

    def touches(self, box_px0: Box) -> bool:
        """Check whether a level-0 box has a point in common with the part that is searched."""
        height, width = self.mask.shape
        s = self.px0_per_pixel
        box_px0 = box_px0.shift(-self.origin_px0[0], -self.origin_px0[1])
        if box_px0.area == 0 or box_px0.right <= 0 or box_px0.bottom <= 0:
            return False
        left, top = int(max(0, box_px0.x) / s), int(max(0, box_px0.y) / s)
        if left > width or top > height:
            return False
        # Rounding of the thumbnail's size can leave a sliver of slide beyond the mask; it belongs to the edge pixels.
        left, top = min(left, width - 1), min(top, height - 1)
        bottom, right = max(top + 1, math.ceil(box_px0.bottom / s)), max(left + 1, math.ceil(box_px0.right / s))
        return bool(np.any(self.mask[top:bottom, left:right]))

    def contains(self, xy_px0: NDArray[np.float64]) -> Mask:
        """Check which points lie in the part that is searched.

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

    @property
    def fraction(self) -> float:
        """Share of the picture that is tissue, 0..1."""
        return float(self.tissue.mean()) if self.tissue.size else 0.0

    def area_px0(self) -> float:
        """Compute the area of the tissue in level-0 pixels."""
        return float(self.tissue.sum()) * self.px0_per_pixel**2

    def areas_in(self, boxes_px0: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute the area of tissue in each box.

        Parameters
        ----------
        boxes_px0
            Left, top, right, bottom, level-0 pixels, shape (m, 4).

        Returns
        -------
        Areas in level-0 pixels, shape (m,).
        """
        height, width = self.mask.shape
        summed = np.zeros((height + 1, width + 1))
        np.cumsum(np.cumsum(self.tissue, axis=0), axis=1, out=summed[1:, 1:])
        boxes = (np.asarray(boxes_px0, dtype=np.float64).reshape(-1, 4) - self.origin_px0 * 2) / self.px0_per_pixel
        left, top, right, bottom = boxes.T

        def area_to(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
            # The cumulative sum is interpolated bilinearly, so that parts of pixels count by their area.
            at = np.stack([np.clip(y, 0, height), np.clip(x, 0, width)])
            return np.asarray(ndimage.map_coordinates(summed, at, order=1), dtype=np.float64)

        areas = area_to(right, bottom) - area_to(left, bottom) - area_to(right, top) + area_to(left, top)
        return np.maximum(areas, 0.0) * self.px0_per_pixel**2

    def to_polygons(self) -> shapely.Polygon | shapely.MultiPolygon:
        """Return the outline of the part that is searched, level-0 pixels; it may be empty."""
        return self._outline(self.mask)

    def to_ground(self) -> shapely.Polygon | shapely.MultiPolygon:
        """Return the outline of the tissue, whose area counts, level-0 pixels; it may be empty."""
        return self._outline(self.tissue)

    def _outline(self, mask: Mask) -> shapely.Polygon | shapely.MultiPolygon:
        padded = np.pad(mask.astype(np.int8), ((0, 0), (1, 1)))
        step = np.diff(padded, axis=1)
        row, left = np.nonzero(step == 1)
        right = np.nonzero(step == -1)[1]
        corners = np.stack([left, row, right, row + 1], axis=1) * self.px0_per_pixel + self.origin_px0 * 2
        shape = shapely.union_all(shapely.box(*corners.T))
        return shape if isinstance(shape, (shapely.Polygon, shapely.MultiPolygon)) else shapely.MultiPolygon()

    def to_picture(self) -> NDArray[np.uint8]:
        """Return both masks as one grey picture: 255 tissue, 128 the margin that was searched around it, 0 neither."""
        return np.where(self.tissue, 255, np.where(self.mask, 128, 0)).astype(np.uint8)

    @classmethod
    def from_picture(cls, picture: NDArray[np.uint8], stored: TissueFacts) -> Self:
        """Make the mask from the results of :meth:`to_picture` and :meth:`facts`."""
        return cls(
            mask=picture > 0,
            px0_per_pixel=float(stored.px0_per_pixel),
            note=stored.note,
            tissue=picture == 255,
            ink_fraction=float(stored.ink_fraction),
            origin_px0=stored.origin_px0,
        )

    def facts(self) -> TissueFacts:
        """Return area, shares and origin as JSON files store them; ``hash`` identifies the masks."""
        digest = hashlib.sha256(f"{self.mask.shape} {self.px0_per_pixel!r} {self.origin_px0}".encode())
        digest.update(np.packbits(self.mask).tobytes())
        digest.update(np.packbits(self.tissue).tobytes())
        return TissueFacts(
            kind="tissue",
            name=self.name,
            area_px0=self.area_px0(),
            n_parts=int(cv2.connectedComponents(self.tissue.astype(np.uint8), connectivity=8)[0]) - 1,
            fraction=self.fraction,
            ink_fraction=self.ink_fraction,
            px0_per_pixel=self.px0_per_pixel,
            origin_px0=self.origin_px0,
            note=self.note,
            hash=digest.hexdigest()[:16],
        )


def find_tissue(
    thumbnail: NDArray[np.uint8], px0_per_pixel: float, slide_size: Size, mpp: float | None = None
) -> TissueMask:
    """Find tissue on a thumbnail of a brightfield slide.

    Pixels that absorb more than glass are tissue, unless they are black or have the hue of ink. Nuclei are searched in
    tissue and in a margin around it; the area is that of the outline of the tissue. An image with little or no glass is
    searched whole, and so is one without tissue, with a note. An image that is nearly all black gives empty masks and a
    note.

    Parameters
    ----------
    thumbnail
        RGB of the whole slide, shape (height, width, 3), uint8.
    px0_per_pixel
        Level-0 pixels per thumbnail pixel.
    slide_size
        Level-0 size.
    mpp
        Level-0 pixel size, um/px, for the sizes of ink and of gaps in tissue; None: 0.25.

    Examples
    --------
    >>> thumbnail = np.full((200, 200, 3), 240, np.uint8)
    >>> thumbnail[50:150, 50:150] = (180, 120, 160)
    >>> tissue = find_tissue(thumbnail, 32.0, Size(6400, 6400), mpp=0.5)
    >>> tissue.contains(np.array([[3200.0, 3200.0], [10.0, 10.0]])).tolist()
    [True, False]
    """
    _require_whole(thumbnail, px0_per_pixel, slide_size)
    dark = extremes(thumbnail)[1] < _DARK_LEVEL
    if (lit := _missing_light(thumbnail, dark)) is not None:
        black = (
            f"tissue: {dark.mean():.0%} of the slide is black and {lit:.1%} of the rest is light; brightfield tissue "
            "lies on light glass, so no tissue was taken. Pass --roi to choose a region by hand."
        )
        nothing = np.zeros(dark.shape, dtype=np.bool_)
        return TissueMask(nothing, px0_per_pixel, black, nothing)
    pixels = thumbnail.reshape(-1, 3)
    glass, seen = estimate_background(pixels[np.flatnonzero(~dark)] if dark.any() else pixels)
    if not seen:
        # A dark border is no tissue, so only an image without one is taken whole.
        mask = ~np.zeros_like(dark) if dark.mean() < 0.05 else _close_and_widen(~grow(dark, 2), px0_per_pixel)
        all_taken = "tissue: no bright glass in the picture; all of it was taken."
        return TissueMask(mask, px0_per_pixel, all_taken, mask)
    um_per_pixel = px0_per_pixel * (mpp or _ASSUMED_MPP)
    ink = find_ink(thumbnail, um_per_pixel, glass)
    is_crop = max(slide_size.width, slide_size.height) <= _CROP_PX0
    searched, note = _searched(thumbnail, dark, ink, glass, px0_per_pixel, is_crop)
    outline = outline_tissue(thumbnail, um_per_pixel, glass)
    if px0_per_pixel >= _DARK_FROM_PX0_PER_PIXEL:
        outline &= ~grow(dark, 3)
    mask = searched & ~ink
    tissue = outline & mask
    n_covered = int(ink_on_tissue(ink, outline).sum())
    covered = n_covered / max(1, n_covered + int(tissue.sum()))
    # Where no outline is found, the searched mask is the best estimate of the tissue.
    return TissueMask(mask, px0_per_pixel, note, tissue if tissue.any() else mask, covered)


def _require_whole(thumbnail: NDArray[np.uint8], px0_per_pixel: float, slide_size: Size) -> None:
    height, width = thumbnail.shape[:2]
    off = max(abs(width * px0_per_pixel - slide_size.width), abs(height * px0_per_pixel - slide_size.height))
    if off > 2 * px0_per_pixel + 1:
        raise ValueError(
            f"thumbnail: {width}x{height} px at {px0_per_pixel:.3g} level-0 px each; "
            f"a slide of {slide_size.width}x{slide_size.height} px is meant."
        )


def _searched(
    thumbnail: NDArray[np.uint8], dark: Mask, ink: Mask, glass: Vector, px0_per_pixel: float, is_crop: bool
) -> tuple[Mask, str | None]:
    """Find the mask that is searched, with the ink that tissue surrounds; and a note where no tissue was found."""
    stained = _stained(thumbnail, glass, px0_per_pixel)
    if px0_per_pixel >= _DARK_FROM_PX0_PER_PIXEL:
        stained &= ~grow(dark | ink, 3)
    mask = _close_and_widen(_without_specks(stained, thumbnail, glass, px0_per_pixel), px0_per_pixel)
    whole = np.ones(dark.shape, dtype=np.bool_)
    if not mask.any():
        return whole, "tissue: none found on the thumbnail; the whole slide was searched."
    return (whole if mask.mean() >= (_WHOLE_CROP_FROM if is_crop else _WHOLE_FROM) else mask), None


def find_slide_tissue(info: SlideInfo, thumbnail: NDArray[np.uint8], px0_per_pixel: float) -> TissueMask:
    """Find tissue on the thumbnail of the part of a slide that holds pixels (``SlideFrame.content``).

    Parameters
    ----------
    info
        Facts about the slide.
    thumbnail, px0_per_pixel
        The same as in :func:`find_tissue`.
    """
    content = SlideFrame.of(info).content
    tissue = find_tissue(thumbnail, px0_per_pixel, Size(content.width, content.height), info.mpp)
    return replace(tissue, origin_px0=(content.x, content.y))


def refuse_fluorescence(thumbnail: NDArray[np.uint8], path: str) -> None:
    """Refuse a fluorescence slide: a dark field on which one colour glows.

    Parameters
    ----------
    thumbnail
        RGB, shape (height, width, 3), uint8.
    path
        Path that the message names.

    Raises
    ------
    UnsupportedSlideError
        When it is one. A grey or many-coloured label image, or a dark border of the scanner, passes.
    """
    darkest, brightest = extremes(thumbnail)
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
    """Compute the share of light grey among the pixels of a mostly black image that are not black.

    It is None when the image is not mostly black, or the share is high enough.
    """
    if dark.mean() < 0.5:
        return None
    rest = thumbnail[~dark]
    darkest, brightest = rest.min(axis=1), rest.max(axis=1)
    light = float(np.mean((darkest > 150) & (brightest - darkest < 60))) if len(rest) else 0.0
    return light if light < 0.1 else None


def _stained(thumbnail: NDArray[np.uint8], glass: tuple[float, float, float], px0_per_pixel: float) -> Mask:
    """Find the pixels that absorb more than glass; colour weighs more than grey, which may be dust or shade."""
    sigma = max(0.7, _SMOOTHING_PX0 / px0_per_pixel)
    smooth = cv2.GaussianBlur(thumbnail, (0, 0), sigma)
    mean, spread = mean_and_spread(np.asarray(smooth, dtype=np.uint8), glass)
    return np.asarray(mean + spread > STAINED_OD, dtype=np.bool_)


def _without_specks(stained: Mask, thumbnail: NDArray[np.uint8], glass: Vector, px0_per_pixel: float) -> Mask:
    """Remove dust, and thin grey lines such as edges of glass."""
    places = np.flatnonzero(stained)
    if not len(places):
        return stained
    count, labels, stats, _ = cv2.connectedComponentsWithStats(stained.astype(np.uint8), connectivity=8)
    owners = labels.ravel()[places].astype(np.intp)
    mean, spread = mean_and_spread(thumbnail.reshape(-1, 3)[places], glass)
    grey = np.bincount(owners, spread, count) < 0.25 * np.bincount(owners, mean, count)
    keep = stats[:, cv2.CC_STAT_AREA] >= max(3.0, (_SPECK_PX0 / px0_per_pixel) ** 2)
    doubtful = (keep & grey)[owners]
    if doubtful.any():
        distance = cv2.distanceTransform(stained.astype(np.uint8), cv2.DIST_L2, 5)
        half_width = np.zeros(count, dtype=distance.dtype)
        np.maximum.at(half_width, owners[doubtful], distance.ravel()[places[doubtful]])
        longer = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
        keep &= ~(grey & (half_width.astype(np.float64) < 0.12 * longer))
    keep[0] = False
    return np.asarray(keep[labels], dtype=np.bool_)


def _close_and_widen(mask: Mask, px0_per_pixel: float) -> Mask:
    """Close gaps, fill small holes, and add the margin that is searched."""
    filled = close_and_fill(mask, _CLOSING_PX0 / px0_per_pixel, (_LARGEST_HOLE_PX0 / px0_per_pixel) ** 2)
    return grow(filled, max(1.0, _MARGIN_PX0 / px0_per_pixel))

"""Draws the nuclei that were found over the slide's thumbnail.

The style depends on how large nuclei are in the picture: outlines where these can be seen, dots where single nuclei can
be told apart, and otherwise a density map that is coloured by the share of positive nuclei.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from wsipsm.keys import Column, NucleusClass

COLOURS: dict[str, tuple[int, int, int]] = {
    NucleusClass.POSITIVE.value: (226, 26, 28),
    NucleusClass.NEGATIVE.value: (38, 84, 222),
    NucleusClass.NUCLEUS.value: (0, 140, 70),
}
"""Colours of classes, stronger than QuPath's pale ones, which are hard to see on tissue."""
_HEAT = np.array([[38, 84, 222], [60, 170, 200], [250, 210, 60], [245, 120, 30], [200, 10, 20]], np.float64)
"""Colours of 0, 10, 25, 50 and 100 % positive."""
_HEAT_AT = np.array([0.0, 0.10, 0.25, 0.50, 1.0])
_MIN_OUTLINE_PX = 7.0
"""Median diameter of nuclei, picture pixels, from which outlines are drawn, since they can be seen."""
_MAX_CROWDING = 0.06
"""Largest number of nuclei per pixel of the occupied part for which dots are drawn; above it they would overlap."""
_MIN_WIDTH_PX = 720
_REGION_COLOUR = (20, 20, 20)
CAPTION_LINES = 3
_WHITE = (255, 255, 255)
_PALE = 0.45
"""Opacity, 0 to 1, of the white layer between the thumbnail and dots or density map."""


class OverviewCanvas:
    """Picture to which nuclei are added in batches; its memory does not grow with their number.

    Parameters
    ----------
    thumbnail
        RGB, uint8, shape (h, w, 3). A small slide needs a large one: at 3000 px, outlines are
        drawn on slides up to about 1 mm wide.
    px0_per_pixel
        Level-0 pixels per thumbnail pixel.
    region_outline
        Region in level-0 pixels whose outline is drawn; None draws none.
    mpp
        Level-0 pixel size, um/px, for a scale bar; None leaves it out.
    origin_px0
        Position x, y of the thumbnail's corner, level-0 pixels.
    """

    def __init__(
        self,
        thumbnail: NDArray[np.uint8],
        px0_per_pixel: float,
        region_outline: shapely.Geometry | None = None,
        mpp: float | None = None,
        origin_px0: tuple[int, int] = (0, 0),
    ) -> None:
        self._origin = origin_px0
        self._tissue = np.ascontiguousarray(thumbnail)
        self._drawn = self._tissue.copy()
        self._scale = px0_per_pixel
        self._region = region_outline
        self._mpp = mpp
        height, width = thumbnail.shape[:2]
        self._counts = {name: np.zeros((height, width), np.int32) for name in COLOURS}
        self._with_outlines: bool | None = None

    @property
    def n_by_class(self) -> dict[str, int]:
        """Number of nuclei added so far by class, without classes that do not occur."""
        counts = {name: int(count.sum()) for name, count in self._counts.items()}
        return {name: n for name, n in counts.items() if n}

    def add(self, table: pa.Table) -> None:
        """Add nuclei.

        Parameters
        ----------
        table
            Columns of ``keys.Column``; class, centroids and geometry are used.
        """
        if not table.num_rows:
            return
        classes = table.column(Column.CLASS.value).to_numpy(zero_copy_only=False)
        x = (table.column(Column.CENTROID_X_PX0.value).to_numpy() - self._origin[0]) / self._scale
        y = (table.column(Column.CENTROID_Y_PX0.value).to_numpy() - self._origin[1]) / self._scale
        height, width = self._tissue.shape[:2]
        column = np.clip(x.astype(np.intp), 0, width - 1)
        row = np.clip(y.astype(np.intp), 0, height - 1)
        place = row * width + column
        for name, count in self._counts.items():
            np.add.at(count.reshape(-1), place[classes == name], 1)  # numpy adds to a flat array ten times as fast
        if self._with_outlines is not False:
            self._add_outlines(table, classes)

    def _total(self) -> NDArray[np.int32]:
        total: NDArray[np.int32] = np.sum(list(self._counts.values()), axis=0, dtype=np.int32)
        return total

    def _add_outlines(self, table: pa.Table, classes: NDArray[np.object_]) -> None:
        polygons = shapely.from_wkb(table.column(Column.GEOMETRY.value).to_numpy(zero_copy_only=False))
        if self._with_outlines is None:
            diameter = 2 * np.sqrt(np.median(shapely.area(polygons)) / np.pi) / self._scale
            self._with_outlines = bool(diameter >= _MIN_OUTLINE_PX)
        if not self._with_outlines:
            return
        thickness = 2 if self._scale < 1.5 else 1
        for name, colour in COLOURS.items():
            rings = _pixel_rings(polygons[classes == name], self._scale, self._origin)
            cv2.polylines(self._drawn, rings, True, colour, thickness, cv2.LINE_AA, shift=4)

    def save(self, path: str | Path, caption: str, about: Mapping[str, str] | None = None) -> None:
        """Write the picture as PNG.

        Parameters
        ----------
        path
            File to write.
        caption
            Lines below the picture, at most ``CAPTION_LINES``; a line that is too long is cut.
        about
            Names and texts that are stored in the file's metadata.

        Raises
        ------
        OSError
            When the file cannot be written.
        """
        facts = PngInfo()
        for name, text in (about or {}).items():
            facts.add_text(name, text)
        if self._with_outlines or not self.n_by_class:
            panels, legend = [self._drawn], self._class_legend()
        else:
            pale = _paled(self._tissue)
            total = self._total()
            occupied = cv2.dilate((total > 0).astype(np.uint8), np.ones((9, 9), np.uint8))
            crowding = total.sum() / max(1, int(occupied.sum()))
            if crowding <= _MAX_CROWDING:
                panels, legend = [self._tissue.copy(), self._with_dots(pale)], self._class_legend()
            else:
                panels, legend = [self._tissue.copy(), self._with_heat(pale, total)], self._heat_legend()
        for panel in panels:
            self._draw_region(panel)
        picture = _beside(panels)
        with _captioned(picture, caption, legend, self._scale_bar()) as image:
            image.save(path, format="PNG", compress_level=4, pnginfo=facts)

    def _with_dots(self, ground: NDArray[np.uint8]) -> NDArray[np.uint8]:
        total = self._total()
        # The radius is a quarter of the mean gap between neighbours, so that dots of separate nuclei do not touch.
        gap = math.sqrt(np.count_nonzero(cv2.dilate((total > 0).astype(np.uint8), np.ones((9, 9)))) / total.sum())
        radius = int(np.clip(round(gap / 4), 1, 4))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        picture = ground
        # Positives are drawn last, so that few red dots are not hidden below many blue ones.
        for name in (NucleusClass.NUCLEUS, NucleusClass.NEGATIVE, NucleusClass.POSITIVE):
            nuclei = self._counts[name] > 0
            if not nuclei.any():
                continue
            dots = cv2.dilate(nuclei.astype(np.uint8), disc).astype(np.float32)
            cover = cv2.GaussianBlur(dots, (0, 0), 0.6)
            picture = _blend(picture, np.array(COLOURS[name]), cover)
        return picture

    def _with_heat(self, ground: NDArray[np.uint8], total: NDArray[np.int32]) -> NDArray[np.uint8]:
        sigma = max(self._tissue.shape[:2]) / 250
        density = cv2.GaussianBlur(total.astype(np.float32), (0, 0), sigma)
        positive = cv2.GaussianBlur(self._counts[NucleusClass.POSITIVE].astype(np.float32), (0, 0), sigma)
        if self._counts[NucleusClass.NUCLEUS].any():
            colour = np.broadcast_to(np.array(COLOURS[NucleusClass.NUCLEUS]), (*total.shape, 3))
        else:
            share = positive / np.maximum(density, 1e-6)
            colour = np.stack([np.interp(share, _HEAT_AT, _HEAT[:, channel]) for channel in range(3)], axis=-1)
        full = float(np.quantile(density[total > 0], 0.5))
        return _blend(ground, colour, 0.9 * np.clip(density / max(full, 1e-6), 0, 1))

    def _draw_region(self, panel: NDArray[np.uint8]) -> None:
        if self._region is None or shapely.is_empty(self._region):
            return
        parts = shapely.get_parts(self._region)
        areas = parts[np.isin(shapely.get_type_id(parts), (3, 6))]
        rings = _pixel_rings(areas, self._scale, self._origin)
        cv2.polylines(panel, rings, True, _REGION_COLOUR, 2, cv2.LINE_AA, shift=4)

    def _class_legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        return [(f"{name} {n:,}", COLOURS[name]) for name, n in self.n_by_class.items()]

    def _heat_legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        if self._counts[NucleusClass.NUCLEUS].any():
            return [("density of nuclei", COLOURS[NucleusClass.NUCLEUS])]
        colours = [tuple(int(v) for v in colour) for colour in _HEAT]
        return [
            (f"{share:.0%} positive" if not index else f"{share:.0%}", (colour[0], colour[1], colour[2]))
            for index, (share, colour) in enumerate(zip(_HEAT_AT, colours, strict=True))
        ]

    def _scale_bar(self) -> tuple[int, str] | None:
        """Choose a round length, about a sixth of the picture, and return it in pixels and as text."""
        if self._mpp is None:
            return None
        um_per_pixel = self._mpp * self._scale
        wanted = self._tissue.shape[1] * um_per_pixel / 6
        power = 10.0 ** math.floor(math.log10(wanted))
        length = max(step * power for step in (1, 2, 5) if step * power <= wanted)
        text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"
        return round(length / um_per_pixel), text


def write_overview(
    path: str | Path,
    thumbnail: NDArray[np.uint8],
    px0_per_pixel: float,
    tables: Iterable[pa.Table],
    caption: str,
    *,
    region_outline: shapely.Geometry | None = None,
    mpp: float | None = None,
) -> None:
    """Draw nuclei over a thumbnail and write the picture as PNG.

    Parameters
    ----------
    path
        File to write.
    thumbnail, px0_per_pixel, region_outline, mpp
        The same as in :class:`OverviewCanvas`.
    tables
        Batches of nuclei, columns of ``keys.Column``.
    caption
        One line below the picture.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    canvas = OverviewCanvas(thumbnail, px0_per_pixel, region_outline, mpp)
    for table in tables:
        canvas.add(table)
    canvas.save(path, caption)


def _pixel_rings(
    polygons: NDArray[np.object_], px0_per_pixel: float, origin_px0: tuple[int, int]
) -> list[NDArray[np.int32]]:
    """Convert rings to sixteenths of a picture pixel, OpenCV's frame, in which the first pixel's centre is 0."""
    rings = shapely.get_rings(polygons)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    points = np.rint(((xy - origin_px0) / px0_per_pixel - 0.5) * 16).astype(np.int32)
    return np.split(points, np.flatnonzero(np.diff(ring)) + 1) if len(points) else []


def _paled(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend a picture with white, by a lookup table, since each output value depends on one input value."""
    values = np.arange(256, dtype=np.uint8)[:, None, None]
    table = _blend(values, np.array(_WHITE[:1]), np.full(values.shape[:2], _PALE))
    return np.asarray(cv2.LUT(picture, table.ravel()), dtype=np.uint8)


def _blend(ground: NDArray[np.uint8], colour: NDArray[Any], cover: NDArray[Any]) -> NDArray[np.uint8]:
    """Blend a picture with a colour, shape (3,) or (h, w, 3), by an opacity of 0..1, shape (h, w)."""
    share = np.asarray(cover, dtype=np.float32)[..., None]
    mixed = ground * (1 - share) + colour.astype(np.float32) * share
    return np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.uint8)


def _beside(panels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Join panels side by side, or one below the other when they are wide, with a white gap."""
    height, width = panels[0].shape[:2]
    axis = 1 if width <= 1.3 * height else 0
    gap = np.full((height, 12, 3) if axis else (12, width, 3), 255, np.uint8)
    joined = [panels[0]]
    for panel in panels[1:]:
        joined += [gap, panel]
    return np.concatenate(joined, axis=axis)


def caption_px(width: int) -> int:
    """Compute the height in pixels of the strip with caption, legend and scale bar below a picture of this width."""
    text_px, pad = _text_and_pad(width)
    return (CAPTION_LINES + 1) * round(text_px * 1.5) + 2 * pad


def _text_and_pad(width: int) -> tuple[int, int]:
    text_px = int(np.clip(width / 70, 14, 40))
    return text_px, text_px // 2


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Cut a text to a width in pixels."""
    while font.getlength(text) > width and len(text) > 8:
        text = text[: int(len(text) * 0.97) - 4].rstrip(" ,;.…") + "…"
    return text


def _captioned(
    picture: NDArray[np.uint8],
    caption: str,
    legend: list[tuple[str, tuple[int, int, int]]],
    scale_bar: tuple[int, str] | None,
) -> Image.Image:
    """Put a white strip with caption, legend and scale bar below a picture."""
    height, width = picture.shape[:2]
    full_width = max(width, _MIN_WIDTH_PX)
    text_px, pad = _text_and_pad(full_width)
    line = round(text_px * 1.5)
    font = ImageFont.load_default(size=text_px)
    image = Image.new("RGB", (full_width, height + caption_px(full_width)), _WHITE)
    image.paste(Image.fromarray(picture), ((full_width - width) // 2, 0))
    draw = ImageDraw.Draw(image)
    lines = caption.splitlines()[:CAPTION_LINES]
    for number, text in enumerate(lines):
        shown = _shortened(text, font, full_width - 2 * pad)
        draw.text((pad, height + pad + number * line), shown, fill=(20, 20, 20), font=font)
    x, y = float(pad), height + pad + len(lines) * line
    for text, colour in legend:
        draw.ellipse((x, y + text_px * 0.2, x + text_px * 0.8, y + text_px), fill=colour)
        draw.text((x + text_px * 1.1, y), text, fill=(60, 60, 60), font=font)
        x += text_px * 2.2 + font.getlength(text)
    if scale_bar is not None:
        length, text = scale_bar
        right = full_width - pad
        draw.rectangle((right - length, y + text_px * 0.5, right, y + text_px * 0.7), fill=(20, 20, 20))
        draw.text((right - length - pad - font.getlength(text), y), text, fill=(60, 60, 60), font=font)
    return image

"""Slides through OpenSlide: SVS, NDPI, MRXS, SCN, BIF, Philips, DICOM and generic tiled TIFF."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from wsipsm.codecs.rgb import compose_over_white, ycbcr_to_rgb
from wsipsm.codecs.tiff_directory import find_cut
from wsipsm.codecs.tile_grid import TileError
from wsipsm.errors import SlideOpenError, UnsupportedSlideError
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import SlideImage, SlideInfo
from wsipsm.slide.bounds import parse_bounds
from wsipsm.slide.colour import WrongPhotometric, find_wrong_dicom_photometric, find_wrong_tiff_photometric
from wsipsm.slide.fingerprint import series_in_folder
from wsipsm.slide.pixel_size import StatedMpp, choose_mpp, stated_by_tags, stated_mpp, um_per_unit
from wsipsm.slide.reader import (
    ReaderSlide,
    parse_number,
    shrinking_levels,
    to_sizes,
)
from wsipsm.slide.readers.tiff import find_impossible_size
from wsipsm.slide.readers.vendor_tiles import VendorTiles, keep_agreeing_levels, open_vendor_tiles
from wsipsm.text import clean_text

CHUNK_PX = 512
"""Side of the squares in which a level of fractional downsample is read, level pixels."""

DARK = 100
"""Median of each pixel's brightest channel below which a slide that names an excitation filter is fluorescence."""

_JPEG_TIFF_VENDORS = ("aperio", "generic-tiff", "leica", "philips", "trestle", "ventana")
_ASSOCIATED = re.compile(r"openslide\.associated\.(.+)\.width")
_SIDES = ("width", "height")
_VENDOR_NAMES = {"aperio": "Aperio", "dicom": "DICOM", "hamamatsu": "Hamamatsu", "leica": "Leica", "mirax": "MIRAX"}
_EPIFLUORESCENCE = "111743"  # DICOM code of the illumination type


class OpenSlideSlide(ReaderSlide):
    """A slide that OpenSlide opens.

    Parameters
    ----------
    path
        The slide file, or a folder that holds one DICOM series.
    mpp
        Pixel size in um/px that overrides the file's.

    Raises
    ------
    SlideOpenError
        When OpenSlide does not open it; the message is the reason alone.
    UnsupportedSlideError
        When it is a fluorescence slide.
    """

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        self._file = series_in_folder(path)[0] if path.is_dir() else path
        impossible = find_impossible_size(self._file)
        if impossible:
            raise SlideOpenError(impossible)
        self._handle: openslide.OpenSlide | None = _open_handle(self._file)
        try:
            info = self._describe(path, self._handle, mpp)
        except BaseException:
            self._handle.close()
            raise
        self._tiles: VendorTiles | None = None
        self._was_read = False
        super().__init__(info)

    def _describe(self, path: Path, handle: openslide.OpenSlide, mpp: float | None) -> SlideInfo:
        properties = handle.properties
        vendor = properties.get("openslide.vendor")
        _refuse_fluorescence(path, handle)
        self._all_sizes = to_sizes(handle.level_dimensions)
        self._level_index = shrinking_levels(handle.level_dimensions)
        sizes = tuple(self._all_sizes[index] for index in self._level_index)
        self._downsamples = [handle.level_downsamples[index] for index in self._level_index]
        cut = find_cut(self._file) if vendor == "generic-tiff" else None
        if cut:
            # OpenSlide checks the directories of vendors' formats; of another TIFF it opens what the cut has left.
            raise SlideOpenError(cut)
        wrong: WrongPhotometric | None = None
        if vendor == "dicom":
            wrong = find_wrong_dicom_photometric(self._file)
        elif vendor in _JPEG_TIFF_VENDORS:
            wrong = find_wrong_tiff_photometric(self._file, sizes[0].width, sizes[0].height)
        if wrong == "rgb taken for ycbcr":
            # OpenSlide's conversion then clips colours, so it cannot be undone.
            raise SlideOpenError(
                "the photometric tag says YCbCr, the tiles are RGB; OpenSlide would show wrong colours"
            )
        self._convert_ycbcr = wrong is not None
        notes = ["the photometric tag says RGB, the JPEG tiles are YCbCr; colours were corrected"] if wrong else []
        power = parse_number(properties.get("openslide.objective-power"))
        used, statements = choose_mpp(_find_stated_mpp(properties), mpp, power)
        bounds, bounds_note = parse_bounds(properties, sizes[0])
        notes += [bounds_note] if bounds_note else []
        return SlideInfo(
            path=str(path),
            reader="openslide",
            level_sizes=sizes,
            mpp=used,
            bounds=bounds,
            vendor=vendor,
            objective_power=power,
            associated=_associated(properties),
            mpp_statements=statements,
            notes=tuple(notes),
        )

    def _read_inside(self, level: int, box: Box) -> NDArray[np.uint8]:
        if not self._was_read:
            self._was_read = True
            self._open_tiles()
        if self._tiles is not None and level in self._tiles.grids:
            try:
                return self._tiles.read(level, box)
            except TileError:
                pass  # OpenSlide reads the box instead, or raises the error that is reported.
        return self._read_by_openslide(level, box)

    def _open_tiles(self) -> None:
        """Find the levels whose tiles are decoded here; only the first read calls this, since it decodes some tiles."""
        if self._convert_ycbcr:
            return  # The effect of a wrong tag is known for OpenSlide's pixels only, which are corrected when read.
        self._tiles = open_vendor_tiles(self._file, self._info.vendor, self._all_sizes, self._level_index)
        if self._tiles is not None:
            keep_agreeing_levels(self._tiles, self._info.level_sizes, self._downsamples, self._read_region)

    def _read_by_openslide(self, level: int, box: Box) -> NDArray[np.uint8]:
        downsample = self._downsamples[level]
        if downsample == round(downsample):
            return self._read_region(level, box)
        # OpenSlide takes the origin in whole level-0 pixels. Where the downsample is fractional the origin is rounded
        # and the tiles are shifted by a fraction of a pixel, so that a pixel would depend on the box it was read in.
        # Squares at fixed places make it depend on its own place only.
        out = np.empty((box.height, box.width, 3), np.uint8)
        size = self._info.level_sizes[level]
        whole = Box(0, 0, size.width, size.height)
        for y in range(box.y // CHUNK_PX * CHUNK_PX, box.bottom, CHUNK_PX):
            for x in range(box.x // CHUNK_PX * CHUNK_PX, box.right, CHUNK_PX):
                # Pixels right of the box or below it are left out: only the origin of a read determines the shift.
                chunk = Box(x, y, CHUNK_PX, CHUNK_PX).intersect(whole)
                part = chunk.intersect(box)
                pixels = self._read_region(level, Box.from_edges(chunk.x, chunk.y, part.right, part.bottom))
                out[part.y - box.y : part.bottom - box.y, part.x - box.x : part.right - box.x] = pixels[
                    part.y - chunk.y :, part.x - chunk.x :
                ]
        return out

    def _read_region(self, level: int, box: Box) -> NDArray[np.uint8]:
        if self._handle is None:
            self._handle = self._reopen(box, level)
        downsample = self._downsamples[level]
        location = (round(box.x * downsample), round(box.y * downsample))
        try:
            image = self._handle.read_region(location, self._level_index[level], (box.width, box.height))
        except openslide.OpenSlideError as error:
            # After an error OpenSlide refuses every further read through the same handle; a new one works.
            self._handle.close()
            self._handle = None
            raise self._undecodable(level, box, error) from error
        rgba = np.asarray(image)
        if self._convert_ycbcr:
            rgba = np.dstack((ycbcr_to_rgb(rgba[..., :3]), rgba[..., 3]))
        return compose_over_white(rgba)

    def _reopen(self, box: Box, level: int) -> openslide.OpenSlide:
        try:
            return _open_handle(self._file)
        except SlideOpenError as error:
            raise self._undecodable(level, box, error) from error

    def _release(self) -> None:
        if self._tiles is not None:
            self._tiles.close()
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def is_vendor_slide(path: Path) -> bool:
    """Check whether OpenSlide recognises a vendor's format or DICOM in the file, not merely a tiled TIFF."""
    return openslide.OpenSlide.detect_format(path) not in (None, "generic-tiff")


def _open_handle(path: Path) -> openslide.OpenSlide:
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        data_dir = path.with_suffix("")
        if path.suffix.lower() == ".mrxs" and not (data_dir / "Slidedat.ini").is_file():
            raise SlideOpenError(
                f"the MRXS data folder {data_dir.name}/ with Slidedat.ini is missing beside it"
            ) from error
        raise SlideOpenError("no format that OpenSlide knows") from error
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideOpenError(str(error)) from error


def _associated(properties: Mapping[str, str]) -> tuple[SlideImage, ...]:
    """List label, macro and other associated images by the properties that state their sizes, without decoding any."""
    names = sorted({match[1] for key in properties if (match := _ASSOCIATED.fullmatch(key))})
    found = []
    for name in names:
        width, height = (parse_number(properties.get(f"openslide.associated.{name}.{side}")) for side in _SIDES)
        if width and height:
            found.append(SlideImage(clean_text(name, 80), Size(int(width), int(height))))
    return tuple(found)


def _find_stated_mpp(properties: Mapping[str, str]) -> list[StatedMpp]:
    """List the statements about the pixel size: the vendor's own one first, then TIFF resolution tags."""
    vendor = properties.get("openslide.vendor", "unknown")
    mpp_x, mpp_y, per_x, per_y = (
        parse_number(properties.get(name))
        for name in ("openslide.mpp-x", "openslide.mpp-y", "tiff.XResolution", "tiff.YResolution")
    )
    unit = properties.get("tiff.ResolutionUnit", "absent")
    tags = stated_by_tags(per_x, per_y, um_per_unit(unit), unit)
    if vendor == "generic-tiff":
        # OpenSlide computes its own value from the same tags.
        return tags
    return stated_mpp(f"{_VENDOR_NAMES.get(vendor, vendor)} metadata", mpp_x, mpp_y) + tags


def _refuse_fluorescence(path: Path, handle: openslide.OpenSlide) -> None:
    evidence = _fluorescence_evidence(handle.properties)
    if evidence is None:
        return
    level = handle.level_count - 1
    width, height = handle.level_dimensions[level]
    try:
        pixels = np.asarray(handle.read_region((0, 0), level, (min(width, 4096), min(height, 4096))))
    except openslide.OpenSlideError as error:
        raise SlideOpenError(f"its smallest level cannot be decoded: {error}") from error
    # A brightfield scan may have the same metadata when its scanner also does fluorescence.
    if np.median(pixels[..., :3].max(axis=2)) < DARK:
        raise UnsupportedSlideError(
            f"{path}: a fluorescence slide ({evidence}); brightfield (H&E or hematoxylin-DAB) is needed. "
            "Fluorescence is not scored."
        )


def _fluorescence_evidence(properties: Mapping[str, str]) -> str | None:
    for key in properties:
        value = properties.get(key, "")  # a damaged file can list a key without having its value
        text = f"{key}={value}"
        if "ExcitationWaveLength=" in text:
            number = parse_number(text.split("ExcitationWaveLength=")[1].split("\r")[0].split(";")[0])
            if number:
                return f"excitation at {number:g} nm"
        if key.endswith("CodeValue") and value == _EPIFLUORESCENCE:
            return "epifluorescence illumination"
        if "SLIDE_TYPE" in key and "FLUORESCENCE" in value.upper():
            return value
    return None

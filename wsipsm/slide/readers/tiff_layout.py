"""The pages of a TIFF that form the slide, checks that they can be read, and their pixel size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from wsipsm.codecs.tiff_segment import MAX_SEGMENT_PX, SUPPORTED_COMPRESSIONS, segment_size
from wsipsm.errors import SlideOpenError, UnsupportedSlideError
from wsipsm.slide.pixel_size import StatedMpp, stated_by_tags, stated_mpp, um_per_unit
from wsipsm.slide.reader import parse_number, shrinking_levels
from wsipsm.slide.readers.tiff_images import ChosenImage

_GREY, _INVERTED_GREY, _RGB, _PALETTE, _YCBCR = 1, 0, 2, 3, 6
_CONTIGUOUS = 1
_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}
"""Units of TIFF's ResolutionUnit; the last two are not in the standard, but some programs write them."""
_OME = "OME-XML"


def find_levels(chosen: ChosenImage, path: Path) -> list[tifffile.TiffPage]:
    """Find the pages of the slide's levels, level 0 first, and check that their tiles can be read.

    Parameters
    ----------
    chosen
        The image that is the slide.
    path
        Path of the file, for messages.

    Raises
    ------
    SlideOpenError
        When the headers of the pages contradict each other or the file; the message is the reason alone.
    UnsupportedSlideError
        When the image is no single plane of 8-bit grey or RGB.
    """
    tif = chosen.tif
    _require_one_plane(chosen.planes, path, bool(tif.is_ome))
    pages = chosen.pages
    kept = [pages[i] for i in shrinking_levels([(page.imagewidth, page.imagelength) for page in pages])]
    for page in kept:
        require_readable_page(tif, page, path)
    if tif.is_ome and kept[0].samplesperpixel == 1:
        raise UnsupportedSlideError(
            f"{path}: an OME-TIFF of one grey channel, as fluorescence is stored; brightfield RGB is needed. "
            "Fluorescence is not scored."
        )
    return kept


def require_readable_page(tif: tifffile.TiffFile, page: tifffile.TiffPage, path: Path) -> None:
    """Check that the tiles of a page can be read.

    Raises
    ------
    SlideOpenError
        When the header of the page contradicts itself or the file; the message is the reason alone.
    UnsupportedSlideError
        When its samples are not 8-bit grey or RGB.
    """
    _require_readable_samples(page, path)
    _require_sound_segments(tif, page)


def find_stated_mpp(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> list[StatedMpp]:
    """List the statements of a TIFF about its pixel size, the most trusted first.

    OME-XML and Aperio's description come before resolution tags, which are made for printers.
    """
    stated: list[StatedMpp] = []
    if tif.is_ome:
        stated += _stated_by_ome(tif.ome_metadata or "", page)
    if tif.is_svs:
        mpp = parse_number(_aperio_fields(page).get("MPP"))
        stated += stated_mpp("Aperio metadata", mpp, mpp)
    per_x, per_y = (_ratio(page.tags.valueof(name)) for name in ("XResolution", "YResolution"))
    named = (tif.imagej_metadata or {}).get("unit") if tif.is_imagej else None
    if named and per_x and per_y:
        # ImageJ uses the unit of its description, whatever the tag says.
        return stated + _stated_by_imagej(str(named), per_x, per_y)
    tag = page.tags.valueof("ResolutionUnit")
    unit = "absent" if tag is None else _UNITS.get(int(tag), "none")
    um = None if tag is None else um_per_unit(unit)
    return stated + stated_by_tags(per_x, per_y, um, unit)


def objective_power(tif: tifffile.TiffFile) -> float | None:
    """Read the nominal magnification where Aperio's description states it."""
    return parse_number(_aperio_fields(tif.pages.first).get("AppMag")) if tif.is_svs else None


def _require_one_plane(planes: Mapping[str, int], path: Path, is_ome: bool) -> None:
    if not planes:
        return
    if "C" in planes:
        what = f"{planes['C']} separate channels, as fluorescence is stored"
    else:
        what = "several planes (" + ", ".join(f"{axis}={n}" for axis, n in planes.items()) + ")"
    remedy = "If the slide is brightfield, export it as RGB."
    if set(planes) == {"I"}:
        what = f"{planes['I']} pages of one size, planes of a stack or sections"
        remedy = "If each is an image, choose one with --image N."
    kind = "an OME-TIFF" if is_ome else "a TIFF"
    raise UnsupportedSlideError(f"{path}: {kind} with {what}; one plane of brightfield RGB is needed. {remedy}")


def _require_readable_samples(page: tifffile.TiffPage, path: Path) -> None:
    if page.bitspersample != 8 or page.dtype != np.uint8:
        raise UnsupportedSlideError(
            f"{path}: samples of type {page.dtype}, {page.bitspersample} bits; 8-bit brightfield RGB is "
            "needed. Export the slide as 8-bit RGB."
        )
    allowed = {_GREY: (1, 2), _INVERTED_GREY: (1,), _PALETTE: (1,), _RGB: (3, 4), _YCBCR: (3,)}
    photometric, samples = int(page.photometric), int(page.samplesperpixel)
    if samples not in allowed.get(photometric, ()):
        raise SlideOpenError(f"photometric interpretation {photometric} with {samples} samples a pixel")
    if int(page.compression) not in SUPPORTED_COMPRESSIONS:
        raise SlideOpenError(f"compression {int(page.compression)}, which is not read here")
    if page.planarconfig != _CONTIGUOUS and photometric != _RGB:
        raise SlideOpenError("separate sample planes that are not RGB")
    if photometric == _YCBCR and int(page.compression) != 7:
        raise SlideOpenError("YCbCr samples that are not JPEG")
    if int(page.imagedepth) != 1 or int(page.tiledepth or 1) != 1:
        raise SlideOpenError("a volume, not an image")


def _require_sound_segments(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    width, height = segment_size(page)
    if width < 1 or height < 1 or width * height > MAX_SEGMENT_PX:
        raise SlideOpenError(
            f"{page.imagewidth} x {page.imagelength} px in tiles of {width} x {height} px, "
            f"larger than the {MAX_SEGMENT_PX:,} px that are decoded at once"
        )
    file_size = tif.filehandle.size
    if not page.is_tiled and page.is_final:
        needed = int(page.imagewidth) * int(page.imagelength) * int(page.samplesperpixel)
        end = int(page.dataoffsets[0]) + needed
        if end > file_size:
            raise SlideOpenError(f"cut short: pixels should end at byte {end:,}, the file has {file_size:,}")
        return
    planes = int(page.samplesperpixel) if page.planarconfig != _CONTIGUOUS else 1
    expected = -(-page.imagewidth // width) * -(-page.imagelength // height) * planes
    offsets, counts = np.asarray(page.dataoffsets, np.float64), np.asarray(page.databytecounts, np.float64)
    if len(offsets) != expected or len(counts) != expected:
        raise SlideOpenError(f"{len(offsets)} tile offsets and {len(counts)} sizes for {expected} tiles")
    end = int(np.max(offsets + counts))
    if end > file_size:
        raise SlideOpenError(f"cut short: tiles should end at byte {end:,}, the file has {file_size:,}")


def _stated_by_ome(xml: str, page: tifffile.TiffPage) -> list[StatedMpp]:
    """Read the pixel size of the image in OME-XML whose size is the page's."""
    root = ElementTree.fromstring(xml)
    for pixels in root.iter():
        if pixels.tag.rpartition("}")[2] != "Pixels":
            continue
        if pixels.get("SizeX") != str(page.imagewidth) or pixels.get("SizeY") != str(page.imagelength):
            continue
        sizes = []
        for axis in "XY":
            value = parse_number(pixels.get(f"PhysicalSize{axis}"))
            name = pixels.get(f"PhysicalSize{axis}Unit", "µm")
            um = um_per_unit(name)
            if value is not None and um is None:
                return [StatedMpp(_OME, None, f"the OME-XML gives the pixel size in {name!r}, which is no length")]
            sizes.append(None if value is None or um is None else value * um)
        return stated_mpp(_OME, sizes[0], sizes[1])
    return [StatedMpp(_OME, None, "the OME-XML describes no image of this size")]


def _stated_by_imagej(named: str, per_x: float, per_y: float) -> list[StatedMpp]:
    um = um_per_unit(named)
    if um is not None:
        return stated_mpp("ImageJ metadata", um / per_x, um / per_y, f"per {named}")
    if named.strip().lower() in ("pixel", "pixels"):
        return []
    return [StatedMpp("ImageJ metadata", None, f"the unit is {named!r}, which is no length")]


def _aperio_fields(page: tifffile.TiffPage) -> dict[str, str]:
    """Parse the ``key = value`` parts of Aperio's image description."""
    parts = (part.partition("=") for part in page.description.split("|")[1:])
    return {key.strip(): value.strip() for key, _, value in parts}


def _ratio(value: object) -> float | None:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return None

"""The images of a TIFF: those of its OME-XML that lie in the file, or its pages with their reduced copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tifffile

from wsipsm.errors import SlideOpenError, UnsupportedSlideError
from wsipsm.geometry import Size
from wsipsm.slide.base import SlideImage
from wsipsm.slide.images import choose_image, left_out
from wsipsm.slide.readers.ome import OmeImage, keep_ome_image, read_ome_images
from wsipsm.text import clean_text

_VENDOR_LAYOUTS = ("ndpi", "scn", "bif", "philips", "lsm", "stk", "ndtiff")
"""Layouts, by tifffile's names, whose pages are no plain pyramid; read as one they would silently give wrong pixels."""

_MAX_NAME_CHARS = 80
_PAGE_NAME = "PageName"


@dataclass(frozen=True)
class ChosenImage:
    """The image of a TIFF that is the slide."""

    tif: tifffile.TiffFile
    pages: tuple[tifffile.TiffPage, ...]
    """Pages of the image's levels, level 0 first."""
    planes: dict[str, int]
    """Axes beside height, width and samples that are longer than one, by tifffile's letters."""
    images: tuple[SlideImage, ...]
    """All images of the file."""
    number: int
    """Number of the slide among the images, from 1."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Pages:
    """One image as the pages of its levels."""

    name: str
    pages: tuple[tifffile.TiffPage, ...]
    planes: dict[str, int]

    @property
    def image(self) -> SlideImage:
        first = self.pages[0]
        return SlideImage(self.name, Size(int(first.imagewidth), int(first.imagelength)), len(self.pages))


def open_image(path: Path, number: int | None = None) -> ChosenImage:
    """Open a TIFF and choose the image that is the slide.

    Parameters
    ----------
    path
        The file.
    number
        Number of the image that the user gave, from 1; None applies the rule of `images.choose_image`.

    Raises
    ------
    SlideOpenError
        When the file holds no image, or has a vendor's layout; the message is the reason alone.
    UnsupportedSlideError
        When all images lie in other files.
    UsageError
        When there is no image of that number.
    """
    tif = tifffile.TiffFile(path)
    try:
        for name in _VENDOR_LAYOUTS:
            if getattr(tif, f"is_{name}", False):
                raise SlideOpenError(f"a TIFF of {name.upper()} layout, which OpenSlide alone reads")
        described = _ome_images(tif, path)
        chosen = _choose_described(tif, path, described, number) if described else None
        return chosen or _choose_pages(tif, path, number)
    except BaseException:
        tif.close()
        raise


def _ome_images(tif: tifffile.TiffFile, path: Path) -> list[OmeImage]:
    """List the images of the OME-XML that have pages, here or in another file; empty for a TIFF without OME-XML."""
    if not tif.is_ome:
        return []
    try:
        images = read_ome_images(tif.ome_metadata or "", path)
    except SlideOpenError as error:
        raise UnsupportedSlideError(
            f"{path}: {error}; a file with its own description is needed. Export the slide as one OME-TIFF."
        ) from error
    return [image for image in images if image.files or image.first_page < len(tif.pages)]


def _choose_described(
    tif: tifffile.TiffFile, path: Path, described: list[OmeImage], number: int | None
) -> ChosenImage | None:
    """Choose the image by the OME-XML; None when the pages of the file do not fit it."""
    here = [image for image in described if not image.files]
    elsewhere = [image for image in described if image.files]
    if not here:
        names = ", ".join(dict.fromkeys(name for image in elsewhere for name in image.files))[:400]
        raise UnsupportedSlideError(
            f"{path}: none of the {len(elsewhere)} images that its OME-XML describes lies in this file alone; "
            f"the file of an image is needed. Name one of {names}, or export the slide as one OME-TIFF."
        )
    images = tuple(SlideImage(image.name, image.size, _count_levels(tif, image)) for image in here)
    chosen = choose_image(images, number, path)
    xml = keep_ome_image(tif.ome_metadata or "", here[chosen - 1])
    alone = tifffile.TiffFile(path, omexml=xml)
    try:
        found = [_pages_of(series) for series in alone.series if series.kind == "ome"]
    except BaseException:
        alone.close()
        raise
    if len(found) != 1:
        alone.close()
        return None
    tif.close()
    notes = tuple(
        f"an image of its OME-XML{_quoted(image.name)} ({image.size.width} x {image.size.height} px) lies in another "
        f"file, {', '.join(image.files)[:200]}, and was left out"
        for image in elsewhere
    )
    return ChosenImage(alone, found[0].pages, found[0].planes, images, chosen, (*left_out(images, chosen), *notes[:5]))


def _quoted(name: str) -> str:
    return f", '{name}'," if name else ""


def _count_levels(tif: tifffile.TiffFile, image: OmeImage) -> int:
    return 1 + len(tif.pages.get(image.first_page).aspage().subifds or ())


def _choose_pages(tif: tifffile.TiffFile, path: Path, number: int | None) -> ChosenImage:
    found = [image for series in tif.series for image in _split(series, by_number=number is not None)]
    if not found:
        raise SlideOpenError("a TIFF without images")
    # A reduced copy that tifffile did not assign to its image is no image of its own.
    found = [one for one in found if not one.pages[0].is_reduced] or found
    images = tuple(one.image for one in found)
    chosen = choose_image(images, number, path)
    taken = found[chosen - 1]
    return ChosenImage(tif, taken.pages, taken.planes, images, chosen, left_out(images, chosen))


def _pages_of(series: tifffile.TiffPageSeries) -> _Pages:
    planes = {axis: n for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS" and n > 1}
    pages = tuple(level.keyframe for level in series.levels)
    return _Pages(_name_of(series, pages[0]), pages, planes)


def _split(series: tifffile.TiffPageSeries, by_number: bool) -> list[_Pages]:
    """Divide a series that tifffile made by the sizes of pages alone into images.

    Where some pages are marked as reduced copies, each page that is not begins another image. Pages of one size may be
    planes of a stack or separate sections; they count as images where the user gave the number of one (``by_number``).
    """
    whole = _pages_of(series)
    if series.kind != "generic":
        return [whole]
    n_pages = whole.planes.get("I", 1)
    if n_pages > 1 and by_number and all(len(level.pages) == n_pages for level in series.levels):
        columns = [[level.pages[place] for level in series.levels] for place in range(n_pages)]
        whole_pages = [tuple(page for page in column if isinstance(page, tifffile.TiffPage)) for column in columns]
        return [_Pages(_name_of(series, pages[0]), pages, {}) for pages in whole_pages if pages]
    if not any(page.is_reduced for page in whole.pages):
        return [whole]
    starts = [place for place, page in enumerate(whole.pages) if place == 0 or not (page.is_reduced or page.is_subifd)]
    groups = [whole.pages[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return [_Pages(_name_of(series, pages[0]), pages, whole.planes) for pages in groups]


def _name_of(series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> str:
    stated = series.name or page.tags.valueof(_PAGE_NAME) or ""
    if not stated:
        first = str(page.description or "").strip().partition("\n")[0]
        stated = first if len(first) <= _MAX_NAME_CHARS and not first.startswith(("<", "{", "ImageJ=")) else ""
    return clean_text(str(stated).strip(), _MAX_NAME_CHARS)

"""Opening of any slide: readers are tried in order, and when none succeeds, the error gives every reader's reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wsipsm.errors import MissingMppError, SlideOpenError, UsageError
from wsipsm.slide.base import PLAUSIBLE_MPP, Slide, SlideImage, SlideInfo
from wsipsm.slide.fingerprint import FileStamp, fingerprint_slide, stamp_slide
from wsipsm.slide.formats import READABLE
from wsipsm.slide.images import require_image
from wsipsm.slide.no_slide import refuse_no_slide
from wsipsm.slide.pixel_size import describe_statement
from wsipsm.slide.reader import ReaderSlide

MAX_SLIDE_PX = 400_000_000_000
"""Most level-0 pixels of a slide. A whole glass slide at 80x has fewer; a header with more is damaged or malicious."""

Reader = Callable[[Path, float | None], ReaderSlide]


def open_slide(path: str | Path, mpp: float | None = None, image: int | None = None, identify: bool = True) -> Slide:
    """Open a slide with the first reader that takes it.

    Parameters
    ----------
    path
        A slide file, a folder that holds one DICOM series, or an NGFF ``.zarr`` folder.
    mpp
        Pixel size in um/px that overrides the file's.
    image
        Number of the image of the file that is the slide, from 1; None chooses the largest pyramid.
    identify
        Whether all bytes are read for the slide's fingerprint; False where nothing depends on the fingerprint.

    Returns
    -------
    An open slide, to be closed or used as a context manager.

    Raises
    ------
    UsageError
        When ``mpp`` is outside `PLAUSIBLE_MPP`, or there is no image of that number.
    SlideOpenError
        When there is no such file, or no reader opens it; the message gives every reader's reason.
    UnsupportedSlideError
        When it opens but is of a kind that cannot be scored, such as fluorescence.

    Examples
    --------
    >>> with open_slide("case.tif") as slide:
    ...     slide.info.size, slide.info.mpp
    (Size(width=512, height=512), 0.5)
    """
    path = Path(path)
    if mpp is not None:
        _require_plausible_option(mpp)
    refuse_no_slide(path)
    reasons, cause, before = [], None, stamp_slide(path)
    for name, reader in _readers_for(path, image):
        try:
            slide = reader(path, mpp)
            _require_possible_size(slide)
            _require_image(slide, image)
        except SlideOpenError as error:
            reasons.append(f"{name}: {error}")
            cause = error
            continue
        if identify:
            _identify(slide, path, before)
        return slide
    raise SlideOpenError(
        f"{path}: no reader opens it ({'; '.join(reasons)}); a whole slide or image is needed, {READABLE}. "
        "Check that the copy is complete, or export it as OME-TIFF.",
        path=path,
        value="; ".join(reasons),
        needed=READABLE,
    ) from cause


def require_mpp(info: SlideInfo) -> float:
    """Return the pixel size of a slide, when it has one at which nuclei can be outlined.

    Returns
    -------
    Level-0 pixel size, um/px, within `PLAUSIBLE_MPP`.

    Raises
    ------
    MissingMppError
        When the slide states none, or one outside `PLAUSIBLE_MPP`; the message has the value and names ``--mpp``.
    """
    low, high = PLAUSIBLE_MPP
    needed = f"nuclei need one between {low} and {high} um/px"
    found = "; ".join(describe_statement(one) for one in info.mpp_statements)
    if info.mpp is None:
        stated = f"no pixel size that can be used ({found})" if found else "no pixel size in the file"
        raise MissingMppError(
            f"{info.path}: {stated}; {needed}. Pass --mpp with the scanner's value, if it is known.",
            path=info.path,
            needed=PLAUSIBLE_MPP,
            option="--mpp",
        )
    if not info.mpp_is_plausible:
        found = f" ({found})" if found else ""
        raise MissingMppError(
            f"{info.path}: a pixel size of {info.mpp:.4g} um/px{found}; {needed}. If the file is wrong, pass --mpp "
            "with the scanner's value; if it is right, this is an overview image.",
            path=info.path,
            value=info.mpp,
            needed=PLAUSIBLE_MPP,
            option="--mpp",
        )
    return info.mpp


def _require_plausible_option(mpp: float) -> None:
    low, high = PLAUSIBLE_MPP
    if not math.isfinite(mpp) or not low <= mpp <= high:
        raise UsageError(
            f"--mpp: {mpp:g} um/px; nuclei need a pixel size between {low} and {high} um/px. "
            "Pass the scanner's value, about 0.25 at 40x and 0.5 at 20x.",
            value=mpp,
            needed=PLAUSIBLE_MPP,
            option="--mpp",
        )


def _require_possible_size(slide: Slide) -> None:
    size = slide.info.size
    if size.area > MAX_SLIDE_PX:
        slide.close()
        raise SlideOpenError(f"{size.width} x {size.height} px in the header; no slide has over {MAX_SLIDE_PX:,} px")


def _identify(slide: ReaderSlide, path: Path, before: tuple[FileStamp, ...] | None) -> None:
    """Set the fingerprint of a slide, after a check that its files have not changed since it was opened."""
    try:
        slide.set_fingerprint(fingerprint_slide(path))
        if stamp_slide(path) != before:
            raise SlideOpenError(
                f"{path}: it is written while it is opened; a whole file is needed. Wait until its copy is complete.",
                path=path,
                value="it is written while it is opened",
                needed="a whole file",
            )
    except BaseException:
        slide.close()
        raise


def _require_image(slide: Slide, image: int | None) -> None:
    info = slide.info
    if image is not None and image != info.image:
        slide.close()
        require_image(image, (SlideImage("", info.size),), Path(info.path))


def _readers_for(path: Path, image: int | None) -> list[tuple[str, Reader]]:
    # Imported here, because the command line and the plan of a run import this module long before they open a slide.
    from wsipsm.slide.readers.image import ImageSlide
    from wsipsm.slide.readers.openslide import OpenSlideSlide, is_vendor_slide
    from wsipsm.slide.readers.tiatoolbox import TiatoolboxSlide
    from wsipsm.slide.readers.tiff import TiffSlide, is_ome_tiff, is_tiff

    if path.is_dir():
        return [("tiatoolbox", TiatoolboxSlide)] if path.suffix.lower() == ".zarr" else [("openslide", OpenSlideSlide)]
    readers: list[tuple[str, Reader]] = [
        ("openslide", OpenSlideSlide),
        ("tiff", partial(TiffSlide, image=image)),
        ("image", ImageSlide),
        ("tiatoolbox", TiatoolboxSlide),
    ]
    # OpenSlide sees one level and no pixel size in OME-TIFF, and would show the first of several channels or the high
    # bytes of 16-bit samples of a TIFF that no vendor's format explains.
    if is_ome_tiff(path) or (is_tiff(path) and not is_vendor_slide(path)):
        readers = [readers[1], readers[0], *readers[2:]]
    return readers

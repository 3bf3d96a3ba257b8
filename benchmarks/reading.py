"""Measures megapixels per second of processor time of wsipsm, OpenSlide, and the decoder alone on the same tiles.

    python -m benchmarks.reading SLIDE... [--repeats 5] [--out reading.md]

Each slide is read completely at its own resolution and at half of it, in blocks as a run reads them, all in one thread.
The decoder, libjpeg-turbo or OpenJPEG, decodes from memory the tiles of the level that wsipsm reads, and the pixels are
not used, so that no reader can be faster. OpenSlide reads the same pixels of that level by ``read_region``, without
resampling. Opening, the disk and wsipsm's work at its first read are not counted. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import openslide
import tifffile
from PIL import Image

from benchmarks.tables import give_table
from wsipsm.benchmark.machine import describe_machine
from wsipsm.geometry import Box, Size
from wsipsm.slide.base import Slide
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import choose_level, read_box

BLOCK_PX = 2048
OPENSLIDE_CACHE_BYTES = 32 << 20
"""OpenSlide's default."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's ``mallopt``."""
LEAST_S = 0.2
SCALES = {"native": 1.0, "half": 2.0}
TARGET_OF_DECODER = 0.8
"""Target for JPEG: wsipsm's speed over libjpeg-turbo's."""
TARGET_OF_OPENSLIDE = 1.3
"""Target for JPEG 2000: wsipsm's speed over OpenSlide's, since the decoder takes nearly all of the time."""
_JPEG, _JPEG2000, _RGB = (7,), (33003, 33005, 34712), 2


@dataclass(frozen=True)
class Row:
    """One slide at one resolution; seconds of processor time, medians."""

    name: str
    resolution: str
    level: int
    n_px: int
    """Number of pixels of the level, which all three read."""
    ours: float
    openslide: float | None
    """Seconds of OpenSlide; None where it does not open the file."""
    decoder: float | None
    """Seconds of the decoder; None where the tiles cannot be given to the decoder alone."""
    is_jpeg: bool

    def cells(self) -> list[str]:
        """Cells of a row of the table."""
        speeds = [
            _or_none(seconds, lambda s: f"{self.n_px / s / 1e6:.0f}") for seconds in (self.openslide, self.decoder)
        ]
        of_decoder = _or_none(self.decoder, lambda s: f"{s / self.ours:.2f}")
        of_openslide = _or_none(self.openslide, lambda s: f"{s / self.ours:.2f}")
        targets = (f"{TARGET_OF_DECODER}", "") if self.is_jpeg else ("", f"{TARGET_OF_OPENSLIDE}")
        ours = f"{self.n_px / self.ours / 1e6:.0f}"
        return [
            self.name, self.resolution, str(self.level), ours, *speeds, of_decoder, targets[0], of_openslide, targets[1]
        ]  # fmt: skip


HEAD = (
    "slide", "resolution", "level", "wsipsm, Mpx/s", "OpenSlide", "decoder", "wsipsm : decoder", "target",
    "wsipsm : OpenSlide", "target",
)  # fmt: skip


def _or_none(value: float | None, say: Callable[[float], str]) -> str:
    return "-" if value is None else say(value)


def cpu_seconds(reads: Sequence[Callable[[], None] | None], repeats: int) -> list[float | None]:
    """Compute medians of the processor time of several ways to read.

    The ways are measured in turn, so that a busy machine slows all equally. Each measurement repeats a way until a
    fifth of a second is filled.
    """
    times = [max(1, round(LEAST_S / _seconds(read))) if read else 0 for read in reads]
    found: list[list[float]] = [[] for _ in reads]
    for _ in range(repeats):
        for read, n, seconds in zip(reads, times, found, strict=True):
            if read is not None:
                seconds.append(_seconds(read, n))
    return [statistics.median(seconds) if seconds else None for seconds in found]


def _seconds(read: Callable[[], None], n: int = 1) -> float:
    started = time.process_time()
    for _ in range(n):
        read()
    return (time.process_time() - started) / n


def keep_memory() -> None:
    """Let the C library keep freed memory, as it does by itself after a run has read some blocks.

    New memory costs a third of the time of decoding, and all readers would need it again in each repetition.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            library.mallopt(option, 1 << 30)


def blocks(size: Size) -> Iterator[Box]:
    """Yield the squares that cover a level, cut at its edges."""
    whole = Box(0, 0, size.width, size.height)
    for y, x in itertools.product(range(0, size.height, BLOCK_PX), range(0, size.width, BLOCK_PX)):
        yield Box(x, y, BLOCK_PX, BLOCK_PX).intersect(whole)


def forget_tiles(slide: Slide) -> None:
    """Make a slide forget the tiles that it decoded."""
    tiles = getattr(slide, "_tiles", None)
    if tiles is not None:
        tiles.forget()


def read_all(slide: Slide, scale: float) -> None:
    """Read a slide as a run does, after it has forgotten all decoded tiles."""
    forget_tiles(slide)
    size = slide.info.size
    small = Size(max(1, int(size.width / scale)), max(1, int(size.height / scale)))
    for box in blocks(small):
        read_box(slide, box, scale)


def read_all_by_openslide(handle: openslide.OpenSlide, level: int, size: Size) -> None:
    """Read a level by OpenSlide, as RGB, with an empty cache of tiles."""
    handle.set_cache(openslide.OpenSlideCache(OPENSLIDE_CACHE_BYTES))
    downsample = handle.level_downsamples[level]
    for box in blocks(size):
        corner = (round(box.x * downsample), round(box.y * downsample))
        np.asarray(handle.read_region(corner, level, (box.width, box.height)))[..., :3].copy()


@dataclass(frozen=True)
class Stored:
    """The compressed tiles of a level, in memory."""

    page: tifffile.TiffPage
    data: list[bytes]
    scale: int
    """Factor by which the decoder shrinks the stored level, which some levels of NDPI need; otherwise 1."""

    @property
    def is_jpeg(self) -> bool:
        """Whether the tiles are JPEG and not JPEG 2000."""
        return self.page.compression in _JPEG

    def decode(self) -> None:
        """Decode all tiles without use of their pixels."""
        colour = "RGB" if self.page.photometric == _RGB else "YCBCR"
        for data in self.data:
            if not self.is_jpeg:
                imagecodecs.jpeg2k_decode(data)
            elif self.scale > 1:
                with Image.open(io.BytesIO(data)) as image:
                    image.draft("RGB", (image.width // self.scale, image.height // self.scale))
                    image.load()
            else:
                imagecodecs.jpeg8_decode(data, tables=self.page.jpegtables, colorspace=colour, outcolorspace="RGB")


def find_stored(path: Path, size: Size) -> Stored | None:
    """Find the tiles of the smallest page that covers a level; None for other compressions and other files."""
    try:
        tif = tifffile.TiffFile(path)
    except tifffile.TiffFileError:
        return None
    with tif:
        pages = [level.keyframe for series in tif.series for level in series.levels]
        pages += [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
        pages = [page for page in pages if page.imagewidth >= size.width and page.imagelength >= size.height]
        pages = [page for page in pages if page.compression in (*_JPEG, *_JPEG2000) and (page.is_tiled or tif.is_ndpi)]
        if not pages:
            return None
        page = min(pages, key=lambda one: int(one.imagewidth))
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if tif.is_ndpi:  # the level is one JPEG, of which wsipsm decodes one or some restart intervals at a time
            parts = [(page.tags.valueof("StripOffsets")[0], page.tags.valueof("StripByteCounts")[0])]
        data = []
        for offset, n_bytes in parts:
            tif.filehandle.seek(offset)
            data.append(tif.filehandle.read(n_bytes))
        return Stored(page, data, round(page.imagewidth / size.width) if tif.is_ndpi else 1)


def measure(path: Path, repeats: int) -> list[Row]:
    """Measure one slide at every resolution."""
    rows = []
    with open_slide(path, identify=False) as slide, contextlib.ExitStack() as stack:
        handle = None
        with contextlib.suppress(openslide.OpenSlideError):
            handle = stack.enter_context(openslide.OpenSlide(path))
        for resolution, scale in SCALES.items():
            level = choose_level(slide.info.level_sizes, scale)
            size = slide.info.level_sizes[level]
            stored = find_stored(path, size)
            ours = partial(read_all, slide, scale)
            ours()  # the first read does work that is done once for a slide
            theirs = None
            if handle is not None and (size.width, size.height) in handle.level_dimensions:
                number = handle.level_dimensions.index((size.width, size.height))
                theirs = partial(read_all_by_openslide, handle, number, size)
            seconds = cpu_seconds((ours, theirs, stored.decode if stored else None), repeats)
            rows.append(Row(path.name, resolution, level, size.area, *seconds, stored is None or stored.is_jpeg))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", nargs="+", type=Path, metavar="SLIDE")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="Markdown file; printed without")
    args = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    keep_memory()
    facts = describe_machine()
    first = f"Date {facts['date']}. {facts['machine']}. {facts['versions']}. Medians of {args.repeats}."
    give_table(first, HEAD, [row.cells() for path in args.slides for row in measure(path, args.repeats)], args.out)


if __name__ == "__main__":
    main()

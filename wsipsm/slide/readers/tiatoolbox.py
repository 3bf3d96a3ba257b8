"""NGFF zarr and JPEG 2000 slides through tiatoolbox's WSIReader, which is imported only for them."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import SlideOpenError, UnsupportedSlideError
from wsipsm.geometry import Box
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.formats import BY_TIATOOLBOX, INSTALL_TIATOOLBOX, single_suffixes
from wsipsm.slide.pixel_size import choose_mpp, stated_mpp
from wsipsm.slide.reader import ReaderSlide, shrinking_levels, to_sizes

SUFFIXES = single_suffixes(BY_TIATOOLBOX)

_READ_ERRORS = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, AssertionError)


class TiatoolboxSlide(ReaderSlide):
    """An OME-NGFF 0.4 zarr folder or a JP2 file.

    Parameters
    ----------
    path
        The folder or file.
    mpp
        Pixel size in um/px that overrides the file's.

    Raises
    ------
    SlideOpenError
        When tiatoolbox is missing or does not open it; the message is the reason alone.
    UnsupportedSlideError
        When its pixels are not 8-bit RGB.
    """

    def __init__(self, path: Path, mpp: float | None = None) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise SlideOpenError(f"reads {' and '.join(SUFFIXES)} only")
        self._reader = _open_reader(path)
        arrays = getattr(self._reader, "level_arrays", None)
        try:
            facts = self._reader.info
            # WSIReader is used for level 0 only, because in 2.1.3 its read_rect takes level-0 bounds for those of an
            # NGFF level. NGFF levels are sliced from the arrays instead.
            if arrays is not None:
                self._levels: list[Any] = [arrays[key] for key in sorted(arrays)]
                found = [(level.shape[1], level.shape[0]) for level in self._levels]
                self._levels = [self._levels[index] for index in shrinking_levels(found)]
                sizes = to_sizes([found[index] for index in shrinking_levels(found)])
            else:
                self._levels = []
                width, height = facts.slide_dimensions
                sizes = to_sizes([(int(width), int(height))])
            sample = self._read(0, Box(0, 0, 1, 1))
            stated = (None, None) if facts.mpp is None else (float(facts.mpp[0]), float(facts.mpp[1]))
        except _READ_ERRORS as error:
            raise SlideOpenError(f"opened, but cannot be described: {error}") from error
        if sample.shape != (1, 1, 3) or sample.dtype != np.uint8:
            raise UnsupportedSlideError(
                f"{path}: pixels of shape {sample.shape[2:]}, {sample.dtype}; 8-bit RGB is needed. "
                "Export the slide as RGB."
            )
        source = f"{facts.vendor or path.suffix.lstrip('.')} metadata"
        used, statements = choose_mpp(stated_mpp(source, *stated), mpp)
        super().__init__(
            SlideInfo(
                path=str(path),
                reader="tiatoolbox",
                level_sizes=sizes,
                mpp=used,
                vendor=facts.vendor or None,
                mpp_statements=statements,
            )
        )

    def _read(self, level: int, box: Box) -> NDArray[Any]:
        if self._levels:
            return np.asarray(self._levels[level][box.y : box.bottom, box.x : box.right])
        bounds = (box.x, box.y, box.right, box.bottom)
        return np.asarray(self._reader.read_bounds(bounds, resolution=0, units="level"))

    def _read_inside(self, level: int, box: Box) -> NDArray[np.uint8]:
        try:
            return np.ascontiguousarray(self._read(level, box), np.uint8)
        except _READ_ERRORS as error:
            raise self._undecodable(level, box, error) from error

    def _release(self) -> None:
        self._levels = []
        self._reader = None


def _open_reader(path: Path) -> Any:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    captures = "tiatoolbox" not in sys.modules
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from tiatoolbox.utils.exceptions import FileNotSupportedError
            from tiatoolbox.wsicore.wsireader import WSIReader

            # tiatoolbox logs to the root logger, on opening mostly about values that it infers and wsipsm does not use.
            root.handlers[:] = handlers
            root.setLevel(logging.CRITICAL)
            try:
                return WSIReader.open(path)
            except FileNotSupportedError as error:
                raise SlideOpenError(f"tiatoolbox: {error}") from error
    except ImportError as error:
        raise SlideOpenError(
            f"{error}; {path.suffix} is read by tiatoolbox. Install it: {INSTALL_TIATOOLBOX}"
        ) from error
    except SlideOpenError:
        raise
    except _READ_ERRORS as error:
        raise SlideOpenError(f"tiatoolbox: {error}") from error
    finally:
        # Importing tiatoolbox configures the root logger, which only the command line may do in wsipsm.
        root.handlers[:] = handlers
        root.setLevel(level)
        if captures:
            logging.captureWarnings(False)

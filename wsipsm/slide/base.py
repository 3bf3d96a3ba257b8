"""The interface of a slide for the rest of wsipsm: facts about it, and pixels of one level.

Readers supply raw level reads only; resampling exists once, in ``slide/read.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from wsipsm.geometry import Box, Size

PLAUSIBLE_MPP = (0.05, 1.2)
"""Smallest and largest pixel size, um/px, at which nuclei can be outlined; a file's statement outside is refused."""


class MppVerdict(StrEnum):
    """The result of comparing a statement about the pixel size with the one that is used."""

    USED = "used"
    AGREES = "agrees"
    """The statement agrees with the one that is used, within 5 %."""
    CONTRADICTS = "contradicts"
    OVERRIDDEN = "overridden"
    """The user's ``--mpp`` overrides the statement, and differs from it."""
    REFUSED = "refused"
    """The statement gives no length, or one at which nuclei cannot be outlined."""
    NOT_USED = "not used"
    """The file has a nominal magnification and no pixel size; none is computed from it."""


@dataclass(frozen=True, slots=True)
class MppStatement:
    """One statement of the file, or of the user, about the pixel size."""

    source: str
    """Place of the statement, in words for the user."""
    value: float | None
    """um/px; None where the statement gives no length."""
    verdict: MppVerdict
    text: str = ""
    """How the statement was read, or why it gives no length."""
    is_uneven: bool = False
    """Whether width and height of a pixel differ by more than 1 %."""


@dataclass(frozen=True, slots=True)
class SlideImage:
    """One of the images that a file holds."""

    name: str
    """Name of the image in the file; may be empty."""
    size: Size
    n_levels: int = 1


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """Facts about a slide, read without touching its pixels."""

    path: str
    """Path from which the slide was opened; a name in angle brackets for arrays in memory."""
    reader: str
    """Reader that opened it: openslide, tiff, tiatoolbox, image or array."""
    level_sizes: tuple[Size, ...]
    """Size of every level, level 0 first, each smaller than the last."""
    mpp: float | None
    """Level-0 pixel size, um/px, as the file states it or the user gave it; None when unknown."""
    fingerprint: str = ""
    """Hex SHA-256 digest that identifies the pixels, of all bytes of every file of the slide; empty where the slide was
    opened without it."""
    bounds: Box | None = None
    """Part of the canvas that holds pixels, as the file states it, never empty, in level-0 pixels; None where the file
    states none. See ``slide/frame.py``."""
    vendor: str | None = None
    objective_power: float | None = None
    """Nominal magnification; it is shown, and nothing is computed from it."""
    images: tuple[SlideImage, ...] = ()
    """Images of the file that ``--image`` can name, in the order of the file; empty where there is only one."""
    image: int = 1
    """Number of the image that is the slide, from 1."""
    associated: tuple[SlideImage, ...] = ()
    """Label, macro and other pictures that are no scan."""
    mpp_statements: tuple[MppStatement, ...] = ()
    """Every statement about the pixel size; the one that is used comes first."""
    notes: tuple[str, ...] = ()
    """Corrections and omissions that were made when the slide was opened, one sentence each, for the user."""

    @property
    def size(self) -> Size:
        """Level-0 size."""
        return self.level_sizes[0]

    @property
    def mpp_is_plausible(self) -> bool:
        """Whether the slide has a pixel size at which nuclei can be outlined."""
        low, high = PLAUSIBLE_MPP
        return self.mpp is not None and low <= self.mpp <= high

    def downsample(self, level: int) -> float:
        """Return the level-0 pixels per pixel of a level: the mean of both axes, at least 1."""
        size, full = self.level_sizes[level], self.level_sizes[0]
        return max(1.0, (full.width / size.width + full.height / size.height) / 2)


class Slide(Protocol):
    """An open slide. It is never shared between threads or processes; a task carries the path instead."""

    @property
    def info(self) -> SlideInfo:
        """Facts about the slide."""
        ...

    def read_level(self, level: int, box: Box) -> NDArray[np.uint8]:
        """Read RGB pixels of one level, without resampling.

        Parameters
        ----------
        level
            Index into ``info.level_sizes``.
        box
            Box in pixels of that level; parts outside the level come back white.

        Returns
        -------
        Array of shape (box.height, box.width, 3), uint8, transparent pixels composed over white.

        Raises
        ------
        SlideReadError
            When pixels cannot be decoded. The slide stays usable for other boxes.
        """
        ...

    def close(self) -> None:
        """Release the file; reading afterwards raises SlideReadError."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

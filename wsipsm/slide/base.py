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
"""Pixel sizes, um/px, at which nuclei can be outlined; outside it a file's statement is refused."""


class MppVerdict(StrEnum):
    """The verdict on a statement about the pixel size."""

    USED = "used"
    AGREES = "agrees"
    """The statement agrees with the one that is used, within 5 %."""
    CONTRADICTS = "contradicts"
    OVERRIDDEN = "overridden"
    """The user's ``--mpp`` overrides the statement, and differs from it."""
    REFUSED = "refused"
    """No length, or one that cannot show nuclei."""
    NOT_USED = "not used"


@dataclass(frozen=True, slots=True)
class MppStatement:
    """The statement of the file, or the user, on the pixel size."""

    source: str
    value: float | None
    """um/px; None where the statement gives no length."""
    verdict: MppVerdict
    text: str = ""
    """How it was read, or why it gives no length."""
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
    """Where it was opened from; a name in brackets for arrays in memory."""
    reader: str
    """Reader that opened it: openslide, tiff, tiatoolbox, image or array."""
    level_sizes: tuple[Size, ...]
    """Size of every level, level 0 first, each smaller than the last."""
    mpp: float | None
    """Level-0 pixel size, um/px, as the file states it or the user gave it; None when unknown."""
    fingerprint: str = ""
    """Hex digest that names the pixels: of all bytes of every file of the slide. Empty where it was not asked for."""
    bounds: Box | None = None
    """Non-empty part in level-0 pixels, inside the canvas; None where the file states none. See ``slide/frame.py``."""
    vendor: str | None = None
    objective_power: float | None = None
    """Shown, never computed with."""
    images: tuple[SlideImage, ...] = ()
    """Images of the file that ``--image`` can name, in its order; empty where there is one."""
    image: int = 1
    """Number of the one that is the slide, from 1."""
    associated: tuple[SlideImage, ...] = ()
    """Label, macro and other pictures that are no scan."""
    mpp_statements: tuple[MppStatement, ...] = ()
    """Everything that was found about the pixel size, the one that is used first."""
    notes: tuple[str, ...] = ()
    """What was put right or left out when the slide was opened, a sentence each; shown to the user."""

    @property
    def size(self) -> Size:
        """Level-0 size."""
        return self.level_sizes[0]

    @property
    def mpp_is_plausible(self) -> bool:
        """Whether it has a pixel size at which nuclei can be outlined."""
        low, high = PLAUSIBLE_MPP
        return self.mpp is not None and low <= self.mpp <= high

    def downsample(self, level: int) -> float:
        """Return the level-0 pixels per pixel of ``level``: the mean of both axes, at least 1."""
        size, full = self.level_sizes[level], self.level_sizes[0]
        return max(1.0, (full.width / size.width + full.height / size.height) / 2)


class Slide(Protocol):
    """An open slide. Not shared between threads or processes: a task carries the path."""

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

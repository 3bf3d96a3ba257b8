"""A seeded sample of a slide's tissue, to which all values are fitted that hold for the whole slide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import SlideReadError
from wsipsm.geometry import Box
from wsipsm.slide.base import Slide
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.read import read_box
from wsipsm.tissue.find import TissueMask

SAMPLE_MPP = 0.5
"""Pixel size at which a sample is read, um/px."""
_PATCH_PX = 128
_N_PATCHES = 64
"""Most patches of a sample."""


@dataclass(frozen=True, slots=True)
class TissueSample:
    """Patches spread over the tissue, and pixels drawn from them."""

    patches: tuple[NDArray[np.uint8], ...]
    """RGB, each of shape (height, width, 3), uint8."""
    pixels: NDArray[np.uint8]
    """RGB, shape (n, 3), uint8, patch by patch, in a random order within each patch."""
    mpp: float | None
    """Pixel size of the patches, um/px: ``SAMPLE_MPP``, or a coarser slide's own; None where it states none."""
    n_unread: int = 0
    """Patches that could not be read and were left out."""


def sample_tissue(slide: Slide, tissue: TissueMask, seed: int, n_pixels: int = 200_000) -> TissueSample:
    """Draw seeded patches spread over the tissue, and pixels from them.

    Parameters
    ----------
    slide
        Open slide, which is read at about ``SAMPLE_MPP``, at level 0 when its pixel size is unknown.
    tissue
        Tissue in which the patches lie; they also hold glass beside it, which shows the background.
    seed
        Seed of the random choice; the same seed gives the same sample.
    n_pixels
        Most pixels of the sample; it has fewer when the tissue is smaller, and none when there is no tissue.

    Raises
    ------
    SlideReadError
        When no patch can be read; single unreadable patches are left out.
    """
    rng = np.random.default_rng(seed)
    mpp = slide.info.mpp
    scale = max(1.0, SAMPLE_MPP / mpp) if mpp else 1.0
    content = SlideFrame.of(slide.info).content
    patches: list[NDArray[np.uint8]] = []
    failures: list[SlideReadError] = []
    for box in _sample_boxes(content, tissue, scale, rng):
        try:
            patches.append(read_box(slide, box, scale, (content.x, content.y)))
        except SlideReadError as error:
            failures.append(error)
    if not patches and failures:
        raise failures[-1]
    quota = math.ceil(n_pixels / max(1, len(patches)))
    drawn = [pixels[rng.permutation(len(pixels))[:quota]] for patch in patches for pixels in [patch.reshape(-1, 3)]]
    pixels = np.concatenate(drawn)[:n_pixels] if drawn else np.empty((0, 3), dtype=np.uint8)
    return TissueSample(tuple(patches), pixels, mpp * scale if mpp else None, len(failures))


def _sample_boxes(content: Box, tissue: TissueMask, scale: float, rng: np.random.Generator) -> list[Box]:
    """Sample patches in tissue as working-pixel boxes from the content's corner, one from each stratum of a raster."""
    width, height = math.ceil(content.width / scale), math.ceil(content.height / scale)
    patch_width, patch_height = min(_PATCH_PX, width), min(_PATCH_PX, height)
    step = max(1.0, math.sqrt(content.area / 1_000_000))
    rows, columns = np.mgrid[0 : math.ceil(content.height / step), 0 : math.ceil(content.width / step)]
    points = (np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * step
    points = points[tissue.contains(points + np.array([content.x, content.y]))]
    if len(points) == 0:
        return []
    strata = np.array_split(np.arange(len(points)), min(_N_PATCHES, len(points)))
    chosen = points[[int(rng.choice(stratum)) for stratum in strata]] / scale
    left = np.clip(chosen[:, 0] - patch_width / 2, 0, width - patch_width).astype(int)
    top = np.clip(chosen[:, 1] - patch_height / 2, 0, height - patch_height).astype(int)
    corners = sorted(set(zip(left.tolist(), top.tolist(), strict=True)))
    return [Box(x, y, patch_width, patch_height) for x, y in corners]

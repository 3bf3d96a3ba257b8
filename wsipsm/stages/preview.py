"""The preview of a slide, made before nuclei are looked for; ``wsipsm info`` and a run make the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsipsm.geometry import Box
from wsipsm.quality.finding import Finding
from wsipsm.quality.focus import check_focus
from wsipsm.quality.ink import check_ink
from wsipsm.quality.picture_size import check_picture_size
from wsipsm.slide.base import Slide
from wsipsm.slide.partial import read_partial_thumbnail, slices_of
from wsipsm.stain import StainDecision, detect_stain
from wsipsm.tissue import TissueMask, find_slide_tissue, refuse_fluorescence, sample_tissue


@dataclass(frozen=True)
class SlidePreview:
    """The findings in a slide's overview and in a sample of its tissue."""

    tissue: TissueMask
    pixels: NDArray[np.uint8]
    """Sampled pixels of tissue and of the glass between it, shape (n, 3); empty where there is no tissue."""
    decision: StainDecision
    sizes: tuple[Finding, ...]
    """Findings on the pixel size; none where it is not stated, or cannot be checked."""
    quality: tuple[Finding, ...]
    """Findings on focus and ink."""
    n_unread: int
    """Number of parts of the overview and patches of the sample that could not be read."""


def preview_slide(slide: Slide, seed: int = 0) -> SlidePreview:
    """Find tissue and stain of a slide, and check pixel size, focus and ink.

    Parameters
    ----------
    slide
        Open slide.
    seed
        Seed of the sample, and of the patches by which the pixel size is checked.

    Raises
    ------
    SlideReadError
        When nothing of the overview, or no patch of the sample, can be read.
    UnsupportedSlideError
        When the slide is a fluorescence slide.
    """
    info = slide.info
    thumbnail, px0_per_pixel, unread = read_partial_thumbnail(slide)
    refuse_fluorescence(thumbnail, info.path)
    tissue = _with_unread(find_slide_tissue(info, thumbnail, px0_per_pixel), unread)
    sample = sample_tissue(slide, tissue, seed)
    decision = detect_stain(sample.pixels)
    sizes: tuple[Finding, ...] = ()
    if info.mpp_is_plausible:
        sizes = check_picture_size(slide, thumbnail, tissue, seed)
    return SlidePreview(
        tissue=tissue,
        pixels=sample.pixels,
        decision=decision,
        sizes=sizes,
        quality=(check_focus(sample.patches, sample.mpp), check_ink(tissue.ink_fraction)),
        n_unread=len(unread) + sample.n_unread,
    )


def _with_unread(tissue: TissueMask, unread: list[Box]) -> TissueMask:
    """Count unreadable parts as tissue, so that none of them counts as empty."""
    if not unread:
        return tissue
    mask, outline = tissue.mask.copy(), tissue.tissue.copy()
    whole = Box(0, 0, mask.shape[1], mask.shape[0])
    for box in unread:
        mask[slices_of(box, whole)] = True
        outline[slices_of(box, whole)] = True
    note = f"{len(unread)} parts of the overview cannot be read; they are counted as tissue."
    return replace(tissue, mask=mask, tissue=outline, note=f"{tissue.note} {note}" if tissue.note else note)

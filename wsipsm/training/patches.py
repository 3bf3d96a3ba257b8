"""Patches of tissue for training, which are read from slides and images in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsipsm.errors import UsageError
from wsipsm.geometry import Box, WorkingGrid
from wsipsm.keys import Stain
from wsipsm.slide.base import Slide
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import open_slide, require_mpp
from wsipsm.slide.read import read_box, read_thumbnail
from wsipsm.stain import StainDecision, detect_stain, fit_stain_profile
from wsipsm.tissue import TissueMask, find_slide_tissue, refuse_fluorescence, sample_tissue
from wsipsm.training.pseudo_labels import StainedImage

_PATCH_PX = 640
_PATCHES_PER_SLIDE = 8
_MIN_TISSUE_SHARE = 0.5
_MIN_SIDE_PX = 36
"""Smallest side of an image: self-activation maps need a reflected rim of up to 35 px, which a smaller image cannot
give."""


@dataclass(frozen=True, slots=True)
class DrawnPatches:
    """Patches of one slide or image, and its stain."""

    images: list[StainedImage]
    decision: StainDecision
    """Stain that was found from the colours."""


def draw_patches(path: Path, mpp: float | None, stain: Stain | None, seed: int, working_mpp: float) -> DrawnPatches:
    """Read random patches of tissue, or the whole of a small image.

    Patches are read once and stay in memory, so that crops of slides are as fast as crops of images.

    Parameters
    ----------
    path
        Path of a slide or image.
    mpp
        Pixel size of the image, um/px, where the file states none.
    stain
        Stain that the profile is fitted for; None: the one found from the colours.
    seed
        Seed of the positions of patches.
    working_mpp
        Pixel size to read at, um/px.

    Raises
    ------
    SlideError
        When the slide or image cannot be used.
    UsageError
        When it is too small or has too little tissue.
    """
    with open_slide(path, mpp, identify=False) as slide:
        slide_mpp = require_mpp(slide.info)
        thumbnail, px0_per_pixel = read_thumbnail(slide, part_px0=SlideFrame.of(slide.info).content)
        refuse_fluorescence(thumbnail, slide.info.path)
        tissue = find_slide_tissue(slide.info, thumbnail, px0_per_pixel)
        pixels = sample_tissue(slide, tissue, seed).pixels
        decision = detect_stain(pixels)
        profile = fit_stain_profile(pixels, stain or decision.stain, seed)
        grid = SlideFrame.of(slide.info).grid(slide_mpp, working_mpp)
        images = [
            StainedImage(read_box(slide, box, grid.scale, grid.origin_px0), profile)
            for box in _patches(slide, grid, tissue, seed)
        ]
    return DrawnPatches(images, decision)


def _patches(slide: Slide, grid: WorkingGrid, tissue: TissueMask, seed: int) -> list[Box]:
    """Choose boxes of working pixels: the whole image when it is small, else seeded patches that hold tissue."""
    size = grid.size_px
    if min(size.width, size.height) < _MIN_SIDE_PX:
        raise UsageError(
            f"{slide.info.path}: {size.width}x{size.height} px at {grid.mpp:g} um/px; "
            f"at least {_MIN_SIDE_PX} px each way are needed. Take larger images, or check --mpp."
        )
    if size.area <= 4 * _PATCH_PX**2:
        return [Box(0, 0, size.width, size.height)]
    rng = np.random.default_rng(seed)
    boxes: list[Box] = []
    for _ in range(50 * _PATCHES_PER_SLIDE):
        if len(boxes) == _PATCHES_PER_SLIDE:
            break
        width, height = min(_PATCH_PX, size.width), min(_PATCH_PX, size.height)
        box = Box(int(rng.integers(size.width - width + 1)), int(rng.integers(size.height - height + 1)), width, height)
        if _tissue_share(box, grid, tissue) >= _MIN_TISSUE_SHARE:
            boxes.append(box)
    if not boxes:
        raise UsageError(f"{slide.info.path}: too little tissue to draw patches from; another slide is needed.")
    return boxes


def _tissue_share(box: Box, grid: WorkingGrid, tissue: TissueMask) -> float:
    x, y = np.meshgrid(np.linspace(box.x, box.right, 9)[:-1], np.linspace(box.y, box.bottom, 9)[:-1])
    inside = tissue.contains(np.column_stack([x.ravel(), y.ravel()]) * grid.scale + grid.origin_px0)
    return float(inside.mean())

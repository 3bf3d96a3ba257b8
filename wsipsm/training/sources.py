"""The images of a training: files below a data folder, or slides and images that a command names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import UsageError
from wsipsm.geometry import Box, WorkingGrid
from wsipsm.keys import Stain
from wsipsm.models.card import DataSource
from wsipsm.slide.open import open_slide, require_mpp
from wsipsm.slide.read import read_box
from wsipsm.stain import fit_stain_profile
from wsipsm.training.patches import draw_patches
from wsipsm.training.pseudo_labels import StainedImage
from wsipsm.training.recipe import OWN_TERMS, WORKING_MPP, ImageSource, Recipe

_PROFILE_STRIDE = 7
"""Step between the pixels of a whole image that its stains are fitted on."""
_MAX_WHOLE_PX = 400_000_000
_MAX_NAME = 500


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image to train on, and its origin."""

    image: StainedImage
    file: Path
    name: str
    """Name of the image's source in the model card."""
    terms: str


@dataclass(frozen=True, slots=True)
class GatheredImages:
    """The images of all trainings of one recipe."""

    images: list[SourceImage]
    consistency: list[SourceImage]
    """Further images for consistency distillation alone; their stains are not used."""


def find_files(source: ImageSource, data: Path) -> list[Path]:
    """List the files of a source in the order of their paths, or every Nth of them where the source asks for that.

    Raises
    ------
    UsageError
        When no file matches.
    """
    found = sorted({path for pattern in source.files for path in data.glob(pattern) if path.is_file()})
    if not found:
        raise UsageError(
            f"{data}: no file matches {' or '.join(source.files)}; images for {source.name!r} are needed. "
            "Check --data and the recipe's sources."
        )
    return found[:: source.every]


def gather_below(recipe: Recipe, data: Path) -> GatheredImages:
    """Read the images of a recipe's sources below a data folder, in the order of the sources.

    Raises
    ------
    UsageError
        When a source has no file, or one that is too large to be taken whole.
    SlideError
        When a file cannot be used.
    """
    files = [(source, find_files(source, data)) for source in recipe.sources]  # all, before any pixel is read
    images: list[SourceImage] = []
    consistency: list[SourceImage] = []
    for source, paths in files:
        into = consistency if source.part == "consistency" else images
        for path in paths:
            into += [SourceImage(image, path, source.name, source.terms) for image in _read(source, path, recipe)]
    return GatheredImages(images, consistency)


def gather_named(
    paths: Sequence[Path], mpp: float | None, stain: Stain | None, seed: int, terms: str = OWN_TERMS
) -> tuple[Stain, list[SourceImage]]:
    """Read patches of the slides and images that a command names.

    Parameters
    ----------
    paths
        Slides, of which patches of tissue are read, and small images, which are read whole.
    mpp
        Pixel size of files that state none, um/px.
    stain
        Stain of the files; None: that of most of them by their colours, and files of another stain are left out.
    seed
        Seed of the positions of patches.
    terms
        Terms of use of the pixels, for the model card.

    Returns
    -------
    The stain, and the images in the order of the files.

    Raises
    ------
    SlideError, UsageError
        When a file cannot be used.
    """
    drawn = [draw_patches(path, mpp, stain, seed, WORKING_MPP) for path in paths]
    chosen = stain or _majority([source.decision.stain for source in drawn])
    name = ", ".join(path.name for path in paths)[:_MAX_NAME]
    images = [
        SourceImage(image, path, name, terms)
        for path, source in zip(paths, drawn, strict=True)
        if stain or source.decision.stain == chosen
        for image in source.images
    ]
    return chosen, images


def card_sources(images: Iterable[SourceImage]) -> tuple[DataSource, ...]:
    """Make the model card's entries for images: one for each name and terms, in the order of the images."""
    counted = Counter((image.name, image.terms) for image in images)
    return tuple(DataSource(name=name, n_images=n, terms=terms) for (name, terms), n in counted.items())


def _read(source: ImageSource, path: Path, recipe: Recipe) -> list[StainedImage]:
    if not source.whole:
        return draw_patches(path, source.mpp, recipe.stain, recipe.seed, WORKING_MPP).images
    rgb = _read_whole(path, source.mpp)
    return [StainedImage(rgb, fit_stain_profile(rgb.reshape(-1, 3)[::_PROFILE_STRIDE], recipe.stain, recipe.seed))]


def _read_whole(path: Path, mpp: float | None) -> NDArray[np.uint8]:
    with open_slide(path, mpp, identify=False) as slide:
        grid = WorkingGrid(slide.info.size, require_mpp(slide.info), WORKING_MPP)
        if grid.size_px.area > _MAX_WHOLE_PX:
            raise UsageError(
                f"{path}: {grid.size_px.width}x{grid.size_px.height} px at {WORKING_MPP:g} um/px; at most "
                f"{_MAX_WHOLE_PX:,} px are taken whole. Set whole = false in the recipe's source."
            )
        return read_box(slide, Box(0, 0, grid.size_px.width, grid.size_px.height), grid.scale)


def _majority(stains: Sequence[Stain]) -> Stain:
    return Stain.HE if 2 * sum(stain == Stain.HE for stain in stains) >= len(stains) else Stain.IHC

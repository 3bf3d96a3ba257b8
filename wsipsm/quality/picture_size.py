"""A check of the pixel size: the shipped network describes patches of tissue at several assumed sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.errors import MissingMppError, SlideReadError
from wsipsm.geometry import Box, Size
from wsipsm.keys import Stain
from wsipsm.models.card import ModelCard
from wsipsm.models.registry import resolve_model
from wsipsm.models.shipped import DEFAULT_MODELS
from wsipsm.quality.finding import Finding, Verdict
from wsipsm.quality.pixel_size import (
    FAR_STEPS,
    FARTHEST_OCTAVES,
    NEAR_OCTAVES,
    STEPS,
    PatchSeen,
    check_pixel_size,
    check_statements,
    estimate_octaves,
    unchecked_pixel_size,
)
from wsipsm.quality.ruler import Ruler, read_ruler, show_nuclei
from wsipsm.slide.base import Slide, SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import require_mpp
from wsipsm.slide.read import read_box
from wsipsm.tissue import TissueMask

if TYPE_CHECKING:
    from wsipsm.models.describe import Describer

RULED_MODEL = DEFAULT_MODELS[Stain.HE]
"""Name of the model that describes patches for the ruler, on slides of any stain."""
PATCH_PX = 256
"""Side of a patch, pixels at the assumed size."""
_MIN_PATCH_PX = 32
N_PATCHES = 4
N_PATCHES_IN_DOUBT = 8
"""Patches of the second measurement, which follows where the first estimate is far from the stated size."""
_N_CANDIDATES = 24
_CANDIDATE_UM = 64.0
"""Side of the square whose mean red light ranks a candidate, um."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """The places to sample, and the network to sample them with."""

    slide: Slide
    centres_px0: NDArray[np.float64]
    """x, y, shape (n, 2)."""
    describer: Describer

    def seen(self, steps: Iterable[float], n_patches: int) -> list[PatchSeen]:
        """Describe patches as if their pixels were 2 to the power of each step times as large as stated.

        A patch that cannot be read is left out: the run itself reports what it cannot read.
        """
        card = self.describer.card
        nucleus = card.outputs.index("nucleus") - len(card.outputs)
        found = []
        for step in steps:
            scale = card.mpp / (require_mpp(self.slide.info) * 2.0**step)
            boxes: set[Box] = set()
            for place, centre in enumerate(self.centres_px0[:n_patches].tolist()):
                box = patch_box(self.slide, centre, scale, card.stride)
                # On a small image several centres give the same patch, which must not count more than once.
                if box is None or box in boxes:
                    continue
                boxes.add(box)
                try:
                    rgb = read_patch(self.slide, box, scale)
                except SlideReadError:
                    continue
                described = self.describer.describe(show_nuclei(rgb))
                found.append(PatchSeen(place, step, described, float(described[0, nucleus])))
        return found


def check_picture_size(
    slide: Slide, thumbnail: NDArray[np.uint8], tissue: TissueMask, seed: int = 0
) -> tuple[Finding, ...]:
    """Check the pixel size in use against the picture, and against other statements of the file.

    Parameters
    ----------
    slide
        Open slide with a plausible pixel size.
    thumbnail
        RGB of the mask's shape, (h, w, 3), uint8.
    tissue
        Tissue that patches are chosen from.
    seed
        The same seed gives the same patches.

    Returns
    -------
    Finding ``pixel_size`` and, where the file contradicts itself and the picture does not decide,
    ``pixel_size_statements``.

    Raises
    ------
    ModelError
        When the shipped model cannot be used.
    """
    stated = require_mpp(slide.info)
    weights, card = resolve_model(RULED_MODEL)
    describer, ruler = load_describer(str(weights), card), read_ruler()
    if describer.card.sha256 != ruler.sha256:
        picture = unchecked_pixel_size(stated, f"it is not fitted for the weights of {describer.card.name}")
    else:
        sample = _Sample(slide, choose_centres(slide.info, thumbnail, tissue, seed), describer)
        picture = check_pixel_size(_measure(sample, ruler), stated, _source(slide.info))
    statements = check_statements(slide.info.mpp_statements, picture)
    return (picture,) if statements is None else (picture, statements)


def _measure(sample: _Sample, ruler: Ruler) -> float | None:
    """Estimate the octaves between the true and the stated pixel size; if they are many, measure again around them."""
    seen = sample.seen(STEPS, N_PATCHES)
    octaves = estimate_octaves(seen, ruler)
    if octaves is None:
        octaves = estimate_octaves(seen + sample.seen(FAR_STEPS, N_PATCHES), ruler)
    if octaves is None or abs(octaves) <= NEAR_OCTAVES:
        return octaves
    centre = min(max(octaves, -FARTHEST_OCTAVES), FARTHEST_OCTAVES)
    return estimate_octaves(sample.seen([centre + step for step in STEPS], N_PATCHES_IN_DOUBT), ruler)


def patch_box(slide: Slide, centre_px0: Sequence[float], scale: float, stride: int) -> Box | None:
    """Place a patch around a point of a slide, moved so that it lies within the scanned area.

    Parameters
    ----------
    slide
        Open slide.
    centre_px0
        x, y, level-0 pixels.
    scale
        Level-0 pixels for each pixel of the patch.
    stride
        Length, in pixels of the patch, that the sides are multiples of.

    Returns
    -------
    Box in pixels of the patch, counted from the corner of the scanned area; None where that area is too small.
    """
    content = SlideFrame.of(slide.info).content
    size = Size(int(content.width / scale), int(content.height / scale))
    width, height = (min(PATCH_PX, side) // stride * stride for side in (size.width, size.height))
    if min(width, height) < _MIN_PATCH_PX:
        return None
    left, top = (
        int(min(max((at - origin) / scale - side / 2, 0), whole - side))
        for at, origin, side, whole in zip(
            centre_px0, (content.x, content.y), (width, height), (size.width, size.height), strict=True
        )
    )
    return Box(left, top, width, height)


def read_patch(slide: Slide, box: Box, scale: float) -> NDArray[np.uint8]:
    """Read a patch that :func:`patch_box` placed: RGB of shape (box.height, box.width, 3), uint8.

    Raises
    ------
    SlideReadError
        When the slide cannot be read there.
    """
    content = SlideFrame.of(slide.info).content
    return read_box(slide, box, scale, (content.x, content.y))


def load_describer(weights: str, card: ModelCard) -> Describer:
    """Open the network that describes patches; no other function of this check loads a network, or torch."""
    from wsipsm.models.describe import open_describer

    return open_describer(Path(weights), card)


def refuse_picture_size(findings: Sequence[Finding], info: SlideInfo) -> None:
    """Refuse a slide whose picture does not fit its pixel size.

    Raises
    ------
    MissingMppError
        When it does not; the error holds the pixel size that would fit.
    """
    for finding in findings:
        if finding.name == "pixel_size" and finding.verdict == Verdict.FLAG:
            raise MissingMppError(
                f"{info.path}: {finding.text} A pixel size that fits is needed, as --on-pixel-size refuse demands. "
                f"--mpp {finding.value:.2g} would fit.",
                path=info.path,
                value=info.mpp,
                needed=finding.value,
                option="--mpp",
            )


def _source(info: SlideInfo) -> str:
    return info.mpp_statements[0].source if info.mpp_statements else "given"


def choose_centres(info: SlideInfo, thumbnail: NDArray[np.uint8], tissue: TissueMask, seed: int) -> NDArray[np.float64]:
    """Choose random points of tissue, the darker half of them in red light, where hematoxylin and so nuclei are.

    Parameters
    ----------
    info
        Facts of the slide; its pixel size must be known.
    thumbnail
        RGB of the mask's shape, (h, w, 3), uint8.
    tissue
        Tissue to choose from; where none was found, the whole mask is used.
    seed
        Seed of the choice.

    Returns
    -------
    x, y, level-0 pixels, shape (n, 2); the same order at every call with the same seed.
    """
    rows, columns = np.nonzero(tissue.tissue if tissue.tissue.any() else tissue.mask)
    if len(rows) == 0:
        return np.empty((0, 2))
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(rows), min(_N_CANDIDATES, len(rows)), replace=False)
    around = max(1, round(_CANDIDATE_UM / (require_mpp(info) * tissue.px0_per_pixel)))
    red = ndimage.uniform_filter(thumbnail[..., 0].astype(np.float32), around)
    drawn = drawn[np.argsort(red[rows[drawn], columns[drawn]], kind="stable")]
    chosen = rng.permutation(drawn[: max(N_PATCHES_IN_DOUBT, len(drawn) // 2)])
    xy = np.column_stack([columns[chosen], rows[chosen]]) + 0.5
    return np.asarray(xy * tissue.px0_per_pixel + tissue.origin_px0, dtype=np.float64)

"""The pixel size by the picture: patches of tissue, searched by the shipped network at several assumed sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.errors import MissingMppError, SlideReadError
from wsipsm.geometry import Box, Size
from wsipsm.instances.decode import decode_instances
from wsipsm.keys import Stain
from wsipsm.models.card import ModelCard
from wsipsm.models.registry import DEFAULT_MODELS, resolve_model
from wsipsm.quality.finding import Finding, Verdict
from wsipsm.quality.pixel_size import (
    NEAR_OCTAVES,
    NEAR_STEPS,
    RULERS,
    STEPS,
    NucleiSeen,
    Ruler,
    check_pixel_size,
    check_statements,
    estimate_octaves,
    pool,
    see_nuclei,
    unchecked_pixel_size,
)
from wsipsm.slide.base import Slide, SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import require_mpp
from wsipsm.slide.read import read_box
from wsipsm.stages.block import opened_predictor
from wsipsm.tiling import round_up
from wsipsm.tissue import TissueMask

if TYPE_CHECKING:
    from wsipsm.models.predict import Predictor

PATCH_PX = 320
_MIN_PATCH_PX = 32
_MARGIN_PX = 32
N_PATCHES = 3
N_PATCHES_IN_DOUBT = 6
_N_CANDIDATES = 24
_CANDIDATE_UM = 64.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """Where to look, and with what."""

    slide: Slide
    centres_px0: NDArray[np.float64]
    """x, y, shape (n, 2)."""
    predictor: Predictor

    def seen(self, step: int, patches: slice) -> list[NucleiSeen]:
        """Search patches as if their pixels were 2 to the power of ``step`` times as large as stated."""
        card = self.predictor.card
        scale = card.mpp / (require_mpp(self.slide.info) * 2.0**step)
        content = SlideFrame.of(self.slide.info).content
        size = Size(int(content.width / scale), int(content.height / scale))
        width, height = min(PATCH_PX, size.width), min(PATCH_PX, size.height)
        if min(width, height) < _MIN_PATCH_PX:
            return []
        corners = (self.centres_px0[patches] - (content.x, content.y)) / scale - np.array([width, height]) / 2
        corners = np.clip(corners, 0, np.array([size.width - width, size.height - height])).astype(int)
        # The same patch twice, on a small image, would count its nuclei twice.
        boxes = [Box(x, y, width, height) for x, y in sorted(set(map(tuple, corners.tolist())))]
        found = []
        for box in boxes:
            try:
                rgb = read_box(self.slide, box, scale, (content.x, content.y))
            except SlideReadError:
                continue
            found.append(_search(self.predictor, rgb))
        return found


def check_picture_size(
    slide: Slide, thumbnail: NDArray[np.uint8], tissue: TissueMask, stain: Stain, seed: int = 0, backend: str = "auto"
) -> tuple[Finding, ...]:
    """Check the pixel size that is used by the picture, and by what else the file states.

    Parameters
    ----------
    slide
        Open slide with a plausible pixel size.
    thumbnail
        RGB of the mask's shape, (h, w, 3), uint8.
    tissue
        Where to look.
    stain
        That the slide shows.
    seed
        The same seed gives the same patches.
    backend
        What runs the network.

    Raises
    ------
    ModelError
        When the shipped model cannot be used.
    """
    stated = require_mpp(slide.info)
    weights, card = resolve_model(DEFAULT_MODELS[stain])
    ruler = RULERS[stain]
    predictor = opened_predictor(str(Path(weights).resolve()), card.model_dump_json(), backend, 1)
    if predictor.card.sha256 != ruler.sha256:
        picture = unchecked_pixel_size(stated, f"it is not fitted for the weights of {predictor.card.name}")
    else:
        sample = _Sample(slide, _choose_centres(slide.info, thumbnail, tissue, seed), predictor)
        seen = {step: sample.seen(step, slice(N_PATCHES)) for step in NEAR_STEPS}
        octaves = _estimate(seen, ruler)
        if octaves is None or abs(octaves) > NEAR_OCTAVES:
            rest = slice(N_PATCHES, N_PATCHES_IN_DOUBT)
            seen |= {step: sample.seen(step, slice(N_PATCHES)) for step in STEPS if step not in NEAR_STEPS}
            octaves = _estimate({step: found + sample.seen(step, rest) for step, found in seen.items()}, ruler)
        picture = check_pixel_size(octaves, stated, _source(slide.info))
    statements = check_statements(slide.info.mpp_statements, picture)
    return (picture,) if statements is None else (picture, statements)


def nuclei_at_every_step(
    slide: Slide, thumbnail: NDArray[np.uint8], tissue: TissueMask, stain: Stain, n_patches: int
) -> dict[int, NucleiSeen]:
    """Find what a :class:`~wsipsm.quality.pixel_size.Ruler` is fitted on: nuclei of the same patches at every step.

    Parameters
    ----------
    slide, thumbnail, tissue, stain
        As for :func:`check_picture_size`.
    n_patches
        At most ``N_PATCHES_IN_DOUBT``.
    """
    weights, card = resolve_model(DEFAULT_MODELS[stain])
    predictor = opened_predictor(str(Path(weights).resolve()), card.model_dump_json(), "auto", 1)
    sample = _Sample(slide, _choose_centres(slide.info, thumbnail, tissue, seed=0), predictor)
    return {step: pool(sample.seen(step, slice(n_patches))) for step in STEPS}


def refuse_picture_size(findings: Sequence[Finding], path: str) -> None:
    """Refuse a slide whose picture does not fit its pixel size.

    Raises
    ------
    MissingMppError
        With the pixel size that would fit.
    """
    for finding in findings:
        if finding.name == "pixel_size" and finding.verdict == Verdict.FLAG:
            raise MissingMppError(
                f"{path}: {finding.text} A pixel size that fits is needed, as --on-pixel-size refuse asks. "
                f"--mpp {finding.value:.2g} would fit."
            )


def _estimate(seen: dict[int, list[NucleiSeen]], ruler: Ruler) -> float | None:
    return estimate_octaves({step: pool(found) for step, found in seen.items()}, ruler)


def _source(info: SlideInfo) -> str:
    return info.mpp_statements[0].source if info.mpp_statements else "given"


def _choose_centres(
    info: SlideInfo, thumbnail: NDArray[np.uint8], tissue: TissueMask, seed: int
) -> NDArray[np.float64]:
    """Draw points of tissue, of those the darker half in red light, where hematoxylin and so nuclei are."""
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


def _search(predictor: Predictor, rgb: NDArray[np.uint8]) -> NucleiSeen:
    card: ModelCard = predictor.card
    height, width = rgb.shape[:2]
    top, left = min(_MARGIN_PX, height - 1), min(_MARGIN_PX, width - 1)
    below = min(round_up(height + top + _MARGIN_PX, card.stride) - height - top, height - 1)
    right = min(round_up(width + left + _MARGIN_PX, card.stride) - width - left, width - 1)
    padded = np.pad(rgb, ((top, below), (left, right), (0, 0)), mode="reflect")
    rest = [(0, -side % card.stride) for side in padded.shape[:2]]
    padded = np.pad(padded, (*rest, (0, 0)), mode="edge")
    maps = predictor.predict(padded)[:, top : top + height, left : left + width]
    maps = np.ascontiguousarray(maps)
    labels = decode_instances(maps, card.outputs, card.decode, card.mpp)
    nucleus, distance = (maps[card.outputs.index(name)] for name in ("nucleus", "distance"))
    return see_nuclei(labels, nucleus, distance, card.mpp)

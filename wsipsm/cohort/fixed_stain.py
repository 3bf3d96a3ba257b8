"""Stains and DAB cut that are fitted once, on a reference slide or on the slides of a cohort, and applied to all.

A cut fitted on each slide follows the slide's stain, which differs between runs of the stainer. One cut for a batch
makes indices comparable, as long as the batch was stained alike. The laboratory decides which of them is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from wsipsm.config import FixedStain
from wsipsm.errors import UsageError
from wsipsm.keys import Stain
from wsipsm.rundir import write_aside
from wsipsm.slide.open import open_slide
from wsipsm.slide.partial import read_partial_thumbnail
from wsipsm.stain import FALLBACK_BACKGROUND, detect_stain, estimate_background, fit_stain_profile
from wsipsm.tissue import find_slide_tissue, sample_tissue

BATCH = "batch"
"""Value of ``--stain-from`` that stands for the slides of the cohort in place of one reference slide."""
STAIN_NAME = "cohort.stain.json"
MAX_SLIDES = 24
"""The largest number of slides of a cohort, evenly spaced, that are sampled."""
_MAX_PIXELS = 20_000


@dataclass(frozen=True, slots=True)
class SampleTask:
    """A slide from which a sample of pixels is taken."""

    path: str
    mpp: float | None
    seed: int
    image: int | None = None


@dataclass(frozen=True, slots=True)
class StainSample:
    """A sample of the tissue pixels of one slide."""

    stain: Stain
    rgb: NDArray[np.uint8]
    """Pixels, shape (n, 3), rescaled so that glass has the colour ``FALLBACK_BACKGROUND``."""
    reason: str
    """Reason why the slide counts as of this stain."""


def sample_stain(task: SampleTask) -> StainSample:
    """Sample tissue pixels of a slide, at most ``_MAX_PIXELS``, rescaled to a common colour of empty glass.

    Raises
    ------
    WsipsmError
        When the slide cannot be read.
    """
    with open_slide(task.path, task.mpp, task.image, identify=False) as slide:
        thumbnail, px0_per_pixel, _ = read_partial_thumbnail(slide)
        tissue = find_slide_tissue(slide.info, thumbnail, px0_per_pixel)
        pixels = sample_tissue(slide, tissue, task.seed).pixels
    decision = detect_stain(pixels)
    chosen = np.random.default_rng(task.seed).permutation(len(pixels))[:_MAX_PIXELS]
    background, _ = estimate_background(pixels)
    levels = pixels[chosen] * (np.asarray(FALLBACK_BACKGROUND) / background)
    return StainSample(decision.stain, np.clip(np.rint(levels), 0, 255).astype(np.uint8), decision.reason)


def fit_fixed_stain(samples: Sequence[StainSample], source: str, seed: int) -> FixedStain:
    """Fit stains and cut to the pixels of all samples together, so that each slide weighs by its pixels.

    Parameters
    ----------
    samples
        Samples of hematoxylin-DAB slides; others are left out.
    source
        Origin of the samples, in words for the user.
    seed
        Seed of the fit.

    Raises
    ------
    UsageError
        When no sample comes from a hematoxylin-DAB slide.
    """
    brown = [sample.rgb for sample in samples if sample.stain is Stain.IHC and len(sample.rgb)]
    if not brown:
        reason = samples[0].reason if samples else "no slide could be read."
        raise UsageError(
            f"--stain-from: {source}: a hematoxylin-DAB slide is needed, since a DAB cut is fitted. {reason} "
            "Name another slide, or leave the flag out."
        )
    profile = fit_stain_profile(np.concatenate(brown), Stain.IHC, seed)
    assert profile.dab_cut_od is not None  # a hematoxylin-DAB profile always has a cut
    notes = tuple(note for note in profile.notes if note not in profile.glass_notes)
    return FixedStain(
        source=source,
        hematoxylin=profile.hematoxylin,
        dab=profile.counterstain,
        dab_cut_od=profile.dab_cut_od,
        notes=notes,
    )


def fixed_stain_of(path: Path, mpp: float | None, seed: int) -> FixedStain:
    """Fit stains and cut on one reference slide.

    Raises
    ------
    UsageError
        When the file is no hematoxylin-DAB slide.
    WsipsmError
        When the slide cannot be read.
    """
    return fit_fixed_stain([sample_stain(SampleTask(str(path), mpp, seed))], path.name, seed)


def read_fixed_stain(folder: Path) -> FixedStain | None:
    """Read the stains and cut that an earlier command fitted for a cohort; None when there are none.

    Raises
    ------
    UsageError
        When the file cannot be used.
    """
    path = folder / STAIN_NAME
    try:
        return FixedStain.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        cause = error.strerror if isinstance(error, OSError) else f"{error.error_count()} values are wrong"
        raise UsageError(
            f"{path}: cannot be used ({cause}); what --stain-from batch wrote is needed. Remove it to fit anew."
        ) from error


def write_fixed_stain(folder: Path, fixed: FixedStain) -> None:
    """Write the stains and cut into the cohort's folder, so that slides added later get the same cut.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """
    with write_aside(folder / STAIN_NAME) as temporary:
        temporary.write_text(fixed.model_dump_json(indent=2) + "\n", encoding="utf-8")

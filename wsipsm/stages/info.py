"""The facts about a slide, and what a run would do with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsipsm.errors import SlideReadError, UnsupportedSlideError
from wsipsm.models.registry import resolve_model
from wsipsm.models.shipped import DEFAULT_MODELS
from wsipsm.quality.finding import Finding, flags_of
from wsipsm.quality.stain_checks import check_stain
from wsipsm.slide.base import Slide, SlideImage, SlideInfo
from wsipsm.slide.open import open_slide
from wsipsm.stages.preview import preview_slide


@dataclass(frozen=True, slots=True)
class SlideReport:
    """Facts from the file, and what a run would find before it looks for nuclei."""

    info: SlideInfo
    tissue_fraction: float | None
    """Share of the thumbnail that is tissue, 0..1; None when the pixels cannot be read."""
    stain: str | None
    """Stain, 'he' or 'ihc'; None when the pixels cannot be read or there is no tissue."""
    model: str | None
    """Name of the model that a run takes when the user names none; None without a stain."""
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    """Findings of the picture's checks."""

    @property
    def mpp_is_plausible(self) -> bool:
        """Whether the stated pixel size lies in the range in which nuclei can be outlined."""
        return self.info.mpp_is_plausible

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        info = self.info
        bounds = info.bounds
        return {
            "path": info.path,
            "reader": info.reader,
            "vendor": info.vendor,
            "fingerprint": info.fingerprint,
            "width_px0": info.size.width,
            "height_px0": info.size.height,
            "mpp": info.mpp,
            "mpp_is_plausible": self.mpp_is_plausible,
            "mpp_statements": [asdict(statement) for statement in info.mpp_statements],
            "objective_power": info.objective_power,
            "levels": [
                {"width": size.width, "height": size.height, "downsample": info.downsample(level)}
                for level, size in enumerate(info.level_sizes)
            ],
            "bounds_px0": None if bounds is None else [bounds.x, bounds.y, bounds.width, bounds.height],
            "image": info.image,
            "images": [
                _image_facts(image) for image in info.images or (SlideImage("", info.size, len(info.level_sizes)),)
            ],
            "associated": [_image_facts(image) for image in info.associated],
            "tissue_fraction": self.tissue_fraction,
            "stain": self.stain,
            "model": self.model,
            "checks": [finding.model_dump(mode="json") for finding in self.findings],
            "flags": flags_of(self.findings),
            "notes": list(self.notes),
        }


def _image_facts(image: SlideImage) -> dict[str, str | int]:
    return {"name": image.name, "width": image.size.width, "height": image.size.height, "n_levels": image.n_levels}


def describe_slide(path: Path, mpp: float | None = None, image: int | None = None) -> SlideReport:
    """Describe a slide; unreadable pixels and an unusable stain are notes, not errors.

    Parameters
    ----------
    path
        Slide or image file.
    mpp
        Level-0 pixel size in um/px, instead of the file's.
    image
        Number of the image in the file, from 1; None stands for the largest pyramid.

    Raises
    ------
    SlideOpenError
        When no reader opens the file.
    UsageError
        When there is no image of that number.
    """
    with open_slide(path, mpp, image) as slide:
        try:
            return _preview_pixels(slide)
        except (SlideReadError, UnsupportedSlideError) as error:
            return SlideReport(slide.info, None, None, None, (*slide.info.notes, str(error)))


def _preview_pixels(slide: Slide) -> SlideReport:
    preview = preview_slide(slide)
    tissue = preview.tissue
    notes = (*slide.info.notes, *(() if tissue.note is None else (tissue.note,)))
    if len(preview.pixels) == 0:
        return SlideReport(slide.info, tissue.fraction, None, None, (*notes, "no tissue pixels that show the stain"))
    decision = preview.decision
    model = DEFAULT_MODELS[decision.stain]
    findings = (*preview.sizes, *check_stain(preview.pixels, decision, resolve_model(model)[1]), *preview.quality)
    return SlideReport(slide.info, tissue.fraction, str(decision.stain), model, (*notes, decision.reason), findings)

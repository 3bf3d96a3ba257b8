"""The plan of a slide: where to search, in which stain, with which model, in which blocks."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType

from wsipsm.config import RunOptions
from wsipsm.executors.budget import Budget
from wsipsm.geometry import WorkingGrid
from wsipsm.models.card import ModelCard
from wsipsm.models.registry import resolve_model
from wsipsm.models.shipped import DEFAULT_MODELS
from wsipsm.quality.finding import Finding
from wsipsm.quality.picture_size import refuse_picture_size
from wsipsm.quality.stain_checks import check_stain
from wsipsm.region import PolygonRegion, Region, read_roi
from wsipsm.results.provenance import shard_code
from wsipsm.rundir import RunDir, digest
from wsipsm.slide.base import Slide, SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import require_mpp
from wsipsm.slide.pixel_size import notes_on_mpp
from wsipsm.stages.block import SlideJob
from wsipsm.stages.block_size import choose_job, job_budget, wanted_sides
from wsipsm.stages.preview import preview_slide
from wsipsm.stain import StainDecision, StainProfile, fit_stain_profile
from wsipsm.tiling import Block, BlockGeometry, BlockSides
from wsipsm.tissue import TissueMask

NOT_IN_SHARD_KEY = MappingProxyType(
    {
        "slide_path": "the fingerprint names the slide",
        "mpp": "the geometry holds it",
        "weights": "the card holds their checksum",
        "threads": "no result depends on them",
        "timed": "no result depends on whether steps are timed",
        "key": "is made of the others",
        "folder": "may be moved",
    }
)
"""Fields of a job that do not change a shard, and why; another value of any other field makes another shard."""


@dataclass(frozen=True)
class SlidePlan:
    """Everything that is decided before the first block is read; it is small, since processes send it to each other."""

    info: SlideInfo
    frame: SlideFrame
    tissue: TissueMask
    region: Region
    decision: StainDecision
    model_reason: str
    job: SlideJob
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    """Findings of the picture's checks before its nuclei were looked for."""
    n_unread_in_plan: int = 0
    """Number of parts of the overview and patches of the stain sample that could not be read."""

    @property
    def n_tiles(self) -> int:
        """Number of tiles of all planned blocks."""
        return sum(self.job.geometry.count_tiles(block.core) for block in self.blocks)

    @property
    def result_key(self) -> str:
        """Key that names the shards together with the region to which their nuclei are cut."""
        return digest([self.job.key, self.region.facts().to_dict()])

    def with_threads(self, threads: int) -> SlidePlan:
        """Give each worker's network that many threads; results do not depend on it."""
        return replace(self, job=replace(self.job, threads=threads))

    @property
    def budget(self) -> Budget:
        """Memory and disk that the plan needs."""
        return job_budget(self.job, self.info, sum(block.core.area for block in self.blocks))


def plan_slide(slide: Slide, options: RunOptions, run_dir: RunDir) -> SlidePlan:
    """Plan the run of a slide by its thumbnail and a sample of its tissue.

    Parameters
    ----------
    slide
        Open slide.
    options
        Options of the run.
    run_dir
        Folder of the results, in which shards will be written.

    Raises
    ------
    MissingMppError, UnsupportedSlideError, SlideReadError
        When the slide cannot be scored.
    RoiError, ModelError
        When the region or the model that the user gave cannot be used.
    """
    info = slide.info
    slide_mpp = require_mpp(info)
    frame = SlideFrame.of(info, options.qupath_frame)
    preview = preview_slide(slide, options.seed)
    chosen = _choose_model(options, preview.decision)
    if options.on_pixel_size == "refuse":
        refuse_picture_size(preview.sizes, info)
    profile = fit_stain_profile(preview.pixels, chosen.card.stain, options.seed)
    if options.stain is not None:
        profile = options.stain.replace_in(profile)
    region = _choose_region(options, info, preview.tissue)
    grid = frame.grid(slide_mpp, chosen.card.mpp)
    jobs = [_job(info, options, grid, sides, chosen, profile, run_dir) for sides in wanted_sides(options)]
    job = choose_job(jobs, options, info, region, run_dir)
    return SlidePlan(
        info=info,
        frame=frame,
        tissue=preview.tissue,
        region=region,
        decision=preview.decision,
        model_reason=chosen.reason,
        job=job,
        blocks=tuple(job.geometry.blocks_in(region)),
        notes=(
            *info.notes,
            *notes_on_mpp(info.mpp_statements),
            *_region_notes(region, preview.tissue),
            *profile.notes,
            *_resolution_notes(grid),
        ),
        n_unread_in_plan=preview.n_unread,
        findings=(*preview.sizes, *check_stain(preview.pixels, preview.decision, chosen.card), *preview.quality),
    )


@dataclass(frozen=True, slots=True)
class _ChosenModel:
    weights: Path
    card: ModelCard
    reason: str


def _job(
    info: SlideInfo,
    options: RunOptions,
    grid: WorkingGrid,
    sides: BlockSides,
    chosen: _ChosenModel,
    profile: StainProfile,
    run_dir: RunDir,
) -> SlideJob:
    card = chosen.card
    job = SlideJob(
        # The paths must be absolute, since workers of a running scheduler have other current folders.
        slide_path=os.path.abspath(info.path),
        mpp=options.mpp,
        image=info.image,
        fingerprint=info.fingerprint,
        geometry=BlockGeometry.of_network(
            grid,
            sides,
            stride=card.stride,
            reach_px=card.reach_px,
            max_area_um2=card.decode.max_area_um2,
        ),
        weights=os.path.abspath(chosen.weights),
        card=card,
        profile=profile,
        inference=options.how_to_infer(),
        threads=1,
        timed=options.profile,
        key="",
        folder=os.path.abspath(run_dir.root),
    )
    return replace(job, key=_shard_key(job))


def _choose_region(options: RunOptions, info: SlideInfo, tissue: TissueMask) -> Region:
    if options.roi is None:
        return tissue
    return read_roi(options.roi, info, options.roi_rules(), within=tissue, qupath_frame=options.qupath_frame)


def _region_notes(region: Region, tissue: TissueMask) -> tuple[str, ...]:
    notes = region.notes if isinstance(region, PolygonRegion) else ()
    return (*((tissue.note,) if tissue.note else ()), *notes)


def _choose_model(options: RunOptions, decision: StainDecision) -> _ChosenModel:
    """Choose the model that the user named, or the one for the stain that the slide shows."""
    if options.model is None:
        return _ChosenModel(*resolve_model(DEFAULT_MODELS[decision.stain]), decision.reason)
    weights, card = resolve_model(options.model)
    return _ChosenModel(weights, card, "named by --model")


def _resolution_notes(grid: WorkingGrid) -> tuple[str, ...]:
    if grid.scale >= 0.75:
        return ()
    return (
        f"the slide has {grid.slide_mpp:g} um/px and the model works at {grid.mpp:g}: pixels are enlarged, which "
        "adds no detail. Outlines are less exact than on a finer scan.",
    )


def _shard_key(job: SlideJob) -> str:
    """Compute the digest of everything that decides a shard's content; machine and folder do not count."""
    own = {item.name: getattr(job, item.name) for item in fields(job) if item.name not in NOT_IN_SHARD_KEY}
    card = job.card.model_dump(mode="json", exclude={"name", "licence", "data", "training", "scores"})
    decisive = {
        "geometry": asdict(job.geometry),
        "card": card,
        "profile": job.profile,
        "inference": asdict(job.inference.kind),
    }
    return digest({**own, **decisive, "code": shard_code()})

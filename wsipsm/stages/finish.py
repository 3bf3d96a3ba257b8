"""The last step of a slide, which makes the results from the shards."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsipsm.config import RunOptions
from wsipsm.errors import SlideOpenError, SlideReadError, UsageError
from wsipsm.export.overview import OverviewCanvas
from wsipsm.export.trace import write_trace
from wsipsm.geometry import Box
from wsipsm.keys import Artefact, Stain
from wsipsm.markers.registry import marker_of
from wsipsm.region import PolygonRegion
from wsipsm.region.coverage import read_coverage
from wsipsm.results.file_facts import nuclei_facts
from wsipsm.results.scoring_key import Scoring
from wsipsm.results.shown_scoring import finish_own
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir, write_aside
from wsipsm.slide.open import open_slide
from wsipsm.slide.partial import read_partial_thumbnail
from wsipsm.stages.brown_sample import check_nuclei
from wsipsm.stages.plan import SlidePlan
from wsipsm.stages.prepare import PreparedSlide
from wsipsm.stages.score import RegionFacts, Scored, read_annotation_rows, read_stains, write_region, write_score
from wsipsm.stages.summarise import SlideResult, overview_caption, provenance, summarise
from wsipsm.stages.write import write_cells
from wsipsm.tiling import Block
from wsipsm.timing import Steps

if TYPE_CHECKING:  # executors do not change results, so they must not count as code of this module
    from wsipsm.stages.segment import Segmented

_PICTURE_PX = 3000
_LARGE_PICTURE_UP_TO_PX0 = 8192
"""Longest level-0 side of a slide whose picture has sides of up to ``_PICTURE_PX``, which are read quickly here and
show single nuclei."""
_PICTURE_QUALITY = 92
_SHARED_DISK_TIMEOUT_S = 60.0


def finish_slide(prepared: PreparedSlide, segmented: Segmented, options: RunOptions) -> RunSummary:
    """Write a slide's results from the shards of its blocks.

    Parameters
    ----------
    prepared, segmented
        The slide, and the outcome of its blocks.
    options
        Options of the run.

    Returns
    -------
    The summary, which is also written into the slide's folder.

    Raises
    ------
    SlideReadError
        When no pixel of the region could be read.
    SlideOpenError
        When the file's content has changed since the slide was planned.
    OutputError
        When results cannot be written. Older results stay as they were until the new nuclei are complete; after that
        the folder counts as unfinished.
    UsageError
        When shards that workers of a scheduler wrote are not seen on this machine.
    """
    started, steps = time.perf_counter(), Steps(options.profile)
    plan, run_dir = prepared.plan, RunDir(prepared.folder)
    made = [block for block in plan.blocks if block.index in segmented.reports]
    if options.scheduler is not None:
        _wait_for_shards([run_dir.shard_path(plan.job.key, block) for block in made], options.scheduler)
    result = _write_results(plan, run_dir, segmented, made, options, steps)
    writing = time.perf_counter() - started
    seconds = {"plan": prepared.seconds, "segment": segmented.seconds, "write": round(writing, 3)}
    seconds["total"] = round(sum(seconds.values()), 3)
    with steps.timed("score"):
        scored = _score(result, run_dir)
    summary = summarise(result, run_dir.root, seconds, prepared.request, prepared.notes, scored)
    provenance(result, options, summary, steps.seconds).write(run_dir)
    _write_trace(run_dir, prepared, segmented, steps)
    # The folder is marked as finished last. Then shards are not needed, unless a part must be read again.
    finish_own(run_dir, summary)
    kept = [] if summary.is_finished else made
    run_dir.remove_shards([run_dir.shard_path(plan.job.key, block) for block in kept])
    return summary


def _write_trace(run_dir: RunDir, prepared: PreparedSlide, segmented: Segmented, steps: Steps) -> None:
    """Write when each step ran, where that was asked for; what an earlier run left is removed."""
    if not steps.keeps_spans:
        run_dir.remove(Artefact.TRACE)
        return
    blocks = ((span, {"block": index}) for index, report in segmented.reports.items() for span in report.spans)
    own = ((span, dict[str, int]()) for span in (*prepared.spans, *steps.spans))
    write_trace(run_dir.path(Artefact.TRACE), [*own, *blocks])


def _write_results(
    plan: SlidePlan, run_dir: RunDir, segmented: Segmented, made: Sequence[Block], options: RunOptions, steps: Steps
) -> SlideResult:
    """Write nuclei and overview from the blocks that have a shard."""
    lost = _lost_boxes(plan, segmented)
    coverage = read_coverage(plan.region, lost)
    if plan.blocks and coverage == 0:
        raise SlideReadError(
            f"{plan.info.path}: no pixel of the region could be read; a readable slide is needed. "
            "Copy it again from its source.",
            path=plan.info.path,
            value="no pixel of the region could be read",
            needed="a readable slide",
        )
    with steps.timed("picture"):
        picture, px0_per_pixel = _read_picture(plan, run_dir, options)
    region = plan.region.shape if isinstance(plan.region, PolygonRegion) else None
    grid = plan.job.geometry.grid
    scoring = _scoring_of(plan, options)
    canvas = OverviewCanvas(picture, px0_per_pixel, region, grid.slide_mpp, grid.origin_px0)
    card, profile = plan.job.card, plan.job.profile
    about = nuclei_facts(plan.info, plan.frame, (card.name, card.sha256), scoring)
    totals = write_cells(plan, run_dir, made, lost, about, canvas, steps)
    _keep_picture(run_dir, picture)
    stains = read_stains(run_dir, profile.dab_cut_od, None if profile.glass_notes else profile.background)
    annotations = read_annotation_rows(run_dir, plan.region, plan.job.geometry.grid.slide_mpp)
    with steps.timed("check"):
        findings = (*plan.findings, *check_nuclei(plan, run_dir, options))
    facts = (scoring, stains, px0_per_pixel)
    result = SlideResult(plan, segmented, totals, lost, coverage, *facts, findings, annotations)
    with steps.timed("overview"), write_aside(run_dir.path(Artefact.OVERVIEW)) as temporary:
        caption = overview_caption(plan.info.path, totals, scoring, result.findings)
        canvas.save(temporary, caption, {"wsipsm scoring": scoring.key})
    return result


def _scoring_of(plan: SlidePlan, options: RunOptions) -> Scoring:
    profile = plan.job.profile
    is_scored = profile.stain == Stain.IHC and profile.dab_cut_od is not None
    cut = (profile.dab_cut_od, profile.cut_from) if is_scored else (None, "")
    slide = (plan.info, plan.frame)
    return Scoring.of("run", slide, plan.job.card.sha256, plan.region, cut, marker_of(options.marker).name)


def _keep_picture(run_dir: RunDir, picture: NDArray[np.uint8]) -> None:
    """Keep a small picture of the slide, so that overviews of later scorings can be drawn without it."""
    with write_aside(run_dir.path(Artefact.PICTURE)) as temporary:
        Image.fromarray(picture).save(temporary, format="JPEG", quality=_PICTURE_QUALITY, subsampling=0)


def _score(result: SlideResult, run_dir: RunDir) -> Scored | None:
    """Score the marker; None on H&E."""
    plan, scoring = result.plan, result.scoring
    write_region(run_dir, plan.info, plan.frame, plan.region, scoring)
    if scoring.dab_cut_od is None:
        run_dir.remove(Artefact.SCORE, Artefact.SCORE_AREAS)  # an earlier run with another model may have left them
        return None
    notes = plan.region.notes if isinstance(plan.region, PolygonRegion) else ()
    facts = RegionFacts(result.coverage, notes, result.annotations)
    return write_score(run_dir, plan.info, plan.frame, plan.region, facts, scoring, result.findings)


def _read_picture(plan: SlidePlan, run_dir: RunDir, options: RunOptions) -> tuple[NDArray[np.uint8], float]:
    """Read a small picture of the slide, shape (height, width, 3), and the level-0 pixels per pixel of it."""
    content = plan.frame.content
    with open_slide(plan.info.path, options.mpp, plan.info.image) as slide:
        if slide.info.fingerprint != plan.info.fingerprint:
            # Some blocks may hold pixels of the earlier content and some of the present one.
            run_dir.remove_shards()
            raise SlideOpenError(
                f"{plan.info.path}: its content changed during the run; the same file is needed until the run ends. "
                "Run the command again."
            )
        if max(content.width, content.height) <= _LARGE_PICTURE_UP_TO_PX0:
            picture, px0_per_pixel, _ = read_partial_thumbnail(slide, _PICTURE_PX)
        else:
            picture, px0_per_pixel, _ = read_partial_thumbnail(slide)
    return picture, px0_per_pixel


def _lost_boxes(plan: SlidePlan, segmented: Segmented) -> tuple[Box, ...]:
    """Find the level-0 boxes that were not read or not scored."""
    failed = [block.core for block in plan.blocks if block.index in segmented.failures]
    unread = [box for _, report in sorted(segmented.reports.items()) for box in report.failed]
    return (*unread, *(plan.job.geometry.grid.box_px0(core) for core in failed))


def _wait_for_shards(paths: Sequence[Path], address: str, timeout_s: float = _SHARED_DISK_TIMEOUT_S) -> None:
    """Wait until shards that other machines wrote appear here, since network file systems show new files late."""
    deadline = time.monotonic() + timeout_s
    for path in paths:
        while not path.exists():
            if time.monotonic() > deadline:
                raise UsageError(
                    f"--scheduler {address}: {path} was written by a worker and is not seen here; a folder that all "
                    "machines share is needed. Choose one with --out."
                )
            os.listdir(path.parent)  # a listing renews what a network file system has cached
            time.sleep(0.2)

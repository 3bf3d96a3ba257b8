"""The summary and the provenance of a finished slide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsipsm.config import RunOptions
from wsipsm.facts import Number
from wsipsm.geometry import Box
from wsipsm.quality.finding import Finding, flags_of, reason_to_withhold
from wsipsm.region import AnnotationFacts, Region
from wsipsm.results.provenance import library_versions, machine_facts, package_version, result_code
from wsipsm.results.run_record import (
    AreaFacts,
    GridFacts,
    Keys,
    MachineFacts,
    ModelFacts,
    PictureFacts,
    RunRecord,
    SeamFacts,
    SecondsFacts,
    StainFacts,
)
from wsipsm.results.scoring_key import Scoring
from wsipsm.results.summary import (
    RESEARCH_USE,
    RESULTS,
    RunSummary,
    ScoredPolygon,
    ScoredTissue,
    ScoreFacts,
    scored_region,
)
from wsipsm.scoring.drift import StainStatistics
from wsipsm.scoring.index import LabellingIndex
from wsipsm.stages.block import SlideJob
from wsipsm.stages.plan import SlidePlan
from wsipsm.stages.score import Scored
from wsipsm.stages.write import AREA_STEP_UM2, Totals
from wsipsm.text import clean_text

if TYPE_CHECKING:  # executors do not change results, so they must not count as code of this module
    from wsipsm.stages.segment import Segmented


@dataclass(frozen=True)
class Counts:
    """Values of a summary that follow from the nuclei that count and their region; the fields have the same names."""

    n_nuclei: int
    n_positive: int
    n_negative: int
    region: ScoredTissue | ScoredPolygon
    region_area_mm2: float
    coverage: float
    mean_area_um2: float | None
    nuclei_per_mm2: float | None

    @classmethod
    def of(cls, totals: Totals, facts: tuple[Region, Sequence[AnnotationFacts], float], mpp: float) -> Counts:
        """Compute the values from the totals and the region.

        Parameters
        ----------
        totals
            Numbers and areas of the nuclei.
        facts
            The region, how each of its annotations was used, and the share of the region that was read, 0..1.
        mpp
            Pixel size of level 0, um/px.
        """
        region, annotations, coverage = facts
        area_mm2 = region.area_px0() * mpp**2 * 1e-6
        scanned_mm2 = area_mm2 * coverage
        return cls(
            n_nuclei=totals.n_nuclei,
            n_positive=totals.n_positive,
            n_negative=totals.n_negative,
            region=scored_region(region, annotations),
            region_area_mm2=round(area_mm2, 6),
            coverage=round_down(coverage),
            mean_area_um2=round(totals.area_sum_um2 / totals.n_nuclei, 2) if totals.n_nuclei else None,
            nuclei_per_mm2=round(totals.n_nuclei / scanned_mm2, 1) if scanned_mm2 > 0 else None,
        )


def index_values(scored: Scored | None, model: str) -> tuple[LabellingIndex | None, str | None, ScoreFacts | None]:
    """Return index, reason why there is none, and other scores of a summary; ``scored`` is None on H&E."""
    if scored is None:
        return None, f"no index: the model {model} is for H&E, on which no marker is stained.", None
    if scored.withheld is not None:
        return None, scored.withheld, None
    return scored.score.index, None, ScoreFacts.of(scored.score)


@dataclass(frozen=True)
class SlideResult:
    """A slide after its blocks were run and its nuclei written."""

    plan: SlidePlan
    segmented: Segmented
    totals: Totals
    lost_px0: tuple[Box, ...]
    """Level-0 boxes that were not read or not scored."""
    coverage: float
    """Share of the region that was read and scored, 0..1."""
    scoring: Scoring
    stains: StainStatistics
    picture_px0: float
    """Level-0 pixels per pixel of the picture that is kept."""
    findings: tuple[Finding, ...] = ()
    """Findings of the picture's checks, before and after its nuclei were found."""
    annotations: tuple[AnnotationFacts, ...] = ()
    """How each drawn annotation was used."""


def summarise(
    result: SlideResult,
    folder: Path,
    seconds: dict[str, float],
    request: str,
    notes: tuple[str, ...] = (),
    scored: Scored | None = None,
) -> RunSummary:
    """Make the summary of a slide.

    Parameters
    ----------
    result
        Outcome of the slide's blocks.
    folder
        Folder of the results.
    seconds
        Seconds by stage.
    request
        Key of the request.
    notes
        Notes beside those of the plan.
    scored
        The marker's score; None on H&E.
    """
    plan, segmented = result.plan, result.segmented
    profile, card = plan.job.profile, plan.job.card
    index, note, scores = index_values(scored, card.name)
    facts = (plan.region, result.annotations, result.coverage)
    return RunSummary(
        slide=plan.info.path,
        folder=str(folder),
        model=card.name,
        model_reason=plan.model_reason,
        stain=str(profile.stain),
        stain_reason=plan.decision.reason,
        **vars(Counts.of(result.totals, facts, plan.job.geometry.grid.slide_mpp)),
        scoring=result.scoring,
        labelling_index=index,
        labelling_index_note=note,
        scores=scores,
        stain_statistics=result.stains.rounded(),
        n_blocks=len(plan.blocks),
        n_failed_blocks=len(segmented.failures),
        n_tiles=plan.n_tiles,
        failed_boxes_px0=[[box.x, box.y, box.width, box.height] for box in result.lost_px0],
        n_too_large=sum(report.n_too_large for report in segmented.reports.values()),
        tissue_fraction=round(plan.tissue.fraction, 6),
        checks=list(result.findings),
        flags=flags_of(result.findings),
        notes=[*plan.notes, *notes],
        seconds=seconds,
        files={artefact.name.lower(): artefact.value for artefact in RESULTS},
        request_key=request,
        n_unread_in_plan=plan.n_unread_in_plan,
        result_key=plan.result_key,
        version=package_version(),
    )


def overview_caption(path: str, totals: Totals, scoring: Scoring, findings: Sequence[Finding]) -> str:
    """Write the lines of an overview's caption: figures and names, then the most serious flag, then the use.

    Names come after figures, since a line that is too long is cut.
    """
    n_scored = totals.n_positive + totals.n_negative
    withheld = reason_to_withhold(findings) is not None
    index = f", {scoring.marker} {totals.n_positive / n_scored:.1%}" if n_scored and not withheld else ""
    first = f"{totals.n_nuclei:,} nuclei{index}; {scoring.region}; {clean_text(Path(path).name)}"
    return "\n".join([first, *(f"FLAG: {flag}" for flag in flags_of(findings)[:1]), f"{RESEARCH_USE}."])


def round_down(share: float) -> float:
    """Round a share down to six decimals, so that it is 1 only when nothing is missing."""
    return math.floor(share * 1e6) / 1e6


def provenance(
    result: SlideResult, options: RunOptions, summary: RunSummary, write_steps: dict[str, float]
) -> RunRecord:
    """Make the record of how the results came about."""
    plan, segmented, totals = result.plan, result.segmented, result.totals
    job: SlideJob = plan.job
    steps: dict[str, Number] = {}
    for report in segmented.reports.values():
        for name, seconds in report.seconds.items():
            steps[name] = round(steps.get(name, 0.0) + seconds, 3)
    backends = {report.backend for report in segmented.reports.values() if report.backend}
    return RunRecord(
        options=options,
        code=result_code(),
        libraries=library_versions(),
        machine=MachineFacts.model_validate(machine_facts()),
        slide=plan.info,
        frame=plan.frame.facts(),
        stain=StainFacts(decision=plan.decision, profile=job.profile),
        model=ModelFacts(
            reason=plan.model_reason, weights=job.weights, card=job.card, backends=tuple(sorted(backends))
        ),
        region=plan.region.facts(),
        picture=PictureFacts(px0_per_pixel=result.picture_px0),
        grid=_grid_facts(plan, options),
        keys=Keys(request=summary.request_key, shards=job.key, result=plan.result_key),
        failures={str(index): reason for index, reason in segmented.failures.items()},
        seam=SeamFacts(n_found_again=totals.n_seam_dropped, n_outside_region=totals.n_outside),
        areas=AreaFacts(step_um2=AREA_STEP_UM2, n_nuclei=tuple(totals.area_counts.tolist())),
        seconds=SecondsFacts(stages=dict(summary.seconds), block_steps=steps, write_steps=dict(write_steps)),
    )


def _grid_facts(plan: SlidePlan, options: RunOptions) -> GridFacts:
    geometry = plan.job.geometry
    return GridFacts(
        mpp=geometry.grid.mpp,
        slide_mpp=geometry.grid.slide_mpp,
        origin_px0=geometry.grid.origin_px0,
        block_px=geometry.block_px,
        tile_px=geometry.tile_px,
        halo_px=geometry.halo_px,
        margin_px=geometry.margin_px,
        strip_px=geometry.strip_px,
        blocks=tuple(block.index for block in plan.blocks),
    )

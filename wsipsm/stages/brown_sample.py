"""Checks of a sample of the nuclei that were found: where their brown lies, and whether the cut divides them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.config import RunOptions
from wsipsm.errors import SlideReadError
from wsipsm.geometry import Box
from wsipsm.instances.cells import open_cells, read_columns
from wsipsm.keys import Artefact, Column
from wsipsm.markers.registry import marker_of
from wsipsm.quality.brown import RING_UM, BrownPlace, check_brown, place_brown
from wsipsm.quality.dab_modes import check_modes
from wsipsm.quality.finding import Finding
from wsipsm.rundir import RunDir
from wsipsm.slide.base import Slide
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_box
from wsipsm.stages.plan import SlidePlan
from wsipsm.stain import StainProfile, optical_density, separate

_N_POSITIVE, _N_NEGATIVE = 200, 100
_FINEST_MPP = 0.1


def check_nuclei(plan: SlidePlan, run_dir: RunDir, options: RunOptions) -> tuple[Finding, ...]:
    """Check the nuclei that were written against the DAB cut, and a sample of them on the slide.

    Parameters
    ----------
    plan, run_dir
        Plan and folder of the slide; ``cells.parquet`` must be written already.
    options
        Options of the run.

    Returns
    -------
    Findings; none on H&E.
    """
    cut_od = plan.job.profile.dab_cut_od
    if cut_od is None:
        return ()
    dab_od, solidity = read_columns(run_dir.path(Artefact.CELLS), [Column.DAB_OD.value, Column.SOLIDITY.value])
    rows = _sampled_rows(dab_od >= cut_od, options.seed)
    with open_slide(plan.info.path, options.mpp, plan.info.image) as slide:
        places = list(
            _places(slide, plan.job.profile, cut_od, _outlines(run_dir, rows), plan.job.geometry.grid.slide_mpp)
        )
    return (*check_modes(dab_od, cut_od), *check_brown(places, solidity[dab_od >= cut_od], marker_of(options.marker)))


def _sampled_rows(positive: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """Choose ``_N_POSITIVE`` and ``_N_NEGATIVE`` nuclei at random, or all if fewer; return rows in ascending order."""
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(kind))[:n] for kind, n in ((positive, _N_POSITIVE), (~positive, _N_NEGATIVE))
    ]
    return np.sort(np.concatenate(chosen))


def _outlines(run_dir: RunDir, rows: NDArray[np.intp]) -> Iterator[shapely.Polygon]:
    """Read the outlines of those rows, level-0 pixels; only one batch of the table is in memory at a time."""
    first = 0
    with open_cells(run_dir.path(Artefact.CELLS)) as cells:
        for table in cells.batches([Column.GEOMETRY.value]):
            here = rows[(rows >= first) & (rows < first + len(table))] - first
            yield from (shapely.from_wkb(table.column(0)[row].as_py()) for row in here.tolist())
            first += len(table)


def _places(
    slide: Slide, profile: StainProfile, cut_od: float, outlines: Iterator[shapely.Polygon], slide_mpp: float
) -> Iterator[BrownPlace]:
    """Read the pixels around each outline, and measure where the brown lies in them."""
    scale = max(1.0, _FINEST_MPP / slide_mpp)
    margin_px = math.ceil(RING_UM[1] / (slide_mpp * scale)) + 1
    for outline in outlines:
        corners = shapely.get_coordinates(outline.exterior) / scale
        left, top = np.floor(corners.min(axis=0)).astype(int) - margin_px
        right, bottom = np.ceil(corners.max(axis=0)).astype(int) + margin_px
        box = Box(int(left), int(top), int(right - left), int(bottom - top))
        try:
            rgb = read_box(slide, box, scale)
        except SlideReadError:
            continue  # unreadable pixels were counted already when the blocks were read
        inside = np.zeros(rgb.shape[:2], dtype=np.uint8)
        # Level-0 coordinates count from the corner of a pixel, OpenCV's from its middle.
        cv2.fillPoly(inside, [np.round(corners - (left, top) - 0.5).astype(np.int32)], 1)
        _, dab_od = separate(rgb, profile)
        blue_od = optical_density(rgb, profile.background)[..., 2]
        yield place_brown(inside > 0, blue_od, dab_od, slide_mpp * scale, cut_od)

"""A finished run in its folder, opened for another scoring: neither slide nor network is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wsipsm.errors import UsageError
from wsipsm.export.annotations import read_ground, read_outline
from wsipsm.facts import PolygonFacts, TissueFacts
from wsipsm.geometry import Box
from wsipsm.keys import Artefact, QuPathFrame
from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.quality.finding import Finding
from wsipsm.region import AnnotationFacts, PolygonRegion, Region
from wsipsm.results.run_record import RunRecord
from wsipsm.results.shown_scoring import own_results
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.tissue import TissueMask


@dataclass(frozen=True)
class StoredRun:
    """The parts of a finished run that are needed to score it again."""

    run_dir: RunDir
    summary: RunSummary
    """Summary of the run's own scoring."""
    weights_sha256: str
    model: str
    info: SlideInfo
    frame: SlideFrame
    cut_od: float
    cut_from: str
    region: Region
    annotations: tuple[AnnotationFacts, ...]
    """How each annotation of the run's region was used."""
    picture_px0: float
    """Level-0 pixels per pixel of the picture that overviews are drawn on."""
    lost_px0: tuple[Box, ...]
    """Level-0 boxes that were not read or not scored."""
    findings: tuple[Finding, ...]
    """Findings of the picture's checks."""
    marker: str = DEFAULT_MARKER.name
    """Name of the marker, as reports spell it."""


def open_run(folder: Path, qupath_frame: QuPathFrame | None = None) -> StoredRun:
    """Open a finished run.

    Parameters
    ----------
    folder
        Folder of the slide's results.
    qupath_frame
        Frame that QuPath shows of the slide; None stands for that of the run.

    Raises
    ------
    UsageError
        When the folder holds no finished run of a DAB stain, or one of an earlier version with other files.
    """
    run_dir = RunDir(folder)
    own = own_results(run_dir)
    values = own.read_json(Artefact.SUMMARY)
    stored = run_dir.read_json(Artefact.RUN)
    if stored is not None and values is None and run_dir.path(Artefact.SUMMARY).is_file():
        raise UsageError(
            f"{folder}: results of an earlier version, whose files may belong to several scorings; results of this "
            "version are needed. Run the slide again."
        )
    if stored is None or values is None or not own.path(Artefact.CELLS).is_file():
        raise no_run(folder)
    run = RunRecord.parse(stored, run_dir.path(Artefact.RUN))
    profile = run.stain.profile
    if profile.dab_cut_od is None:
        raise UsageError(f"{folder}: holds an H&E run; a run of a DAB stain is needed to score. Check the path.")
    try:
        summary = RunSummary.from_dict(values, folder)
        return StoredRun(
            run_dir=run_dir,
            summary=summary,
            weights_sha256=run.model.card.sha256,
            model=run.model.card.name,
            info=run.slide,
            frame=run.slide_frame(qupath_frame),
            cut_od=profile.dab_cut_od,
            cut_from=profile.cut_from,
            region=read_region(own, run.region),
            annotations=summary.region.annotations,
            picture_px0=float(run.picture.px0_per_pixel),
            lost_px0=tuple(Box(*(int(value) for value in box)) for box in summary.failed_boxes_px0),
            findings=tuple(summary.checks),
            marker=summary.scoring.marker,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{folder}: {Artefact.SUMMARY} lacks what scoring needs ({error!r}); results of this version are needed. "
            "Run the slide again."
        ) from error


def no_run(folder: Path) -> UsageError:
    """Make the error for a folder that holds no finished run."""
    return UsageError(
        f"{folder}: no finished run in it; a slide's folder with {Artefact.RUN}, {Artefact.SUMMARY} and "
        f"{Artefact.CELLS} is needed. Check the path, or run the slide first."
    )


def read_region(run_dir: RunDir, stored: TissueFacts | PolygonFacts) -> Region:
    """Read the region of a scoring from its folder.

    Parameters
    ----------
    run_dir
        Folder of the scoring.
    stored
        Facts of the region.

    Raises
    ------
    UsageError
        When it cannot be read.
    """
    if isinstance(stored, PolygonFacts):
        return _read_polygons(run_dir.path(Artefact.REGION), stored)
    path = run_dir.path(Artefact.TISSUE)
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if mask is None:
        raise UsageError(f"{path}: cannot be read; the tissue of the run is needed. Run the slide again.")
    return TissueMask.from_picture(np.asarray(mask, dtype=np.uint8), stored)


def _read_polygons(path: Path, stored: PolygonFacts) -> PolygonRegion:
    try:
        content = path.read_bytes()
        shape, ground = read_outline(content), read_ground(content)
        return PolygonRegion(shape, stored.name, stored.notes, ground=ground)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error!r}); the region of the run is needed.") from error

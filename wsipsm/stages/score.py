"""The score of a marker from the nuclei in a folder, and the files that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from wsipsm.errors import UsageError
from wsipsm.export.annotations import Annotation, annotation_bytes
from wsipsm.instances.cells import read_columns
from wsipsm.keys import Artefact, Column
from wsipsm.markers.registry import marker_of
from wsipsm.quality.finding import Finding, flags_of, reason_to_withhold
from wsipsm.region import PLAIN_CLASS, AnnotationFacts, PolygonRegion, Region, annotation_rows
from wsipsm.results.file_facts import ScoringFileFacts
from wsipsm.results.provenance import package_version
from wsipsm.results.score_record import CurveFacts, CutFacts, ScoreRecord
from wsipsm.results.scoring_key import Scoring
from wsipsm.rundir import RunDir, write_aside
from wsipsm.scoring.drift import StainStatistics, stain_statistics
from wsipsm.scoring.score import MarkerScore, score_nuclei
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.tissue import TissueMask

_OF_THE_INDEX = (
    "index",
    "interval",
    "unweighted_mean",
    "area_weighted_mean",
    "hot_spot",
    "bands",
    "threshold_curve",
    "figures",
)
"""Figures of a score that are a share of positive nuclei, or follow from one."""
_COLUMNS = [Column.CENTROID_X_PX0.value, Column.CENTROID_Y_PX0.value, Column.DAB_OD.value]


@dataclass(frozen=True)
class RegionFacts:
    """The facts that a reader should know about the region of a score."""

    coverage: float
    """Share of the region that could be read and searched, 0..1."""
    notes: tuple[str, ...] = ()
    annotations: tuple[AnnotationFacts, ...] = ()
    """How each drawn annotation was used."""


@dataclass(frozen=True)
class Scored:
    """A score and where it was written."""

    folder: Path
    record: ScoreRecord
    """The score as ``score.json`` holds it; where the index is withheld, so are all figures that would reveal it."""
    score: MarkerScore
    withheld: str | None = None
    """Why the index is withheld; the counts are given nevertheless. None where it is not withheld."""
    flags: tuple[str, ...] = ()
    """Sentences of the picture's checks that are not ok."""
    coverage: float = 1.0
    """Share of the region that could be read and searched, 0..1."""

    @property
    def scoring(self) -> Scoring:
        """The nuclei that count, and the cut from which they are positive."""
        return self.record.scoring

    @property
    def key(self) -> str:
        """Key that names the scoring, and its folder in ``scores`` if ``wsipsm score`` made it."""
        return self.scoring.key

    @property
    def limits(self) -> tuple[str, ...]:
        """Limitations of the given figures, in plain words; a withheld index has none."""
        return _limits(self.score, self.withheld)


def _limits(score: MarkerScore, withheld: str | None) -> tuple[str, ...]:
    return score.flags if withheld is None else score.index.flags


def write_score(
    run_dir: RunDir,
    info: SlideInfo,
    frame: SlideFrame,
    region: Region,
    facts: RegionFacts,
    scoring: Scoring,
    findings: tuple[Finding, ...] = (),
) -> Scored:
    """Score cells.parquet and write ``score.json`` and ``score.geojson`` beside it.

    Parameters
    ----------
    run_dir
        Folder with the nuclei.
    info, frame
        Facts about the slide, and its frame.
    region
        Region whose nuclei count.
    facts
        Facts about the region, for the reader.
    scoring
        Scoring with the cut, a DAB optical density.
    findings
        Findings about the picture, which flag the index or withhold it.

    Raises
    ------
    UsageError
        When the nuclei cannot be read.
    OutputError
        When the score cannot be written.
    """
    if scoring.dab_cut_od is None:
        raise ValueError("a DAB cut is needed to score")
    mpp = info.mpp or 1.0
    marker = marker_of(scoring.marker)
    xy_px0, dab_od = _read_nuclei(run_dir.path(Artefact.CELLS), region)
    score = score_nuclei(
        frame.to_um(xy_px0, mpp),
        dab_od,
        cut_od=scoring.dab_cut_od,
        cut_from=scoring.cut_from,
        region=region.name,
        coverage=facts.coverage,
        areas_of=lambda boxes_um: region.areas_in(frame.boxes_px0(boxes_um, mpp)) * mpp**2,
        marker=marker,
    )
    record = _record((info, frame, region), scoring, score, facts, findings)
    record.write(run_dir)
    withheld = record.index_withheld
    scored = Scored(run_dir.root, record, score, withheld, tuple(flags_of(findings)), facts.coverage)
    about = ScoringFileFacts.of(info, frame, scoring)
    areas = _annotations(score, frame, mpp, scoring.marker) if scored.withheld is None else []
    with write_aside(run_dir.path(Artefact.SCORE_AREAS)) as temporary:
        temporary.write_bytes(annotation_bytes(frame, areas, about))
    return scored


def _record(
    origin: tuple[SlideInfo, SlideFrame, Region],
    scoring: Scoring,
    score: MarkerScore,
    facts: RegionFacts,
    findings: tuple[Finding, ...],
) -> ScoreRecord:
    """Make the record that ``score.json`` holds."""
    info, frame, region = origin
    withheld = reason_to_withhold(findings)
    record = ScoreRecord(
        slide=Path(info.path).name,
        fingerprint=info.fingerprint,
        frame=frame.facts(),
        region=region.facts(),
        version=package_version(),
        scoring=scoring,
        index_withheld=withheld,
        notes=facts.notes,
        annotations=facts.annotations,
        index=score.index,
        interval=score.interval,
        unweighted_mean=score.unweighted,
        area_weighted_mean=score.area_weighted,
        hot_spot=score.hot_spot,
        bands=score.bands,
        cut=CutFacts.of(score),
        threshold_curve=CurveFacts(dab_od=score.curve_od, index=score.curve_index),
        figures=score.figures,
        flags=(*flags_of(findings), *_limits(score, withheld)),
    )
    if withheld is None:
        return record
    return record.model_copy(update={name: None for name in _OF_THE_INDEX if getattr(record, name) != ()})


def write_region(run_dir: RunDir, info: SlideInfo, frame: SlideFrame, region: Region, scoring: Scoring) -> None:
    """Write the region of a scoring, so that it can be scored again without the slide.

    Raises
    ------
    OutputError
        When the region cannot be written.
    """
    if isinstance(region, PolygonRegion):
        about = ScoringFileFacts.of(info, frame, scoring)
        with write_aside(run_dir.path(Artefact.REGION)) as temporary:
            # The region gets a class, so that its name is not read as an annotation class to count or cut out.
            drawn = [Annotation(region.shape, region.name, PLAIN_CLASS)]
            temporary.write_bytes(annotation_bytes(frame, drawn, about, region.shape, region.ground))
        run_dir.remove(Artefact.TISSUE)
    elif isinstance(region, TissueMask):
        _, coded = cv2.imencode(".png", region.to_picture())
        with write_aside(run_dir.path(Artefact.TISSUE)) as temporary:
            temporary.write_bytes(coded.tobytes())
        run_dir.remove(Artefact.REGION)


def _read_nuclei(path: Path, region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read centroids, level-0 pixels, and DAB densities of the nuclei in a region."""
    x, y, dab = read_columns(path, _COLUMNS)
    if n := np.count_nonzero(np.isnan(dab)):
        raise UsageError(f"{path}: {n} of {len(dab)} nuclei have no DAB density to score. Run the slide again.")
    xy = np.stack([x, y], axis=1)
    inside = region.contains(xy)
    return xy[inside], dab[inside]


def read_annotation_rows(
    run_dir: RunDir, region: Region, mpp: float, searched: Region | None = None
) -> tuple[AnnotationFacts, ...]:
    """List how each annotation of a region was used, with the number of its nuclei in cells.parquet.

    Parameters
    ----------
    run_dir
        Folder of the slide's run.
    region
        Region whose annotations are listed.
    mpp
        Pixel size of level 0, um/px.
    searched
        Region in which the run looked for nuclei; None stands for ``region`` itself.

    Raises
    ------
    UsageError
        When the nuclei cannot be read.
    """
    if not isinstance(region, PolygonRegion) or not region.parts:
        return ()
    return annotation_rows(region, read_columns(run_dir.path(Artefact.CELLS), _COLUMNS[:2]).T, mpp, searched)


def read_stains(
    run_dir: RunDir, cut_od: float | None, background: tuple[float, float, float] | None
) -> StainStatistics:
    """Summarise the stains of the nuclei in cells.parquet, and the glass.

    Parameters
    ----------
    run_dir
        Folder with the nuclei.
    cut_od
        DAB density from which a nucleus is positive; None on H&E.
    background
        Grey levels of empty glass; None where no glass was found.

    Raises
    ------
    UsageError
        When the nuclei cannot be read.
    """
    names = [Column.HEMATOXYLIN_OD.value, Column.DAB_OD.value]
    hematoxylin, dab = read_columns(run_dir.path(Artefact.CELLS), names)
    return stain_statistics(hematoxylin, None if cut_od is None else dab, cut_od, background)


def _annotations(score: MarkerScore, frame: SlideFrame, mpp: float, marker: str) -> list[Annotation]:
    """Make annotations of hot spot and fields: squares, which the slide's edge cuts but the region does not."""
    areas = []
    if score.hot_spot.spot is not None:
        spot = score.hot_spot.spot
        half = spot.side_um / 2
        box_um = np.array([spot.x_um - half, spot.y_um - half, spot.x_um + half, spot.y_um + half])
        figures = {
            f"{marker} index": spot.index,
            "Nuclei": spot.n,
            "Interval low": spot.low,
            "Interval high": spot.high,
        }
        shape = shapely.box(*frame.boxes_px0(box_um, mpp)[0])
        areas.append(Annotation(shape, f"{marker} hot spot", "Hot spot", (255, 80, 0), _rounded(figures)))
    fields = score.fields
    boxes_px0 = frame.boxes_px0(fields.boxes_um, mpp)
    for box_px0, index, n in zip(boxes_px0, fields.index.tolist(), fields.n.tolist(), strict=True):
        shape = shapely.box(*box_px0)
        figures = {f"{marker} index": index, "Nuclei": n}
        areas.append(Annotation(shape, f"{marker} {index:.1%} of {n}", "Field", (120, 160, 200), _rounded(figures)))
    return areas


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}

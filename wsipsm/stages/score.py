"""Ki-67 from stored nuclei: at the end of a run, and again when a region was drawn or the cut was set anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from wsipsm.errors import UsageError
from wsipsm.export.annotations import Annotation, annotation_bytes, read_outline
from wsipsm.folderlock import hold_folder, holder_of
from wsipsm.geometry import Box, Size
from wsipsm.keys import Artefact, Column, QuPathFrame, Stain
from wsipsm.ki67.score import Ki67Score, score_nuclei
from wsipsm.quality.finding import Finding, flags_of, reason_to_withhold
from wsipsm.region import PolygonRegion, Region, RoiRules, annotation_rows, note_on_searched, read_roi
from wsipsm.rundir import RunDir, digest, write_aside
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.stages.coverage import read_coverage
from wsipsm.stages.provenance import package_version, slide_facts
from wsipsm.text import clean_json
from wsipsm.tissue import TissueMask

_COLUMNS = [Column.CENTROID_X_PX0.value, Column.CENTROID_Y_PX0.value, Column.DAB_OD.value]


@dataclass(frozen=True)
class RegionFacts:
    """What a reader should know about the region of a score."""

    coverage: float
    """Share of it that could be read and searched, 0..1."""
    notes: tuple[str, ...] = ()
    annotations: list[dict[str, Any]] = field(default_factory=list)
    """What each drawn annotation was taken for; see `region.annotation_rows`."""


@dataclass(frozen=True)
class Scored:
    """A score and where it was written."""

    folder: Path
    key: str
    """Names region and cut: ``scores/<key>.json`` stays when another score is made."""
    score: Ki67Score
    withheld: str | None = None
    """Why no index may be given; the counts stand."""
    flags: tuple[str, ...] = ()
    """What the checks of the picture say beside the number."""
    notes: tuple[str, ...] = ()
    """On the region."""
    annotations: list[dict[str, Any]] = field(default_factory=list)
    """What each drawn annotation was taken for; see `region.annotation_rows`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json`` and ``score.json``; a withheld index is None."""
        values = self.score.to_dict()
        if self.withheld is not None:
            values["index"] = None
        told = {"index_withheld": self.withheld, "notes": list(self.notes), "annotations": self.annotations}
        return {**told, **values, "flags": [*self.flags, *values["flags"]]}


@dataclass(frozen=True)
class _StoredRun:
    """What a finished run left that scoring needs."""

    run_dir: RunDir
    info: SlideInfo
    frame: SlideFrame
    cut_od: float
    cut_from: str
    region: Region
    annotations: list[dict[str, Any]]
    """What each annotation of the run's region was taken for."""
    lost_px0: tuple[Box, ...]
    findings: tuple[Finding, ...]
    """What was checked of the picture."""


def score_result(
    folder: str | Path,
    roi: str | Path | None = None,
    dab_cut_od: float | None = None,
    rules: RoiRules | None = None,
    qupath_frame: QuPathFrame | None = None,
) -> Scored:
    """Score a finished run again; nothing is inferred anew.

    Parameters
    ----------
    folder
        Of the slide's results.
    roi
        GeoJSON of the region; None: the region of the run.
    dab_cut_od
        DAB optical density from which a nucleus is positive; None: the run's own.
    rules
        Which annotations of ``roi`` count; None: the usual classes.
    qupath_frame
        What QuPath shows of the slide, for the ROI and for score.geojson; None: as for the run.

    Raises
    ------
    UsageError
        When the folder holds no finished Ki-67 run, or another command works on it.
    RoiError
        When the region cannot be used.
    OutputError
        When the score cannot be written.
    """
    run_dir = RunDir(folder)
    if not run_dir.path(Artefact.RUN).exists() and not holder_of(run_dir.root):
        raise _no_run(run_dir.root)  # nothing is written where no run is, not even a lock
    with hold_folder(run_dir.root):
        return _score_held(_open_run(run_dir.root, qupath_frame), roi, dab_cut_od, rules)


def _score_held(stored: _StoredRun, roi: str | Path | None, dab_cut_od: float | None, rules: RoiRules | None) -> Scored:
    region, notes, annotations = stored.region, _notes_of(stored.region), stored.annotations
    if roi is not None:
        region = read_roi(roi, stored.info, rules, stored.region, stored.frame.qupath)
        notes = (*region.notes, *_notes_on_searched(region, stored.region))
        annotations = read_annotation_rows(stored.run_dir, region, stored.info.mpp or 1.0, stored.region)
    cut_od = stored.cut_od if dab_cut_od is None else dab_cut_od
    cut_from = stored.cut_from if dab_cut_od is None else "given by --dab-cut"
    info, frame = stored.info, stored.frame
    facts = RegionFacts(read_coverage(region, stored.lost_px0), notes, annotations)
    return write_score(stored.run_dir, info, frame, region, facts, (cut_od, cut_from), stored.findings)


def write_score(
    run_dir: RunDir,
    info: SlideInfo,
    frame: SlideFrame,
    region: Region,
    facts: RegionFacts,
    cut: tuple[float, str],
    findings: tuple[Finding, ...] = (),
) -> Scored:
    """Score cells.parquet and write ``score.json`` and ``score.geojson``; earlier scores stay in ``scores``.

    Parameters
    ----------
    run_dir, info, frame
        Of the slide.
    region
        Whose nuclei count.
    facts
        About the region, for the reader.
    cut
        DAB optical density, and where it comes from.
    findings
        Of the picture: they flag the index, or withhold it.
    """
    mpp = info.mpp or 1.0
    xy_px0, dab_od = _read_nuclei(run_dir.path(Artefact.CELLS), region)
    score = score_nuclei(
        frame.to_um(xy_px0, mpp),
        dab_od,
        cut_od=cut[0],
        cut_from=cut[1],
        region=region.name,
        coverage=facts.coverage,
        areas_of=lambda boxes_um: region.areas_in(frame.boxes_px0(boxes_um, mpp)) * mpp**2,
    )
    outline = region.to_dict()
    key = digest([outline["hash"], *cut, package_version(), frame.to_dict()])
    origin = {
        "slide": Path(info.path).name,
        "fingerprint": info.fingerprint,
        "frame": frame.to_dict(),
        "region": outline,
    }
    flags = tuple(flags_of(findings))
    scored = Scored(run_dir.root, key, score, reason_to_withhold(findings), flags, facts.notes, facts.annotations)
    told = {**origin, "key": key, "version": package_version(), **scored.to_dict()}
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    text = orjson.dumps(clean_json(told), option=options)
    kept = run_dir.path(Artefact.SCORES)
    kept.mkdir(exist_ok=True)
    areas = annotation_bytes(frame, _annotations(score, frame, mpp), slide_facts(info, frame))
    for path in (kept / f"{key}.json", run_dir.path(Artefact.SCORE)):
        for own, content in ((path, text), (path.with_suffix(".geojson"), areas)):
            with write_aside(own) as temporary:
                temporary.write_bytes(content)
    return scored


def write_region(run_dir: RunDir, info: SlideInfo, frame: SlideFrame, region: Region) -> None:
    """Keep the region of a run, so that it can be scored again without the slide."""
    if isinstance(region, PolygonRegion):
        with write_aside(run_dir.path(Artefact.REGION)) as temporary:
            drawn = [Annotation(region.shape, region.name)]
            temporary.write_bytes(annotation_bytes(frame, drawn, slide_facts(info, frame), region.shape))
    elif isinstance(region, TissueMask):
        _, coded = cv2.imencode(".png", region.to_picture())
        with write_aside(run_dir.path(Artefact.TISSUE)) as temporary:
            temporary.write_bytes(coded.tobytes())


def _no_run(folder: Path) -> UsageError:
    return UsageError(
        f"{folder}: no finished run in it; a slide's folder with {Artefact.RUN}, {Artefact.SUMMARY} and "
        f"{Artefact.CELLS} is needed. Check the path, or run the slide first."
    )


def _open_run(folder: Path, qupath_frame: QuPathFrame | None) -> _StoredRun:
    run_dir = RunDir(folder)
    run, summary = run_dir.read_json(Artefact.RUN), run_dir.read_json(Artefact.SUMMARY)
    if run is None or summary is None or not run_dir.path(Artefact.CELLS).is_file():
        raise _no_run(folder)
    try:
        profile = run["stain"]["profile"]
        if profile["stain"] != Stain.IHC.value:
            raise UsageError(f"{folder}: an H&E run; a Ki-67 stain is needed to score. Check the path.")
        info = _slide_info(run["slide"])
        lost = tuple(Box(*(int(value) for value in box)) for box in summary["failed_boxes_px0"])
        return _StoredRun(
            run_dir=run_dir,
            info=info,
            frame=SlideFrame.of(info, qupath_frame or run["frame"]["qupath_frame"]),
            cut_od=float(profile["dab_cut_od"]),
            cut_from=str(profile["cut_from"]),
            region=_stored_region(run_dir, run, info),
            annotations=list(summary["region"]["annotations"]),
            lost_px0=lost,
            findings=tuple(Finding.model_validate(values) for values in summary["checks"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder}: {Artefact.RUN} or {Artefact.SUMMARY} lacks what scoring needs ({error!r}); results of this "
            "version are needed. Run the slide again."
        ) from error


def _slide_info(values: Mapping[str, Any]) -> SlideInfo:
    bounds = values.get("bounds")
    return SlideInfo(
        path=str(values["path"]),
        reader=str(values["reader"]),
        level_sizes=tuple(Size(**size) for size in values["level_sizes"]),
        mpp=float(values["mpp"]),
        fingerprint=str(values["fingerprint"]),
        bounds=None if bounds is None else Box(**bounds),
    )


def _stored_region(run_dir: RunDir, run: Mapping[str, Any], info: SlideInfo) -> Region:
    stored = run["region"]
    if stored["kind"] == "polygon":
        return _read_polygons(run_dir.path(Artefact.REGION), stored)
    path = run_dir.path(Artefact.TISSUE)
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if mask is None:
        raise UsageError(f"{path}: cannot be read; the tissue of the run is needed. Run the slide again.")
    return TissueMask.from_picture(np.asarray(mask, dtype=np.uint8), stored)


def _read_polygons(path: Path, stored: Mapping[str, Any]) -> PolygonRegion:
    try:
        return PolygonRegion(read_outline(path.read_bytes()), str(stored["name"]), tuple(stored["notes"]))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error!r}); the region of the run is needed.") from error


def read_columns(path: Path, names: list[str]) -> NDArray[np.float64]:
    """Read columns of cells.parquet, in the order of the names, shape (n_columns, n_nuclei); NaN where there is none.

    Raises
    ------
    UsageError
        When the file cannot be read or lacks one.
    """
    try:
        # Not read_table, which loads a room of pyarrow that takes a quarter of a second.
        with pq.ParquetFile(path) as file:
            table = file.read(columns=names)
        batch = pa.record_batch([table.column(name).combine_chunks() for name in names], names=names)
        # A column's own to_numpy loads pandas: half a second.
        return np.asarray(batch.to_tensor(null_to_nan=True).to_numpy().T, dtype=np.float64)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); the nuclei of a finished run are needed.") from error


def _read_nuclei(path: Path, region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centroids, level-0 pixels, and DAB densities of the nuclei in a region."""
    x, y, dab = read_columns(path, _COLUMNS)
    if n := np.count_nonzero(np.isnan(dab)):
        raise UsageError(f"{path}: {n} of {len(dab)} nuclei have no DAB density; Ki-67 needs it. Run the slide again.")
    xy = np.stack([x, y], axis=1)
    inside = region.contains(xy)
    return xy[inside], dab[inside]


def read_annotation_rows(
    run_dir: RunDir, region: Region, mpp: float, searched: Region | None = None
) -> list[dict[str, Any]]:
    """Say what each annotation of a region was taken for, with its nuclei in cells.parquet.

    Parameters
    ----------
    run_dir
        Of the slide.
    region
        Whose annotations; without any the list is empty.
    mpp
        Pixel size of level 0, um/px.
    searched
        Where the run looked for nuclei; None: in the region alone.

    Raises
    ------
    UsageError
        When the nuclei cannot be read.
    """
    if not isinstance(region, PolygonRegion) or not region.parts:
        return []
    return annotation_rows(region, read_columns(run_dir.path(Artefact.CELLS), _COLUMNS[:2]).T, mpp, searched)


def _notes_of(region: Region) -> tuple[str, ...]:
    return region.notes if isinstance(region, PolygonRegion) else ()


def _notes_on_searched(region: Region, searched: Region) -> list[str]:
    """Say what part of a drawn region the run never looked at."""
    where = "outside the tissue that was found, where no nucleus was looked for"
    if isinstance(searched, PolygonRegion):
        where = "outside the region of the run, where no nucleus was looked for. Run the slide with this --roi"
    return note_on_searched(region, searched, where)


def _annotations(score: Ki67Score, frame: SlideFrame, mpp: float) -> list[Annotation]:
    """Hot spot and fields: squares cut to the slide, whole also where the region cuts them."""
    areas = []
    if score.hot_spot.spot is not None:
        spot = score.hot_spot.spot
        half = spot.side_um / 2
        box_um = np.array([spot.x_um - half, spot.y_um - half, spot.x_um + half, spot.y_um + half])
        told = {"Ki-67 index": spot.index, "Nuclei": spot.n, "Interval low": spot.low, "Interval high": spot.high}
        shape = shapely.box(*frame.boxes_px0(box_um, mpp)[0])
        areas.append(Annotation(shape, "Ki-67 hot spot", "Hot spot", (255, 80, 0), _rounded(told)))
    fields = score.fields
    boxes_px0 = frame.boxes_px0(fields.boxes_um, mpp)
    for box_px0, index, n in zip(boxes_px0, fields.index.tolist(), fields.n.tolist(), strict=True):
        shape = shapely.box(*box_px0)
        told = {"Ki-67 index": index, "Nuclei": n}
        areas.append(Annotation(shape, f"Ki-67 {index:.1%} of {n}", "Field", (120, 160, 200), _rounded(told)))
    return areas


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}

"""Scores a finished slide again, with another region, cut or marker; all files of its folder then show that scoring."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from wsipsm.errors import UsageError
from wsipsm.export.geojson import GeoJsonWriter
from wsipsm.export.geojson_written import OtherFeatures, WrittenFeatures, open_features
from wsipsm.export.overview import OverviewCanvas
from wsipsm.folderlock import hold_folder, holder_of
from wsipsm.instances.cells import CellsWriter, open_cells, read_columns
from wsipsm.instances.table import centroids_px0, classify
from wsipsm.keys import Artefact, Column, QuPathFrame
from wsipsm.markers.registry import is_marker_name, marker_of
from wsipsm.quality.brown import check_solidity, say_for
from wsipsm.quality.dab_modes import check_modes
from wsipsm.quality.finding import Finding, flags_of
from wsipsm.region import PolygonRegion, Region, RoiRules, on_searched, read_roi
from wsipsm.region.coverage import read_coverage
from wsipsm.results.file_facts import nuclei_facts
from wsipsm.results.scoring_key import Scoring
from wsipsm.results.shown_scoring import nuclei_sha256, own_results, publish, show_own, staged
from wsipsm.results.stored_run import StoredRun, no_run, open_run
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir, link_file, write_aside
from wsipsm.stages.score import (
    RegionFacts,
    Scored,
    read_annotation_rows,
    read_stains,
    write_region,
    write_score,
)
from wsipsm.stages.summarise import Counts, index_values, overview_caption
from wsipsm.stages.write import Totals


def score_result(
    folder: str | Path,
    roi: str | Path | None = None,
    dab_cut_od: float | None = None,
    rules: RoiRules | None = None,
    qupath_frame: QuPathFrame | None = None,
    marker: str | None = None,
) -> Scored:
    """Score a finished run again; nuclei, pictures and figures of its folder then show this scoring.

    The network is not run again, and the nuclei are always the run's own, whatever was scored in between. With the
    folder alone the run's own scoring is shown again. Earlier scorings stay in ``scores``.

    Parameters
    ----------
    folder
        Folder of the slide's results.
    roi
        GeoJSON of the region; None: the region of the run.
    dab_cut_od
        DAB optical density from which a nucleus is positive; None: the run's own.
    rules
        Rules on which annotations of ``roi`` count; None: the usual classes.
    qupath_frame
        Frame that QuPath shows of the slide, for the ROI and the written files; None: that of the run.
    marker
        Nuclear marker that DAB shows; None: the run's.

    Raises
    ------
    UsageError
        When the folder holds no finished run of a DAB stain, another command works on it, or the marker is no name.
    RoiError
        When the region cannot be used.
    OutputError
        When the score cannot be written.
    """
    run_dir = RunDir(folder)
    if not holds_result(run_dir.root):
        raise no_run(run_dir.root)  # nothing is written where no run is, not even a lock
    with hold_folder(run_dir.root):
        stored = open_run(run_dir.root, qupath_frame)
        cut_od = stored.cut_od if dab_cut_od is None else dab_cut_od
        cut_from = stored.cut_from if dab_cut_od is None else "given by --dab-cut"
        region = stored.region
        if roi is not None:
            drawn = read_roi(roi, stored.info, rules, stored.region, stored.frame.qupath)
            region = on_searched(drawn, stored.region, _beyond(stored.region))
        slide = (stored.info, stored.frame)
        shown = stored.marker if marker is None else _known_marker(marker)
        scoring = Scoring.of("score", slide, stored.weights_sha256, region, (cut_od, cut_from), shown)
        is_plain = (roi, dab_cut_od, qupath_frame, marker) == (None, None, None, None)
        if is_plain or scoring.key == stored.summary.scoring.key:
            return _show_own_again(stored)
        return _score_anew(stored, region, scoring)


def _known_marker(text: str) -> str:
    if not is_marker_name(text):
        raise UsageError(f"--marker {text!r}: a name of at most 24 letters, digits and . _ / + - is needed, as er.")
    return marker_of(text).name


def holds_result(folder: Path) -> bool:
    """Find out whether a folder belongs to a slide: it has results, or a command works on it."""
    run_dir = RunDir(folder)
    return any(run_dir.path(one).exists() for one in (Artefact.RUN, Artefact.SLIDE)) or bool(holder_of(folder))


def _show_own_again(stored: StoredRun) -> Scored:
    own = own_results(stored.run_dir)
    scoring = stored.summary.scoring
    facts = RegionFacts(stored.summary.coverage, _notes_of(stored.region), stored.annotations)
    with staged(stored.run_dir) as aside:
        link_file(own.path(Artefact.CELLS), aside.path(Artefact.CELLS))
        scored = write_score(aside, stored.info, stored.frame, stored.region, facts, scoring, stored.findings)
    show_own(stored.run_dir)
    return replace(scored, folder=stored.run_dir.root)


def _score_anew(stored: StoredRun, region: Region, scoring: Scoring) -> Scored:
    """Prepare every file of a scoring in a folder aside, then show them."""
    started = time.perf_counter()
    own = own_results(stored.run_dir)
    annotations = stored.annotations
    if region is not stored.region:
        annotations = read_annotation_rows(own, region, stored.info.mpp or 1.0, stored.region)
    facts = RegionFacts(read_coverage(region, stored.lost_px0), _notes_of(region), annotations)
    stored = replace(stored, findings=_checked_again(stored, region, scoring))
    with staged(stored.run_dir) as aside:
        totals = _write_nuclei(stored, aside, region, scoring)
        write_region(aside, stored.info, stored.frame, region, scoring)
        scored = write_score(aside, stored.info, stored.frame, region, facts, scoring, stored.findings)
        summary = _summarise(stored, aside, region, totals, scored, time.perf_counter() - started)
        summary.write(aside)
        publish(stored.run_dir, aside, scoring.key)
    return replace(scored, folder=stored.run_dir.root)


def _checked_again(stored: StoredRun, region: Region, scoring: Scoring) -> tuple[Finding, ...]:
    """Return the run's findings, with those on the cut computed again for the nuclei and the cut of a scoring."""
    columns = (Column.CENTROID_X_PX0, Column.CENTROID_Y_PX0, Column.DAB_OD, Column.SOLIDITY)
    x, y, dab_od, solidity = read_columns(
        own_results(stored.run_dir).path(Artefact.CELLS), [column.value for column in columns]
    )
    inside = region.contains(np.stack([x, y], axis=1))
    cut_od, marker = scoring.dab_cut_od or 0.0, marker_of(scoring.marker)
    # The place of the brown was measured on the slide, which is not opened here, so the run's findings on it are kept.
    anew = (*check_modes(dab_od[inside], cut_od), check_solidity(solidity[inside & (dab_od >= cut_od)], marker))
    on_cut = {finding.name: finding for finding in anew}
    before = marker_of(stored.marker)
    kept = stored.findings if marker == before else [say_for(finding, marker) for finding in stored.findings]
    return tuple(on_cut.get(finding.name, finding) for finding in kept)


def _write_nuclei(stored: StoredRun, aside: RunDir, region: Region, scoring: Scoring) -> Totals:
    """Write nuclei as tables and picture, with the run's own features where nobody edited its files of nuclei."""
    own, known = own_results(stored.run_dir), stored.summary.nuclei_sha256
    if Artefact.GEOJSON in known and nuclei_sha256(own) == known:
        with suppress(OtherFeatures), open_features(own.path(Artefact.GEOJSON)) as features:
            return _write_all(stored, aside, region, scoring, features)
    return _write_all(stored, aside, region, scoring, None)


def _write_all(
    stored: StoredRun, aside: RunDir, region: Region, scoring: Scoring, features: WrittenFeatures | None
) -> Totals:
    """Write nuclei as tables and picture in one pass over those of the run."""
    totals = Totals()
    about = nuclei_facts(stored.info, stored.frame, (stored.model, stored.weights_sha256), scoring)
    canvas = _canvas(stored, region)
    with (
        write_aside(aside.path(Artefact.GEOJSON)) as geojson_path,
        write_aside(aside.path(Artefact.CELLS)) as cells_path,
        GeoJsonWriter(geojson_path, stored.frame, about, features) as geojson,
        CellsWriter(cells_path, about) as cells,
    ):
        for table in _counted(own_results(stored.run_dir).path(Artefact.CELLS), region, scoring.dab_cut_od or 0.0):
            for writer in (cells, geojson, canvas, totals):
                writer.add(table)
    caption = overview_caption(stored.info.path, totals, scoring, stored.findings)
    with write_aside(aside.path(Artefact.OVERVIEW)) as temporary:
        canvas.save(temporary, caption, {"wsipsm scoring": scoring.key})
    return totals


def _canvas(stored: StoredRun, region: Region) -> OverviewCanvas:
    path = stored.run_dir.path(Artefact.PICTURE)
    try:
        with Image.open(path) as image:
            picture: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"{path}: cannot be read ({error}); the run's picture is needed. Run the slide again."
        ) from error
    outline = region.shape if isinstance(region, PolygonRegion) else None
    corner = stored.frame.content
    return OverviewCanvas(picture, stored.picture_px0, outline, stored.info.mpp, (corner.x, corner.y))


def _counted(path: Path, region: Region, cut_od: float) -> Iterator[pa.Table]:
    """Yield the nuclei of a file that lie in a region, classed by a cut, in tables of some ten thousand."""
    with open_cells(path) as cells:
        for table in cells.batches():
            dab = table.column(Column.DAB_OD.value)
            if dab.null_count:
                raise UsageError(
                    f"{path}: {dab.null_count} of {len(dab)} nuclei have no DAB density to score. Run the slide again."
                )
            classes = classify(dab.to_numpy(), len(dab), cut_od)
            place = table.schema.get_field_index(Column.CLASS.value)
            table = table.set_column(place, table.schema.field(place), pa.array(classes, pa.string()))
            table = table.filter(pa.array(np.asarray(region.contains(centroids_px0(table)), dtype=bool)))
            if table.num_rows:
                yield table.replace_schema_metadata(None)


def _summarise(
    stored: StoredRun, aside: RunDir, region: Region, totals: Totals, scored: Scored, seconds: float
) -> RunSummary:
    """Make the summary of the run with the figures of a scoring in place of its own."""
    own = stored.summary
    index, note, scores = index_values(scored, stored.model)
    facts = (region, scored.record.annotations, scored.coverage)
    lost = [box for box in stored.lost_px0 if region.touches(box)]
    stains = read_stains(aside, scored.scoring.dab_cut_od, None).rounded()
    return own.replaced(
        **vars(Counts.of(totals, facts, stored.info.mpp or 1.0)),
        labelling_index=index,
        labelling_index_note=note,
        scores=scores,
        stain_statistics=replace(stains, background_level=own.stain_statistics.background_level),
        scoring=scored.scoring,
        checks=list(stored.findings),
        flags=flags_of(stored.findings),
        n_failed_blocks=own.n_failed_blocks if lost else 0,
        failed_boxes_px0=[[box.x, box.y, box.width, box.height] for box in lost],
        notes=[*(text for text in own.notes if text not in _notes_of(stored.region)), *scored.record.notes],
        seconds={**own.seconds, "score": round(seconds, 3)},
        file_bytes={},
        nuclei_sha256={},
        was_done=False,
    )


def _notes_of(region: Region) -> tuple[str, ...]:
    return region.notes if isinstance(region, PolygonRegion) else ()


def _beyond(searched: Region) -> str:
    """Say where the run did not look for nuclei."""
    if isinstance(searched, PolygonRegion):
        return "outside the region of the run, where no nucleus was looked for (run the slide with this --roi for it)"
    return "outside the tissue that was found, where no nucleus was looked for"

"""The check whether all files in a slide's folder agree; each is read and compared with the others."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from wsipsm.errors import UsageError, WsipsmError, one_line
from wsipsm.export.geojson_check import check_geojson
from wsipsm.instances.cells import open_cells
from wsipsm.instances.table import classify
from wsipsm.keys import Artefact, Column, NucleusClass
from wsipsm.region import Region
from wsipsm.results.run_record import RunRecord
from wsipsm.results.score_record import ScoreRecord
from wsipsm.results.scoring_key import Scoring
from wsipsm.results.shown_scoring import OWN, own_results
from wsipsm.results.slide_folder import SlideOwner
from wsipsm.results.stored_run import no_run, read_region
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir
from wsipsm.stages.summarise import Counts
from wsipsm.stages.write import Totals

_MOST_SHOWN = 5
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, pa.ArrowException, WsipsmError)


@dataclass(frozen=True)
class _Nuclei:
    """Ids and classes of the nuclei of a file, in the file's order."""

    ids: list[str]
    classes: list[str]

    @classmethod
    def of(cls, table: pa.Table) -> _Nuclei:
        """Read them from a table of nuclei."""
        return cls(table.column(Column.NUCLEUS_ID.value).to_pylist(), table.column(Column.CLASS.value).to_pylist())


def check_result(folder: Path) -> list[str]:
    """Check that a slide's folder is finished and that every file in it belongs to one scoring.

    Nuclei, classes and counts are computed again from the run's own nuclei, the region and the cut, and compared with
    those in the files.

    Parameters
    ----------
    folder
        Folder of the slide's results.

    Returns
    -------
    One text for each contradiction, which begins with the name of the file; none when all files agree.

    Raises
    ------
    UsageError
        When the folder holds no run of a slide.
    """
    run_dir = RunDir(folder)
    if not run_dir.path(Artefact.RUN).exists():
        raise no_run(folder)
    values = run_dir.read_json(Artefact.SUMMARY)
    if values is None:
        return [f"{Artefact.SUMMARY}: absent or damaged, so the folder is not finished. Run the slide or score again."]
    try:
        summary, run = RunSummary.from_dict(values, folder), RunRecord.read(folder)
        score, owner = ScoreRecord.find(run_dir), SlideOwner.find(run_dir)
    except UsageError as error:
        return [one_line(error)]
    problems = [
        *_check_files(run_dir, summary, run, owner),
        *_check_named_scorings(run_dir, summary.scoring, score),
        *_check_kept(run_dir, summary),
    ]
    try:
        region = read_region(run_dir, summary.region)
        problems += _check_region(run_dir, summary, score, region)
        problems += _check_nuclei(run_dir, (summary, score, run.slide.mpp or 1.0), region)
    except _UNREADABLE as error:
        problems.append(f"a file cannot be read: {one_line(error)}")
    return problems


def _check_files(run_dir: RunDir, summary: RunSummary, run: RunRecord, owner: SlideOwner | None) -> Iterator[str]:
    """Check which files exist, and whether those about the run belong to one run."""
    is_scored = summary.scoring.dab_cut_od is not None
    for name in summary.files.values():
        if not (run_dir.root / name).is_file():
            yield f"{name}: absent"
    for artefact in (Artefact.SCORE, Artefact.SCORE_AREAS):
        if run_dir.path(artefact).exists() != is_scored:
            yield f"{artefact}: {'absent' if is_scored else f'exists, but {Artefact.SUMMARY} has no cut'}"
    if run.keys.request != summary.request_key:
        yield f"{Artefact.RUN}: belongs to another run than {Artefact.SUMMARY}"
    if owner is None or owner.fingerprint != run.slide.fingerprint:
        yield f"{Artefact.SLIDE}: names another slide than {Artefact.RUN}"


def _check_named_scorings(run_dir: RunDir, scoring: Scoring, score: ScoreRecord | None) -> Iterator[str]:
    """Check whether every file names the scoring of the summary."""
    expected = f"that of {Artefact.SUMMARY} is {scoring.key}"
    for artefact, read in (
        (Artefact.CELLS, _scoring_in_table),
        (Artefact.GEOJSON, _scoring_in_geojson),
        (Artefact.SCORE_AREAS, _scoring_in_geojson),
        (Artefact.REGION, _scoring_in_geojson),
    ):
        path = run_dir.path(artefact)
        if not path.exists():
            continue
        try:
            found = TypeAdapter(Scoring).validate_python(read(path))
        except _UNREADABLE as error:
            yield f"{artefact}: names no scoring ({one_line(error)}); {expected}"
            continue
        if found != scoring:
            yield f"{artefact}: names scoring {found.key}; {expected}"
    if score is not None and score.scoring != scoring:
        yield f"{Artefact.SCORE}: names scoring {score.scoring.key}; {expected}"
    try:
        with Image.open(run_dir.path(Artefact.OVERVIEW)) as image:
            key = image.info.get("wsipsm scoring")
    except _UNREADABLE as error:
        key = f"none ({one_line(error)})"
    if key != scoring.key:
        yield f"{Artefact.OVERVIEW}: names scoring {key}; {expected}"


def _scoring_in_table(path: Path) -> Any:
    with open_cells(path) as cells:
        return cells.facts["scoring"]


def _scoring_in_geojson(path: Path) -> Any:
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        opening = file.readline().rstrip(b"\n")
    # The first line holds everything before the features; closing it by hand saves reading all of them.
    return orjson.loads(opening + (b"" if opening.endswith(b"]}") else b"]}"))["wsipsm"]["scoring"]


def _check_kept(run_dir: RunDir, summary: RunSummary) -> Iterator[str]:
    """Check whether each kept scoring is the one that its folder is named after."""
    own = own_results(run_dir)
    scores = run_dir.path(Artefact.SCORES)
    if (own.read_json(Artefact.SUMMARY) or {}).get("request_key") != summary.request_key:
        yield f"{Artefact.SCORES}/{OWN}: holds no scoring of this run"
    for folder in sorted(scores.iterdir()) if scores.is_dir() else ():
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        kept = RunDir(folder)
        try:
            summed, scored = RunSummary.find(kept), ScoreRecord.find(kept)
        except UsageError as error:
            yield one_line(error)
            continue
        if summed is None or (scored is None and summed.scoring.dab_cut_od is not None):
            yield f"{Artefact.SCORES}/{folder.name}: is incomplete"
            continue
        is_alike = scored is None or scored.scoring == summed.scoring
        if not is_alike or folder.name not in (OWN, summed.scoring.key):
            yield f"{Artefact.SCORES}/{folder.name}: holds scoring {summed.scoring.key}"


def _check_region(run_dir: RunDir, summary: RunSummary, score: ScoreRecord | None, region: Region) -> Iterator[str]:
    if run_dir.path(Artefact.REGION).exists() and run_dir.path(Artefact.TISSUE).exists():
        yield f"{Artefact.REGION}: exists beside {Artefact.TISSUE}; the region can be only one of them"
    hashes = {region.facts().hash, summary.region.hash, summary.scoring.region_hash}
    if score is not None:
        hashes.add(score.region.hash)
    if len(hashes) > 1:
        yield f"the files name different regions: {', '.join(sorted(hashes))}"


def _check_nuclei(
    run_dir: RunDir, facts: tuple[RunSummary, ScoreRecord | None, float], region: Region
) -> Iterator[str]:
    """Check whether nuclei, classes and counts follow from the run's own nuclei, the region and the cut."""
    summary, score, mpp = facts
    with open_cells(run_dir.path(Artefact.CELLS)) as cells:
        table = cells.table([one.value for one in Column if one != Column.GEOMETRY])
    found = _Nuclei.of(table)
    expected = _expected(own_results(run_dir).path(Artefact.CELLS), region, summary.scoring.dab_cut_od)
    yield from _differences(f"{Artefact.CELLS}", found, expected, "the run's nuclei, region and cut")
    path = run_dir.path(Artefact.GEOJSON)
    yield from (f"{Artefact.GEOJSON}: {problem}" for problem in check_geojson(path)[:_MOST_SHOWN])
    yield from _differences(f"{Artefact.GEOJSON}", _read_features(path), found, str(Artefact.CELLS))
    totals = Totals()
    totals.add(table)
    counts = Counts.of(totals, (region, (), summary.coverage), mpp)
    for name in ("n_nuclei", "n_positive", "n_negative", "region_area_mm2", "mean_area_um2", "nuclei_per_mm2"):
        stored, counted = getattr(summary, name), getattr(counts, name)
        if not _is_close(counted, stored):
            yield f"{Artefact.SUMMARY}: {name} is {stored}; counted from the nuclei it is {counted}"
    if score is not None:
        yield from _check_score(run_dir, summary, score, totals)


def _check_score(run_dir: RunDir, summary: RunSummary, score: ScoreRecord, totals: Totals) -> Iterator[str]:
    if score.index != summary.labelling_index:
        yield f"{Artefact.SCORE}: its index differs from that of {Artefact.SUMMARY}"
    index = score.index
    if index is not None and (index.n_positive, index.n_scored) != (totals.n_positive, totals.n_nuclei):
        counted = f"{totals.n_positive} of {totals.n_nuclei}"
        found = f"{index.n_positive} of {index.n_scored} nuclei"
        yield f"{Artefact.SCORE}: {found} are positive; counted again, {counted} are"
    if score.cut.dab_od != summary.scoring.dab_cut_od:
        expected_od = summary.scoring.dab_cut_od
        yield f"{Artefact.SCORE}: its cut is {score.cut.dab_od}; that of {Artefact.SUMMARY} is {expected_od}"
    fields = orjson.loads(run_dir.path(Artefact.SCORE_AREAS).read_bytes())["features"]
    fields = [one["properties"] for one in fields if one["properties"]["classification"]["name"] == "Field"]
    n = sum(int(one["measurements"]["Nuclei"]) for one in fields)
    if n > totals.n_nuclei:
        yield f"{Artefact.SCORE_AREAS}: its fields hold {n} nuclei, but there are {totals.n_nuclei}"
    yield from (f"{Artefact.SCORE_AREAS}: {problem}" for problem in check_geojson(run_dir.path(Artefact.SCORE_AREAS)))


def _expected(path: Path, region: Region, cut_od: float | None) -> _Nuclei:
    """Choose the run's own nuclei that lie in the region, and class them by the cut."""
    names = [Column.NUCLEUS_ID, Column.CENTROID_X_PX0, Column.CENTROID_Y_PX0, Column.DAB_OD]
    with open_cells(path) as cells:
        table = cells.table([name.value for name in names])
    x, y = (np.asarray(table.column(name.value).to_numpy(), np.float64) for name in names[1:3])
    inside = np.asarray(region.contains(np.stack([x, y], axis=1)), dtype=bool)
    ids = table.column(names[0].value).filter(pa.array(inside)).to_pylist()
    if cut_od is None:
        return _Nuclei(ids, [NucleusClass.NUCLEUS.value] * len(ids))
    dab: NDArray[np.float32] = np.asarray(table.column(names[3].value).to_numpy(), np.float32)[inside]
    return _Nuclei(ids, classify(dab, len(ids), cut_od))


def _read_features(path: Path) -> _Nuclei:
    nuclei = _Nuclei([], [])
    with gzip.open(path) as file:
        for line in file:
            if line.startswith(b'{"type":"Feature",'):
                feature = orjson.loads(line.rstrip(b",\n"))
                nuclei.ids.append(feature["id"])
                nuclei.classes.append(feature["properties"]["classification"]["name"])
    return nuclei


def _differences(name: str, found: _Nuclei, other: _Nuclei, source: str) -> Iterator[str]:
    if found.ids != other.ids:
        n_more, n_less = len(set(found.ids) - set(other.ids)), len(set(other.ids) - set(found.ids))
        counts = f"{len(found.ids)} nuclei, but {len(other.ids)} by {source}"
        yield f"{name}: {counts}; {n_more} are too many, {n_less} are missing"
    elif found.classes != other.classes:
        n = sum(one != two for one, two in zip(found.classes, other.classes, strict=True))
        yield f"{name}: the class of {n} nuclei differs from that by {source}"


def _is_close(one: float | None, two: float | None) -> bool:
    if one is None or two is None:
        return one is two
    return abs(one - two) <= 1e-3 * max(1.0, abs(one))

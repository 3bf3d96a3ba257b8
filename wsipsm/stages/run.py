"""One slide from file to results."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsipsm.config import RunOptions
from wsipsm.engine.events import Listener, SlideDone, StageStarted
from wsipsm.engine.task import Executor
from wsipsm.errors import RoiError, SlideReadError
from wsipsm.export.overview import OverviewCanvas
from wsipsm.geometry import Box
from wsipsm.keys import Artefact
from wsipsm.models.registry import resolve_model
from wsipsm.region import PolygonRegion
from wsipsm.rundir import RunDir, digest, write_aside
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.open import open_slide, require_mpp
from wsipsm.stages.discover import slide_stem
from wsipsm.stages.plan import SlidePlan, plan_slide
from wsipsm.stages.provenance import result_code
from wsipsm.stages.report import SlideResult, geojson_facts, overview_caption, provenance, summarise
from wsipsm.stages.segment import Segmented, segment_slide
from wsipsm.stages.summary import RESULTS, RunSummary
from wsipsm.stages.write import read_coverage, write_cells


def run_slide(
    slide_path: str | Path,
    out_dir: str | Path,
    options: RunOptions,
    listener: Listener,
    executor: Executor | None = None,
    name: str | None = None,
) -> RunSummary:
    """Find and score the nuclei of one slide.

    A run that was stopped is continued; a finished one is left alone unless ``options.overwrite``; results of other
    options or another version are replaced, each file in one step, once the new ones are whole.

    Parameters
    ----------
    slide_path
        Slide or image file.
    out_dir
        Folder of results; the slide gets one of its own in it.
    options
        Of the run.
    listener
        Told what happens, in this process.
    executor
        Runs the blocks, and stays open; None opens one by ``options`` and closes it.
    name
        Of the slide's folder; None: the file's stem.

    Raises
    ------
    WsipsmError
        One of its children, whose message says what to do; results under final names are never partial.
    """
    clock = _Clock()
    told = str(slide_path)
    with open_slide(slide_path, options.mpp) as slide:
        require_mpp(slide.info)
        run_dir = RunDir(Path(out_dir) / (name or slide_stem(slide_path)))
        request = request_key(slide.info, options)
        finished = finished_before(run_dir, request)
        if finished is not None and not options.overwrite:
            listener(SlideDone(told, finished))
            return finished
        _prepare(run_dir, start_anew=finished is not None)
        listener(StageStarted("plan", told))
        with clock.timed("plan"):
            plan = plan_slide(slide, options, run_dir)
    with clock.timed("segment"):
        segmented = segment_slide(plan, run_dir, options, listener, executor)
    listener(StageStarted("write", told))
    notes = _notes_on_replaced(run_dir, request)  # asked before the old summary goes
    with clock.timed("write"):
        result = _write_results(plan, run_dir, segmented)
    summary = summarise(result, run_dir.root, clock.told(), request, notes)
    run_dir.write_json(Artefact.RUN, provenance(result, options, summary))
    # Last: it says that all is done. Shards are of no more use then, unless a block is to be tried again.
    run_dir.write_json(Artefact.SUMMARY, summary.to_dict())
    again = [block for block in plan.blocks if block.index in segmented.reports] if segmented.failures else []
    run_dir.remove_shards([run_dir.shard_path(plan.job.key, block) for block in again])
    listener(SlideDone(told, summary))
    return summary


def _prepare(run_dir: RunDir, start_anew: bool) -> None:
    """Make the folder; clear what a finished run left where it is to be done anew.

    An unfinished run is continued, also when it was started to overwrite.
    """
    run_dir.create()
    if start_anew:
        run_dir.remove_shards()
        run_dir.remove(Artefact.SUMMARY)
        run_dir.create()


def _notes_on_replaced(run_dir: RunDir, request: str) -> tuple[str, ...]:
    values = run_dir.read_json(Artefact.SUMMARY)
    if values is None or values.get("request_key") == request:
        return ()
    return ("results of other options or another version in this folder were replaced.",)


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)

    def told(self) -> dict[str, float]:
        return {**self.seconds, "total": round(time.perf_counter() - self._start, 3)}


def request_key(info: SlideInfo, options: RunOptions) -> str:
    """Name what was asked for, cheaply: slide, options, files they name, and code."""
    roi = None
    if options.roi is not None:
        try:
            roi = hashlib.sha256(options.roi.read_bytes()).hexdigest()
        except OSError as error:
            raise RoiError(
                f"{options.roi}: cannot be read ({error.strerror}); --roi needs a GeoJSON file. Check the path."
            ) from error
    model = None
    if options.model is not None:
        model = resolve_model(options.model)[1].model_dump(mode="json")
    chosen = options.model_dump(mode="json", include={"block_px", "tile_px", "seed", "backend"})
    return digest([info.fingerprint, info.mpp, chosen, model, roi, result_code()])


def finished_before(run_dir: RunDir, request: str) -> RunSummary | None:
    """Summary of an earlier run of the same request, when its results are all there."""
    values = run_dir.read_json(Artefact.SUMMARY)
    if values is None or values.get("request_key") != request or values.get("n_failed_blocks"):
        return None
    if not all(run_dir.path(artefact).is_file() for artefact in RESULTS):
        return None
    try:
        return RunSummary.from_dict(values, run_dir.root)
    except (KeyError, TypeError):
        return None


def _write_results(plan: SlidePlan, run_dir: RunDir, segmented: Segmented) -> SlideResult:
    """Write nuclei and overview."""
    done = [block for block in plan.blocks if block.index in segmented.reports]
    lost = _lost_boxes(plan, segmented)
    coverage = read_coverage(plan.region, lost)
    if plan.blocks and coverage == 0:
        raise SlideReadError(
            f"{plan.info.path}: no pixel of the region could be read; a readable slide is needed. "
            "Copy it again from its source."
        )
    canvas = OverviewCanvas(
        plan.picture,
        plan.px0_per_picture_pixel,
        plan.region.shape if isinstance(plan.region, PolygonRegion) else None,
        plan.job.grid.slide_mpp,
    )
    totals = write_cells(plan, run_dir, done, lost, geojson_facts(plan), canvas)
    result = SlideResult(plan, segmented, totals, lost, coverage)
    with write_aside(run_dir.path(Artefact.OVERVIEW)) as temporary:
        canvas.save(temporary, overview_caption(result))
    return result


def _lost_boxes(plan: SlidePlan, segmented: Segmented) -> tuple[Box, ...]:
    """Level-0 boxes that were not read or not scored."""
    failed = [block.core for block in plan.blocks if block.index in segmented.failures]
    unread = [box for _, report in sorted(segmented.reports.items()) for box in report.failed]
    return (*unread, *(plan.job.grid.box_px0(core) for core in failed))

"""The first step of a slide: it plans the run, and finds out what an earlier run has done and which blocks are left."""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from wsipsm.config import RunOptions
from wsipsm.errors import RoiError, UsageError
from wsipsm.events import BlockReport, Listener, RunPlanned, StageStarted, ignore_events
from wsipsm.instances.shard import check_shard
from wsipsm.keys import Artefact
from wsipsm.markers.registry import marker_of
from wsipsm.models.registry import resolve_model
from wsipsm.paths import find_no_file
from wsipsm.quality.finding import Finding, flags_of
from wsipsm.quality.picture_size import refuse_picture_size
from wsipsm.results.provenance import result_code
from wsipsm.results.shown_scoring import (
    clear_aside,
    forget_results,
    is_whole,
    own_results,
    show_own,
    shows_own,
)
from wsipsm.results.slide_folder import claim_slide_folder
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir, digest
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.open import open_slide, require_mpp
from wsipsm.stages.block import report_of
from wsipsm.stages.plan import SlidePlan, plan_slide
from wsipsm.tiling import Block
from wsipsm.timing import Span, Steps

NOT_IN_REQUEST = MappingProxyType(
    {
        "workers": "results do not depend on the number of workers",
        "scheduler": "results do not depend on the machines of the workers",
        "overwrite": "it only says that the same results are made again",
        "on_pixel_size": "it decides whether a slide is refused, and changes no result",
        "absent_class_is_error": "it decides whether a region is refused, never what it holds",
        "model": "the request holds the model's card, with the checksum of its weights, in its place",
        "inference": "it follows from what is asked of backend, device and precision, and from the machine",
        "profile": "it times what is done, and changes none of it",
    }
)
"""Options that are no part of a request's key, and why; a change of any other option makes another request."""


@dataclass(frozen=True)
class PreparedSlide:
    """A slide whose blocks can be run, here or on another machine."""

    slide: str
    """Path of the slide, as the user gave it."""
    folder: str
    """Folder of the slide's results."""
    plan: SlidePlan
    before: dict[int, BlockReport]
    """Reports of the blocks whose shards an earlier run left, by index."""
    request: str
    """Key of the request, see :func:`request_key`."""
    notes: tuple[str, ...]
    """Sentences on what happened to earlier results."""
    seconds: float
    """Seconds that planning took."""
    spans: tuple[Span, ...] = ()
    """Steps of planning one by one, where the run is profiled."""

    @property
    def todo(self) -> tuple[Block, ...]:
        """Blocks without a shard."""
        return tuple(block for block in self.plan.blocks if block.index not in self.before)

    def announcement(self, n_workers: int) -> RunPlanned:
        """Make the event that says what the run will do."""
        before = self.before.values()
        reason = f"model {self.plan.job.card.name}: {self.plan.model_reason}"
        return RunPlanned(
            slide=self.slide,
            n_blocks=len(self.plan.blocks),
            n_done_before=len(before),
            n_tiles=self.plan.n_tiles,
            n_tiles_before=sum(report.n_tiles for report in before),
            n_nuclei_before=sum(report.n_nuclei for report in before),
            n_workers=n_workers,
            notes=(reason, *self.plan.notes),
            flags=tuple(flags_of(self.plan.findings)),
        )


def prepare_slide(
    slide_path: str | Path,
    out_dir: str | Path,
    options: RunOptions,
    name: str,
    address: str = "",
    listener: Listener = ignore_events,
) -> PreparedSlide | RunSummary:
    """Plan a slide's run and make its folder, or return the results of a finished run of the same request.

    Parameters
    ----------
    slide_path
        Slide or image file.
    out_dir
        Folder of results; the slide gets one of its own in it.
    options
        Options of the run.
    name
        Name of the slide's folder, whose lock the caller must hold.
    address
        Address that the slide was fetched from, which its folder records; empty for a slide on a disk.
    listener
        Listener that is called when planning begins.

    Returns
    -------
    The plan and what is left to do, or the summary of a finished run.

    Raises
    ------
    WsipsmError
        When the slide cannot be scored or its folder cannot be written; a subclass says which.
    """
    started, steps = time.perf_counter(), Steps(options.profile)
    options = options.with_inference()
    with ExitStack() as stack:
        with steps.timed("open"):
            slide = stack.enter_context(open_slide(slide_path, options.mpp, options.image))
        require_mpp(slide.info)
        run_dir = RunDir(Path(out_dir) / name)
        request = request_key(slide.info, options)
        claim_slide_folder(run_dir, slide.info, address, options.image)
        finished = finished_before(run_dir, request)
        if finished is not None and not options.overwrite:
            if options.on_pixel_size == "refuse":
                refuse_picture_size([Finding.model_validate(check) for check in finished.checks], slide.info)
            return _shown(run_dir, finished)
        _make_folder(run_dir, start_anew=finished is not None)
        listener(StageStarted("plan", str(slide_path)))
        with steps.timed("plan"):
            plan = plan_slide(slide, options, run_dir)
    before = {}
    for block in plan.blocks:
        facts = check_shard(run_dir.shard_path(plan.job.key, block), plan.job.place_of(block))
        # A block with an unreadable part is done again, since the part may be readable now.
        if facts is not None and not facts.failed:
            before[block.index] = report_of(block, facts)
    return PreparedSlide(
        slide=str(slide_path),
        folder=str(run_dir.root),
        plan=plan,
        before=before,
        request=request,
        notes=_notes_on_replaced(run_dir, request),
        seconds=round(time.perf_counter() - started, 3),
        spans=tuple(steps.spans),
    )


def request_key(info: SlideInfo, options: RunOptions) -> str:
    """Compute the key of a request: a digest of slide, options, the files that options name, and code.

    Parameters
    ----------
    info
        Facts about the slide, with its fingerprint.
    options
        Options of the run; those in ``NOT_IN_REQUEST`` do not count.

    Raises
    ------
    RoiError, UsageError, ModelError
        When a file that an option names, or the model, cannot be read.
    ValueError
        When the slide was opened without a fingerprint.
    """
    if not info.fingerprint:
        raise ValueError(f"{info.path}: opened without a fingerprint; a request needs one.")
    chosen = options.model_dump(mode="json", exclude=set(NOT_IN_REQUEST))
    for name in chosen:
        value = getattr(options, name)
        if isinstance(value, Path):
            chosen[name] = _content_digest(value, name)
    chosen["marker"] = marker_of(options.marker).name
    model = None
    if options.model is not None:
        model = resolve_model(options.model)[1].model_dump(mode="json")
    return digest([info.fingerprint, info.image, info.mpp, chosen, model, result_code()])


def _content_digest(path: Path, option: str) -> str:
    """Compute the digest of the content of a file that an option names."""
    kind, wanted = (RoiError, "a GeoJSON file") if option == "roi" else (UsageError, "a readable file")
    needed = f"--{option.replace('_', '-')} needs {wanted}"
    missing = find_no_file(path)
    if missing is not None:
        raise kind(f"{path}: {missing[0]}; {needed}. {missing[1]}")
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror}); {needed}. Check the path.") from error


def finished_before(run_dir: RunDir, request: str) -> RunSummary | None:
    """Read the summary of an earlier run of the same request; None unless it is finished and all its files exist."""
    own = own_results(run_dir)
    values = own.read_json(Artefact.SUMMARY)
    if values is None or values.get("request_key") != request:
        return None
    try:
        summary = RunSummary.from_dict(values, run_dir.root)
    except UsageError:
        return None
    return summary if summary.is_finished and is_whole(run_dir, summary.file_bytes) else None


def _shown(run_dir: RunDir, finished: RunSummary) -> RunSummary:
    """Make a finished folder show the run's own scoring, and record in the summary what it showed instead."""
    run_dir.remove_shards()
    clear_aside(run_dir)
    if shows_own(run_dir):
        return finished
    before = None
    with suppress(UsageError):  # a summary of another version does not say which scoring was shown
        before = RunSummary.find(run_dir)
    show_own(run_dir)
    if before is None or before.scoring.key == finished.scoring.key:
        return finished
    place = run_dir.path(Artefact.SCORES) / before.scoring.key
    return finished.replaced(restored=f"{before.scoring.text}; it is kept in {place}")


def _make_folder(run_dir: RunDir, start_anew: bool) -> None:
    """Make the folder, and remove the results of a finished run that is to be repeated.

    An unfinished run is continued, even one that was started with ``overwrite``.
    """
    run_dir.create()
    if start_anew:
        run_dir.remove_shards()
        forget_results(run_dir)
        run_dir.create()


def _notes_on_replaced(run_dir: RunDir, request: str) -> tuple[str, ...]:
    values = run_dir.read_json(Artefact.SUMMARY)
    if values is None or values.get("request_key") == request:
        return ()
    return ("results of other options or another version in this folder were replaced.",)

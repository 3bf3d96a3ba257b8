"""The run of one slide, from file to results."""

from __future__ import annotations

from pathlib import Path

from wsipsm.config import RunOptions
from wsipsm.events import Listener, SlideDone, StageStarted
from wsipsm.executors.task import Executor
from wsipsm.results.slide_folder import locked_own_folder
from wsipsm.results.summary import RunSummary
from wsipsm.stages.finish import finish_slide
from wsipsm.stages.prepare import prepare_slide
from wsipsm.stages.segment import segment_slide


def run_slide(
    slide_path: str | Path,
    out_dir: str | Path,
    options: RunOptions,
    listener: Listener,
    executor: Executor | None = None,
    name: str | None = None,
) -> RunSummary:
    """Find and score the nuclei of one slide.

    A run that was stopped is continued, and a finished one is left as it is unless ``options.overwrite``. Results of
    other options or another version are replaced once the new nuclei are complete, each file in one step. The slide's
    folder is locked, so that no other command can write into it meanwhile.

    Parameters
    ----------
    slide_path
        Slide or image file.
    out_dir
        Folder of results; the slide gets one of its own in it.
    options
        Options of the run.
    listener
        Listener that is called with every event, in this process.
    executor
        Executor of the blocks, which stays open; None opens one by ``options`` and closes it.
    name
        Name of the slide's folder. With None it is the folder that has the slide's results already, or else a folder
        named after the file, with an addition where that belongs to another slide (see ``choose_folder_name``).

    Returns
    -------
    The summary of the slide's results.

    Raises
    ------
    WsipsmError
        When the slide cannot be scored; the message of the subclass says what to do. Files with final names are never
        partial.

    Examples
    --------
    >>> events = []
    >>> summary = run_slide("case.tif", "results", RunOptions(workers=0), listener=events.append)
    >>> summary.n_nuclei == events[-1].summary.n_nuclei
    True
    >>> Path(summary.folder).joinpath("cells.parquet").is_file()
    True
    """
    source = str(slide_path)
    with locked_own_folder(Path(slide_path), Path(out_dir), name, options.image) as (own_name, lock):
        prepared = prepare_slide(slide_path, out_dir, options, own_name, listener=listener)
        if isinstance(prepared, RunSummary):
            summary = prepared
        else:
            # What was chosen for the plan is what run.json records.
            options = options.model_copy(update={"inference": prepared.plan.job.inference})
            segmented = segment_slide(prepared, options, listener, executor)
            lock.check()
            listener(StageStarted("write", source))
            summary = finish_slide(prepared, segmented, options)
    listener(SlideDone(source, summary))
    return summary

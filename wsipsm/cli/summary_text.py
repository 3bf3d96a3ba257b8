"""The text that a user reads at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wsipsm.cli.region_table import lines_about_annotations
from wsipsm.cli.score_text import lines_about_index
from wsipsm.keys import Artefact
from wsipsm.results.summary import RESEARCH_USE

if TYPE_CHECKING:
    from wsipsm.results.summary import RunSummary


def lines_about_run(summary: RunSummary) -> list[str]:
    """Write what was found, where the files are and which to open next."""
    density = "" if summary.nuclei_per_mm2 is None else f", {summary.nuclei_per_mm2:,.0f} per mm2"
    marker = summary.scoring.marker
    lines = [f"FLAG: {flag}" for flag in summary.flags]
    lines.append(
        f"{Path(summary.slide).name}: {summary.n_nuclei:,} nuclei in {summary.region_area_mm2:.2f} mm2{density}"
        f"; region: {summary.region.name}; model {summary.model}"
    )
    if summary.labelling_index is not None:
        lines += lines_about_index(summary.labelling_index, summary.scores, marker)
    elif summary.labelling_index_note is not None:
        lines.append(f"{marker}: {summary.labelling_index_note}")
    lines += lines_about_annotations(summary.region.annotations)
    if not summary.is_complete:
        lines.append(
            f"incomplete: {summary.coverage:.2%} of the region was scored, {len(summary.failed_boxes_px0)} parts "
            "could not be read; summary.json lists them"
        )
    if summary.n_too_large:
        lines.append(f"refused: {summary.n_too_large} instances above the model's largest nucleus")
    lines += [f"note: {note}" for note in summary.notes]
    lines += _lines_about_files(summary)
    if summary.flags:
        lines.append(f"FLAG, as above: {' '.join(summary.flags)}")
    return lines


def _lines_about_files(summary: RunSummary) -> list[str]:
    restored = [f"  before, the folder showed another scoring: {summary.restored}"] if summary.restored else []
    done = "were there already" if summary.was_done else f"took {summary.seconds.get('total', 0.0):.0f} s"
    return [
        f"results in {summary.folder} ({done})",
        *restored,
        f"  picture     {Artefact.OVERVIEW}",
        f"  QuPath      open the slide, then drag {Artefact.GEOJSON} onto it",
        f"  table       {Artefact.CELLS} (geopandas, pandas, R)",
        *(["  to compute them again, pass --overwrite"] if summary.was_done else []),
        f"{RESEARCH_USE}.",
    ]


def lines_about_time(summary: RunSummary) -> list[str]:
    """Say how long each stage and step of a profiled run took, and where its trace lies."""
    from wsipsm.results.run_record import RunRecord

    if summary.was_done:
        return ["profile: nothing was timed, since the results were there already"]
    seconds = RunRecord.read(Path(summary.folder)).seconds
    shown = {
        "stages, s": seconds.stages,
        "blocks, s of all workers": seconds.block_steps,
        "write, s": seconds.write_steps,
    }
    return [
        *(f"{title}: {', '.join(f'{name} {s:.2f}' for name, s in steps.items())}" for title, steps in shown.items()),
        f"trace: {Path(summary.folder) / Artefact.TRACE} (open it at ui.perfetto.dev or in chrome://tracing)",
    ]

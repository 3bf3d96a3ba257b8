"""What a user reads when a run is over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsipsm.keys import Artefact

if TYPE_CHECKING:
    from wsipsm.stages.summary import RunSummary


def lines_about_run(summary: RunSummary) -> list[str]:
    """Tell what was found, where it lies and what to open next."""
    density = "" if summary.nuclei_per_mm2 is None else f", {summary.nuclei_per_mm2:,.0f} per mm2"
    lines = [
        f"{Path(summary.slide).name}: {summary.n_nuclei:,} nuclei in {summary.region_area_mm2:.2f} mm2{density}"
        f"; region: {summary.region['name']}; model {summary.model}"
    ]
    if summary.labelling_index is not None:
        lines += lines_about_index(summary.labelling_index)
    elif summary.labelling_index_note is not None:
        lines.append(f"Ki-67: {summary.labelling_index_note}")
    if not summary.is_complete:
        lines.append(
            f"incomplete: {summary.coverage:.2%} of the region was scored, {len(summary.failed_boxes_px0)} parts "
            "could not be read; summary.json lists them"
        )
    if summary.n_too_large:
        lines.append(f"refused: {summary.n_too_large} instances above the model's largest nucleus")
    lines += [f"note: {note}" for note in summary.notes]
    return [*lines, *_lines_about_files(summary)]


def lines_about_index(index: dict[str, Any]) -> list[str]:
    """Tell the labelling index with n, interval, method and region; and its flags."""
    counts = f"{index['n_positive']:,} positive of {index['n_scored']:,} nuclei"
    value = "none"
    if index["value"] is not None:
        value = f"{index['value']:.1%} (95 % interval {index['low']:.1%} to {index['high']:.1%})"
    return [
        f"Ki-67 labelling index: {value}; {counts}; region: {index['region']}",
        f"  method: {index['method']}",
        *(f"  flag: {flag}" for flag in index["flags"]),
    ]


def _lines_about_files(summary: RunSummary) -> list[str]:
    done = "were there already" if summary.was_done else f"took {summary.seconds.get('total', 0.0):.0f} s"
    return [
        f"results in {summary.folder} ({done})",
        f"  look at     {Artefact.OVERVIEW}",
        f"  QuPath      open the slide, then drag {Artefact.GEOJSON} onto it",
        f"  table       {Artefact.CELLS} (geopandas, pandas, R)",
        *(["  to compute them again, pass --overwrite"] if summary.was_done else []),
    ]

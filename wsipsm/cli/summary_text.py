"""The text that a user reads when a run is over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wsipsm.cli.region_table import lines_about_annotations
from wsipsm.keys import Artefact
from wsipsm.markers.registry import DEFAULT_MARKER, marker_of
from wsipsm.results.summary import RESEARCH_USE

if TYPE_CHECKING:
    from wsipsm.results.summary import RunSummary, ScoreFacts
    from wsipsm.scoring.hotspot import HotSpot
    from wsipsm.scoring.index import LabellingIndex
    from wsipsm.scoring.spatial import SpatialInterval


def lines_about_run(summary: RunSummary) -> list[str]:
    """Say what was found, where it lies and what to open next."""
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


def lines_about_index(
    index: LabellingIndex, scores: ScoreFacts | None = None, marker: str = DEFAULT_MARKER.name
) -> list[str]:
    """Show the labelling index with n, intervals, method and region; the other scores in a line; and its flags."""
    counts = f"{index.n_positive:,} positive of {index.n_scored:,} nuclei"
    value = "none"
    if index.value is not None:
        interval = f"95 % interval {_range(index)}"
        if scores is not None and scores.interval is not None:
            interval += f" by counting, {_range(scores.interval)} with clusters"
        value = f"{index.value:.1%} ({interval})"
    return [
        f"{marker} {marker_of(marker).index_name}: {value}; {counts}; region: {index.region}",
        *([] if scores is None or index.value is None else [_line_about_places(scores)]),
        *_lines_about_figures(scores),
        f"  method: {index.method}",
        *(f"  flag: {flag}" for flag in index.flags),
    ]


def _line_about_places(scores: ScoreFacts) -> str:
    """Show mean over fields and hot spot."""
    mean, by_area, spot = scores.unweighted_mean, scores.area_weighted_mean, scores.hot_spot.spot
    fields = "none, no field holds enough nuclei"
    if mean.value is not None:
        fields = f"{mean.value:.1%} (fields: {mean.n_fields})"
        fields += "" if by_area.value is None else f", by area {by_area.value:.1%}"
    hot_spot = scores.hot_spot.reason
    if spot is not None:
        hot_spot = f"{spot.index:.1%} of {spot.n:,} nuclei (95 % interval {_range(spot)})"
    return f"  mean over fields: {fields}; hot spot: {hot_spot}"


def _lines_about_figures(scores: ScoreFacts | None) -> list[str]:
    """Show what the marker has beside the share of positive nuclei."""
    figures = () if scores is None else scores.figures or ()
    return [f"  {figure.name}: {figure.text}; {figure.method}" for figure in figures]


def _range(interval: LabellingIndex | SpatialInterval | HotSpot) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%}"


def _lines_about_files(summary: RunSummary) -> list[str]:
    restored = [f"  before, the folder showed another scoring: {summary.restored}"] if summary.restored else []
    done = "were there already" if summary.was_done else f"took {summary.seconds.get('total', 0.0):.0f} s"
    return [
        f"results in {summary.folder} ({done})",
        *restored,
        f"  look at     {Artefact.OVERVIEW}",
        f"  QuPath      open the slide, then drag {Artefact.GEOJSON} onto it",
        f"  table       {Artefact.CELLS} (geopandas, pandas, R)",
        *(["  to compute them again, pass --overwrite"] if summary.was_done else []),
        f"{RESEARCH_USE}.",
    ]

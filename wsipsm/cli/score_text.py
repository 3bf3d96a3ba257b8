"""Lines of text about a score, in the same words for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsipsm.markers.registry import DEFAULT_MARKER, marker_of
from wsipsm.text import range_text

if TYPE_CHECKING:
    from wsipsm.results.summary import ScoreFacts
    from wsipsm.scoring.index import LabellingIndex


def lines_about_index(
    index: LabellingIndex, scores: ScoreFacts | None = None, marker: str = DEFAULT_MARKER.name
) -> list[str]:
    """Write the labelling index with counts, intervals, region, method and flags, and the other scores."""
    counts = f"{index.n_positive:,} positive of {index.n_scored:,} nuclei"
    value = "none"
    if index.value is not None:
        interval = f"95 % interval {range_text(index.low, index.high)}"
        if scores is not None and scores.interval is not None:
            interval += f" by counting, {range_text(scores.interval.low, scores.interval.high)} with clusters"
        value = f"{index.value:.1%} ({interval})"
    return [
        f"{marker} {marker_of(marker).index_name}: {value}; {counts}; region: {index.region}",
        *([] if scores is None or index.value is None else [_line_about_places(scores)]),
        *_lines_about_bands(scores),
        *_lines_about_figures(scores),
        f"  method: {index.method}",
        *(f"  flag: {flag}" for flag in index.flags),
    ]


def _line_about_places(scores: ScoreFacts) -> str:
    """Write the mean over fields and the hot spot."""
    mean, by_area, spot = scores.unweighted_mean, scores.area_weighted_mean, scores.hot_spot.spot
    fields = "none, no field holds enough nuclei"
    if mean.value is not None:
        fields = f"{mean.value:.1%} (fields: {mean.n_fields})"
        fields += "" if by_area.value is None else f", by area {by_area.value:.1%}"
    hot_spot = scores.hot_spot.reason
    if spot is not None:
        hot_spot = f"{spot.index:.1%} of {spot.n:,} nuclei (95 % interval {range_text(spot.low, spot.high)})"
    return f"  mean over fields: {fields}; hot spot: {hot_spot}"


def _lines_about_figures(scores: ScoreFacts | None) -> list[str]:
    """Write the marker's figures other than the share of positive nuclei."""
    figures = () if scores is None else scores.figures or ()
    return [f"  {figure.name}: {figure.text}; {figure.method}" for figure in figures]


def _lines_about_bands(scores: ScoreFacts | None) -> list[str]:
    """Write in which of the marker's bands the index is."""
    bands = () if scores is None else scores.bands
    return [f"  {one.name}: {one.meaning}{'' if one.certain else '; not certain on this count'}" for one in bands]

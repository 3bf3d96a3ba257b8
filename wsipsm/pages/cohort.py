"""The page of a cohort: one HTML file that loads nothing but the slides' thumbnails beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wsipsm.keys import Artefact
from wsipsm.markers.marker import Marker
from wsipsm.markers.registry import DEFAULT_MARKER, marker_of
from wsipsm.pages.charts import Chart, control_drawing, histogram
from wsipsm.pages.render import render
from wsipsm.scoring.drift import ControlChart

_INDEX_EDGES = np.arange(0.0, 101.0, 5.0)


@dataclass(frozen=True, slots=True)
class PageSlide:
    """One slide in the tables of the page."""

    id: str
    source: str
    status: str
    reason: str
    folder: str
    """Name of the folder of results beside the page; empty when there is none."""
    thumbnail: str
    """Name of the thumbnail in that folder; empty when there is none."""
    index: float | None
    spatial: tuple[float | None, float | None]
    field_mean: float | None
    hot_spot: float | None
    hot_spot_n: int | None
    n_nuclei: int | None
    nuclei_per_mm2: float | None
    stains: Mapping[str, float | None]
    """Values of the stain statistics by short title."""
    drift: str
    notes: str
    flags: str = ""
    """Flags of the checks of the picture, as text."""
    withheld: bool = False
    """Whether the index is withheld because of these checks."""
    marker: str = ""
    """Marker whose index is shown; empty on H&E, and while a slide waits."""
    few: bool = False
    """Whether fewer nuclei were scored than an index needs."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """The slide's values in the manifest, by column."""

    @property
    def has_interval(self) -> bool:
        """Whether the index has an interval that allows for clusters of nuclei."""
        return self.spatial[0] is not None and self.spatial[1] is not None


@dataclass(frozen=True, slots=True)
class PageChart:
    """A control chart with the ids of its slides."""

    title: str
    chart: ControlChart
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CohortPage:
    """Everything that the page says of a cohort."""

    name: str
    use: str
    """Sentence on the intended use of the results."""
    counts: Mapping[str, int]
    """Number of slides by status, in the order of the page."""
    facts: Sequence[str]
    """Lines on versions, models and time."""
    files: Sequence[str]
    """Names of files beside the page to which it links."""
    failed: Sequence[PageSlide]
    slides: Sequence[PageSlide]
    """All slides, failed ones first."""
    charts: Sequence[PageChart]
    groupings: Sequence[str] = ()
    """Columns of the manifest by which slides can be grouped."""


def cohort_page(page: CohortPage) -> bytes:
    """Write the page of a cohort as HTML, UTF-8."""
    return render(
        "cohort",
        page=page,
        overview=Artefact.OVERVIEW.value,
        index_title=_index_title(page.slides),
        stains=list(dict.fromkeys(title for slide in page.slides for title in slide.stains)),
        distributions=_distributions(page.slides),
        drifts=[control_drawing(one.chart, one.names, one.title, f"drift{n}") for n, one in enumerate(page.charts)],
    )


def _distributions(slides: Sequence[PageSlide]) -> list[Chart]:
    index = [100 * slide.index for slide in slides if slide.index is not None]
    density = [slide.nuclei_per_mm2 for slide in slides if slide.nuclei_per_mm2 is not None]
    return [
        histogram(index, f"{_index_name(slides)}, {_index_title(slides)}", _INDEX_EDGES, "index"),
        histogram(density, "nuclei per mm2", None, "density"),
    ]


def _index_title(slides: Sequence[PageSlide]) -> str:
    """Choose the title of the index's column: the marker's name, or a general one when slides have several markers."""
    marker = _only_marker(slides)
    return "Index %" if marker is None else f"{marker.name} %"


def _only_marker(slides: Sequence[PageSlide]) -> Marker | None:
    markers = {slide.marker for slide in slides} - {""}
    return marker_of(markers.pop()) if len(markers) == 1 else None


def _index_name(slides: Sequence[PageSlide]) -> str:
    name = (_only_marker(slides) or DEFAULT_MARKER).index_name
    return name[:1].upper() + name[1:]

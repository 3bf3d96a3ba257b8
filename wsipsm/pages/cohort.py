"""The page of a cohort: one HTML file with nothing from elsewhere but the slides' thumbnails beside it."""

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
    """A slide as the page shows it."""

    id: str
    source: str
    status: str
    reason: str
    folder: str
    """The folder of results beside the page; empty when there are none."""
    thumbnail: str
    """File in the folder; empty when there is none."""
    index: float | None
    spatial: tuple[float | None, float | None]
    field_mean: float | None
    hot_spot: float | None
    hot_spot_n: int | None
    n_nuclei: int | None
    nuclei_per_mm2: float | None
    stains: Mapping[str, float | None]
    """Short title to value."""
    drift: str
    notes: str
    flags: str = ""
    """What the checks of the picture say beside the number."""
    withheld: bool = False
    """Whether the picture can carry no index."""
    marker: str = ""
    """The marker that the index is of; empty on H&E, and while a slide waits."""
    few: bool = False
    """Whether fewer nuclei were scored than an index needs."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Column of the manifest to what it says of the slide."""

    @property
    def has_interval(self) -> bool:
        """Whether the index has an interval that reckons with clusters."""
        return self.spatial[0] is not None and self.spatial[1] is not None


@dataclass(frozen=True, slots=True)
class PageChart:
    """A control chart with its slides."""

    title: str
    chart: ControlChart
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CohortPage:
    """Everything that the page says of a cohort."""

    name: str
    use: str
    """What the results are for."""
    counts: Mapping[str, int]
    """Status to slides, in the order in which they are listed."""
    facts: Sequence[str]
    """Versions, models and time, a line each."""
    files: Sequence[str]
    """Files beside the page that it links to."""
    failed: Sequence[PageSlide]
    slides: Sequence[PageSlide]
    """All of them, failed ones first."""
    charts: Sequence[PageChart]
    groupings: Sequence[str] = ()
    """Columns of the manifest by which slides can be grouped."""


def cohort_page(page: CohortPage) -> bytes:
    """Write a cohort as HTML, UTF-8."""
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
    """Name of the marker where it is one."""
    marker = _only_marker(slides)
    return "Index %" if marker is None else f"{marker.name} %"


def _only_marker(slides: Sequence[PageSlide]) -> Marker | None:
    markers = {slide.marker for slide in slides} - {""}
    return marker_of(markers.pop()) if len(markers) == 1 else None


def _index_name(slides: Sequence[PageSlide]) -> str:
    name = (_only_marker(slides) or DEFAULT_MARKER).index_name
    return name[:1].upper() + name[1:]

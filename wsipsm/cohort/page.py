"""The page of a cohort, made from the rows of its table; it also shows which slides are stained unlike the rest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wsipsm.cohort.journal import JOURNAL_NAME
from wsipsm.cohort.table import (
    CSV_NAME,
    DONE,
    FAILED,
    INCOMPLETE,
    PAGE_NAME,
    PARQUET_NAME,
    WAITING,
    CohortRow,
)
from wsipsm.export.thumbnail import THUMBNAIL_NAME, write_thumbnail
from wsipsm.keys import Artefact
from wsipsm.markers.registry import marker_of
from wsipsm.pages.cohort import CohortPage, PageChart, PageSlide, cohort_page
from wsipsm.results.provenance import package_version
from wsipsm.results.shown_scoring import OWN, own_results
from wsipsm.results.summary import RESEARCH_USE
from wsipsm.rundir import RunDir, write_aside
from wsipsm.scoring.drift import ControlChart, control_chart

_PERIOD_S = 30.0
"""Seconds between two versions of the page, since writing a page of thousands of slides takes time."""
_OD_FINEST = 0.002
"""The smallest change of optical density that counts: about the sampling error of a median of some thousand nuclei."""
_LEVEL_FINEST = 0.5
"""The smallest change of a grey level that counts, which is half a level, since levels are whole numbers."""
_STAIN_NAMES = {"ihc": "hematoxylin-DAB", "he": "H&E"}
_FIRST = {FAILED: 0, INCOMPLETE: 1}
_GROUP = "group"
"""Column of the manifest that every table has."""


@dataclass(frozen=True, slots=True)
class _Statistic:
    """A column of the table that is charted; ``dab_od`` is not, since it follows the index."""

    column: str
    title: str
    finest: float


_CHARTED = (
    _Statistic("hematoxylin_od", "hematoxylin OD of nuclei", _OD_FINEST),
    _Statistic("dab_od_positive", "DAB OD of positive nuclei", _OD_FINEST),
    _Statistic("dab_od_negative", "DAB OD of negative nuclei", _OD_FINEST),
    _Statistic("background_level", "grey level of glass", _LEVEL_FINEST),
)


@dataclass(frozen=True, slots=True)
class StainChart:
    """Control chart of one statistic over the slides of one stain."""

    stain: str
    column: str
    title: str
    rows: tuple[int, ...]
    """Rows of the table, in the order of the chart."""
    chart: ControlChart


def stain_charts(rows: Sequence[CohortRow]) -> list[StainChart]:
    """Make the control charts of a cohort, one for each stain and statistic, with slides in the order of the table."""
    charts = []
    for stain in sorted({row.stain for row in rows if row.stain}):
        chosen = tuple(n for n, row in enumerate(rows) if row.stain == stain and row.status in (DONE, INCOMPLETE))
        for one in _CHARTED:
            values = [np.nan if (value := getattr(rows[n], one.column)) is None else value for n in chosen]
            if not np.isnan(values).all():
                title = f"{_STAIN_NAMES.get(stain, stain)}: {one.title}"
                charts.append(StainChart(stain, one.column, title, chosen, control_chart(values, one.finest)))
    return charts


def flag_drift(rows: Sequence[CohortRow], charts: Sequence[StainChart] | None = None) -> list[CohortRow]:
    """Fill the column ``drift`` of each slide with those of its statistics that lie outside their limits.

    Parameters
    ----------
    rows
        Rows of the cohort.
    charts
        Control charts of these rows, if they exist already.
    """
    drifts: dict[int, list[str]] = {}
    for one in stain_charts(rows) if charts is None else charts:
        for place in np.flatnonzero(one.chart.outside).tolist():
            value = f"{one.column} {one.chart.values[place]:.3g}"
            drifts.setdefault(one.rows[place], []).append(
                f"{value} outside {one.chart.low:.3g} to {one.chart.high:.3g}"
            )
    return [replace(row, drift="; ".join(drifts.get(n, ()))) for n, row in enumerate(rows)]


class CohortReport:
    """Writes ``cohort.html`` again and again while a cohort runs.

    Parameters
    ----------
    folder
        Folder of the cohort.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written_s = -_PERIOD_S
        self._pictured: set[str] = set()

    def write(self, rows: Sequence[CohortRow], *, ended: bool = False) -> None:
        """Write the page, unless it was written a moment ago; when the cohort has ended, always write it.

        Raises
        ------
        OutputError
            When page or thumbnails cannot be written.
        """
        if not ended and time.monotonic() - self._written_s < _PERIOD_S:
            return
        charts = stain_charts(rows)
        flagged = flag_drift(rows, charts)
        for row in flagged:
            if row.folder and row.folder not in self._pictured:
                self._picture(row.folder)
        content = cohort_page(self._page(flagged, charts, ended))
        with write_aside(self._folder / PAGE_NAME) as temporary:
            temporary.write_bytes(content)
        self._written_s = time.monotonic()

    def _picture(self, name: str) -> None:
        # The page and the table show the run's own scoring; the top of the slide's folder may hold a later one.
        folder = own_results(RunDir(self._folder / name)).root
        # A row without a thumbnail is still of use, and another command may be rewriting the slide's results now.
        with suppress(OSError):
            if write_thumbnail(folder / Artefact.OVERVIEW.value, folder / THUMBNAIL_NAME):
                self._pictured.add(name)

    def _page(self, rows: Sequence[CohortRow], charts: Sequence[StainChart], ended: bool) -> CohortPage:
        counts = Counter(row.status for row in rows)
        order = sorted(rows, key=lambda row: _FIRST.get(row.status, 2))
        known = [one for one in _CHARTED if any(getattr(row, one.column) is not None for row in rows)]
        slides = [self._shown(row, known) for row in order]
        versions = sorted({row.version for row in rows if row.version} | {package_version()})
        models = Counter(row.model for row in rows if row.model)
        written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        return CohortPage(
            name=self._folder.resolve().name,
            use=RESEARCH_USE,
            counts={status: counts[status] for status in (FAILED, INCOMPLETE, DONE, WAITING)},
            facts=(
                f"written {written}; {'the command has ended' if ended else 'slides were still being worked on'}",
                f"wsipsm {', '.join(versions)}",
                "models: " + (", ".join(f"{name} ({n})" for name, n in sorted(models.items())) or "none yet"),
            ),
            files=(CSV_NAME, PARQUET_NAME, JOURNAL_NAME),
            failed=[slide for slide in slides if slide.status == FAILED],
            slides=slides,
            charts=[PageChart(one.title, one.chart, tuple(rows[n].id for n in one.rows)) for one in charts],
            groupings=_groupings(rows),
        )

    def _shown(self, row: CohortRow, statistics: Sequence[_Statistic]) -> PageSlide:
        return PageSlide(
            id=row.id,
            source=row.slide,
            status=row.status,
            reason=row.reason,
            folder=row.folder,
            thumbnail=f"{Artefact.SCORES}/{OWN}/{THUMBNAIL_NAME}" if row.folder in self._pictured else "",
            index=row.labelling_index,
            spatial=(row.spatial_low, row.spatial_high),
            field_mean=row.field_mean,
            hot_spot=row.hot_spot_index,
            hot_spot_n=row.hot_spot_n,
            n_nuclei=row.n_nuclei,
            nuclei_per_mm2=row.nuclei_per_mm2,
            stains={one.title: getattr(row, one.column) for one in statistics},
            drift=row.drift,
            notes=row.warnings,
            flags=row.flags,
            withheld=row.labelling_index is None and bool(row.n_nuclei) and bool(row.marker),
            marker=row.marker,
            few=bool(row.marker) and 0 < (row.n_nuclei or 0) < marker_of(row.marker).min_nuclei,
            groups={_GROUP: row.group, **row.extra},
        )


def _groupings(rows: Sequence[CohortRow]) -> list[str]:
    """List the columns by which the page can group slides: ``group`` where it is filled, then the manifest's others."""
    named = dict.fromkeys(name for row in rows for name in row.extra)
    return [*([_GROUP] if any(row.group for row in rows) else []), *named]

"""The page of a cohort: one HTML file with nothing from elsewhere but the slides' thumbnails beside it.

Names, reasons and notes come from files and manifests: they are text here and never markup, and the page's own script
is the only one that a browser may run in it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote
from xml.etree.ElementTree import Element

import numpy as np

from wsipsm.export.markup import add, page_bytes
from wsipsm.export.page_charts import draw_control_chart, draw_histogram
from wsipsm.keys import Artefact
from wsipsm.markers.marker import Marker
from wsipsm.markers.registry import DEFAULT_MARKER, marker_of
from wsipsm.scoring.drift import ControlChart

_STYLE = """
:root{color-scheme:light}
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:1500px;padding:0 1rem;color:#1d1d1f}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}nav a{margin-right:1rem}
.use{font-weight:600}.quiet{color:#666}.charts{display:flex;flex-wrap:wrap;gap:1rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}
th{position:sticky;top:0;background:#f5f5f7}th button{all:unset;cursor:pointer}
th button:focus-visible{outline:2px solid}
th[aria-sort=ascending] button::after{content:" \\25B2"}th[aria-sort=descending] button::after{content:" \\25BC"}
td.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.failed{color:#a40000;font-weight:600}.incomplete{color:#8a5a00;font-weight:600}.drift{color:#a40000}
img{max-width:200px;max-height:110px;display:block}
svg{width:720px;max-width:100%;background:#fff;border:1px solid #ddd}svg text{font-size:11px;fill:#333}
.grid{stroke:#eee}.bar{fill:#4a6fa5}.centre{stroke:#333}.limit{stroke:#a40000;stroke-dasharray:5 4}
.line{fill:none;stroke:#9db2d0}.point{stroke:#2c4a7c;stroke-width:5;stroke-linecap:round}.small{stroke-width:3}.outside{fill:#d00000}
"""
_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const number = head.classList.contains("number");
      const compare = (a, b) => number ? Number(a) - Number(b) : a.localeCompare(b, undefined, {numeric: true});
      const body = table.tBodies[0];
      const known = [...body.rows].filter(row => key(row) !== "");
      const unknown = [...body.rows].filter(row => key(row) === "");
      known.sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b)));
      body.append(...known, ...unknown);
    });
  });
}
"""
_INDEX_EDGES = np.arange(0.0, 101.0, 5.0)


@dataclass(frozen=True, slots=True)
class PageSlide:
    """A slide as the page shows it."""

    id: str
    source: str
    status: str
    reason: str
    folder: str
    """Folder of the results, beside the page; empty when there are none."""
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
    """Marker of the index; empty on H&E, and while a slide waits."""


@dataclass(frozen=True, slots=True)
class PageChart:
    """A control chart with its slides."""

    title: str
    chart: ControlChart
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CohortPage:
    """The content of a cohort's page."""

    name: str
    use: str
    """What the results are for."""
    counts: Mapping[str, int]
    """Status to slides, in the order in which they are listed."""
    facts: Sequence[str]
    """Versions, models and time, a line each."""
    files: Sequence[str]
    """Files beside the page."""
    failed: Sequence[PageSlide]
    slides: Sequence[PageSlide]
    """All of them, failed ones first."""
    charts: Sequence[PageChart]


def cohort_page(page: CohortPage) -> bytes:
    """Write a cohort as HTML, UTF-8."""
    root = Element("html", lang="en")
    _add_head(root, page)
    body = add(root, "body")
    _add_top(body, page)
    _add_failures(body, page.failed)
    _add_slides(body, page.slides)
    _add_distributions(body, page.slides)
    _add_charts(body, page.charts)
    add(body, "p", f"{page.use}.", class_="use")
    add(body, "script").text = _SCRIPT
    return page_bytes(root)


def _add_head(root: Element, page: CohortPage) -> None:
    head = add(root, "head")
    add(head, "meta", charset="utf-8")
    add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    own = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"script-src 'sha256-{own}'; connect-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'"
    add(head, "meta", http_equiv="Content-Security-Policy", content=policy)
    add(head, "title", f"Cohort {page.name}")
    add(head, "style").text = _STYLE


def _add_top(body: Element, page: CohortPage) -> None:
    add(add(body, "h1", "Cohort "), "bdi", page.name)
    add(body, "p", f"{page.use}.", class_="use")
    counts = ", ".join(f"{n} {name}" for name, n in page.counts.items())
    add(body, "p", f"{sum(page.counts.values())} slides: {counts}")
    for fact in page.facts:
        add(body, "div", fact, class_="quiet")
    links = add(body, "nav")
    for name, title in (("failed", "Failed"), ("slides", "Slides"), ("values", "Distributions"), ("drift", "Drift")):
        add(links, "a", title, href=f"#{name}")
    for file in page.files:
        add(links, "a", file, href=quote(file))


def _add_failures(body: Element, failed: Sequence[PageSlide]) -> None:
    add(body, "h2", f"Failed ({len(failed)})", id="failed")
    if not failed:
        add(body, "p", "No slide failed.")
        return
    rows = _add_table(body, (("Slide", ""), ("File", ""), ("Why", "")))
    for slide in failed:
        row = add(rows, "tr")
        add(add(row, "td", class_="failed"), "bdi", slide.id)
        add(add(row, "td"), "bdi", slide.source)
        add(row, "td", slide.reason)


def _add_table(body: Element, heads: Sequence[tuple[str, str]], class_: str | None = None) -> Element:
    table = add(body, "table", class_=class_)
    head = add(add(table, "thead"), "tr")
    for title, kind in heads:
        add(head, "th", title, scope="col", class_=kind or None)
    return add(table, "tbody")


def _add_slides(body: Element, slides: Sequence[PageSlide]) -> None:
    add(body, "h2", "Slides", id="slides")
    stains = list(dict.fromkeys(title for slide in slides for title in slide.stains))
    numbers = (
        "Nuclei",
        "Nuclei/mm2",
        _index_title(slides),
        "95 % with clusters",
        "Mean over fields %",
        "Hot spot %",
        *stains,
    )
    heads = [("Picture", ""), ("Slide", ""), ("Status", ""), *((title, "number") for title in numbers), ("Notes", "")]
    counts = (
        "With scripts on, a click on a heading sorts: intervals by their width. What does not exist is empty, never 0."
    )
    add(body, "p", counts, class_="quiet")
    rows = _add_table(body, heads, "sortable")
    for slide in slides:
        _add_slide(add(rows, "tr"), slide, stains)


def _add_slide(row: Element, slide: PageSlide, stains: Sequence[str]) -> None:
    place = add(row, "td")
    if slide.thumbnail:
        place = add(place, "a", href=f"{quote(slide.folder)}/{Artefact.OVERVIEW}")
        picture = f"{quote(slide.folder)}/{quote(slide.thumbnail)}"
        add(place, "img", src=picture, loading="lazy", alt=f"overview of {slide.id}")
    add(add(row, "td"), "bdi", slide.id)
    status = add(row, "td", slide.status, class_=slide.status)
    if slide.reason:
        add(status, "div", slide.reason, class_="quiet")
    _add_number(row, slide.n_nuclei, "{:,}")
    _add_number(row, slide.nuclei_per_mm2, "{:,.0f}")
    if slide.withheld:
        add(row, "td", "withheld", class_="number", data_value="")
    else:
        _add_number(row, slide.index, "{:.1%}")
    low, high = slide.spatial
    interval = "" if low is None or high is None else f"{low:.1%} to {high:.1%}"
    add(row, "td", interval, class_="number", data_value="" if low is None or high is None else f"{high - low:.4g}")
    _add_number(row, slide.field_mean, "{:.1%}")
    of_n = "" if slide.hot_spot_n is None else f" of {slide.hot_spot_n:,}"
    _add_number(row, slide.hot_spot, "{:.1%}" + of_n)
    for title in stains:
        _add_number(row, slide.stains.get(title), "{:.3g}")
    notes = add(row, "td")
    if slide.flags:
        add(notes, "div", slide.flags, class_="drift")
    if slide.drift:
        add(notes, "div", slide.drift, class_="drift")
    if slide.notes:
        folded = add(notes, "details")
        add(folded, "summary", "notes")
        add(folded, "div", slide.notes)


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


def _add_number(row: Element, value: float | None, form: str) -> None:
    shown = ("", "") if value is None else (form.format(value), f"{value:.6g}")
    add(row, "td", shown[0], class_="number", data_value=shown[1])


def _add_distributions(body: Element, slides: Sequence[PageSlide]) -> None:
    add(body, "h2", "Distributions", id="values")
    index = [100 * slide.index for slide in slides if slide.index is not None]
    density = [slide.nuclei_per_mm2 for slide in slides if slide.nuclei_per_mm2 is not None]
    drawn = add(body, "div", class_="charts")
    for values, title, edges in (
        (index, f"{_index_name(slides)}, {_index_title(slides)}", _INDEX_EDGES),
        (density, "nuclei per mm2", None),
    ):
        if values:
            draw_histogram(drawn, values, title, edges)
        else:
            add(drawn, "p", f"{title}: no slide has one yet.")


def _add_charts(body: Element, charts: Sequence[PageChart]) -> None:
    add(body, "h2", "Stain drift", id="drift")
    add(
        body,
        "p",
        "Shewhart charts of individual slides in the order of the cohort: median, and limits three standard deviations "
        "away, estimated from the distance between neighbours. A slide outside was stained or scanned otherwise than "
        "the rest, or is of other tissue: look at it.",
        class_="quiet",
    )
    if not charts:
        add(body, "p", "No slide has results yet.")
    drawn = add(body, "div", class_="charts")
    for one in charts:
        draw_control_chart(drawn, one.chart, one.names, one.title)

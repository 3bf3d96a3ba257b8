"""Pages: text stays text whatever it holds, and charts show every slide."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup

from wsipsm.pages.charts import Chart, control_drawing, histogram
from wsipsm.pages.cohort import CohortPage, PageSlide, cohort_page
from wsipsm.pages.drawing import drawn
from wsipsm.pages.render import plain, render
from wsipsm.scoring.drift import control_chart

SVG = "{http://www.w3.org/2000/svg}"
finite = st.floats(-1e6, 1e6, allow_nan=False)


class Read(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def slide(text: str, **values: object) -> PageSlide:
    given: dict[str, object] = {
        "id": text,
        "source": text,
        "status": "done",
        "reason": text,
        "folder": "a",
        "thumbnail": "b.jpg",
        "index": 0.2,
        "spatial": (0.1, 0.3),
        "field_mean": None,
        "hot_spot": 0.4,
        "hot_spot_n": 500,
        "n_nuclei": 1234,
        "nuclei_per_mm2": 10.0,
        "stains": {text: 0.3},
        "drift": text,
        "notes": text,
        "flags": text,
        "groups": {text: text},
        **values,
    }
    return PageSlide(**given)  # type: ignore[arg-type]


def page_of(*slides: PageSlide, text: str = "x") -> CohortPage:
    return CohortPage(text, text, {"done": len(slides)}, [text], [text], slides, slides, [], [text])


@settings(max_examples=10, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_stays_text(text: str) -> None:
    read, empty = Read(), Read()
    read.feed(cohort_page(page_of(slide(text), text=text)).decode())
    empty.feed(cohort_page(page_of(slide("x"))).decode())
    assert [tag for tag in read.tags if tag != "div"] == [tag for tag in empty.tags if tag != "div"] or not text
    assert str(plain(text)) in read.texts or not text.strip()


def test_a_name_that_is_no_text_is_shown_as_what_it_is() -> None:
    assert b"bad \\xff name" in cohort_page(page_of(slide("bad \udcff name")))


def test_a_value_that_is_missing_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(UndefinedError, match="page"):
        render("cohort")


def bars_of(chart: Chart) -> list[Element]:
    root = fromstring(chart.drawing)
    return [one for one in root.iter(f"{SVG}path") if "var(--bar)" in one.get("style", "")]


@settings(max_examples=8, deadline=None)
@given(st.lists(finite, min_size=1, max_size=80))
def test_histogram_says_how_many_slides_it_shows(values: list[float]) -> None:
    chart = histogram(values, "values", None, "one")
    assert f"{len(values)} slides, median {np.median(values):.4g}" in chart.text
    assert bars_of(chart)


def test_histogram_counts_every_slide_once() -> None:
    chart = histogram([2.0, 2.0, 7.0, 52.0, 99.0], "%", np.arange(0.0, 101.0, 5.0), "one")
    heights = []
    for bar in bars_of(chart):
        ys = [float(y) for _, y in re.findall(r"([-\d.]+) ([-\d.]+)", bar.get("d", ""))]
        heights.append(max(ys) - min(ys))
    filled = [height for height in heights if height > 1]
    assert len(filled) == 4
    assert max(filled) == pytest.approx(2 * min(filled), rel=0.01)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.one_of(finite, st.just(float("nan"))), min_size=1, max_size=60))
def test_control_chart_names_what_is_outside(values: list[float]) -> None:
    chart = control_chart(values)
    names = [f"s{n}" for n in range(len(values))]
    made = control_drawing(chart, names, "OD", "one")
    if chart.centre is None:
        assert f"known of {chart.n_known} slides; a control chart needs at least 8" in made.text
        assert made.drawing == ""
        return
    assert f"{len(made.outside)} of {chart.n_known} slides outside" in made.text
    assert [line.partition(":")[0] for line in made.outside] == [names[n] for n in np.flatnonzero(chart.outside)]
    fromstring(made.drawing)


def test_two_drawings_of_a_page_share_no_identifier_and_take_the_pages_colours() -> None:
    chart = control_chart([1.0, 2.0, 1.5, 1.2, 1.8, 1.1, 1.9, 1.4, 9.0])
    names = [str(n) for n in range(9)]
    found = []
    for name in ("one", "two"):
        root = fromstring(control_drawing(chart, names, "OD", name).drawing)
        found.append({one.get("id") for one in root.iter()} - {None})
        assert root.get("role") == "img"
        assert "#0102" not in control_drawing(chart, names, "OD", name).drawing
        linked = {one.get("href", "#")[1:] for one in root.iter(f"{SVG}use")}
        assert linked
        assert linked <= found[-1]
    assert found[0]
    assert not found[0] & found[1]


def test_a_dollar_sign_in_a_title_is_a_dollar_sign() -> None:
    with drawn(label="x") as (axes, made):
        axes.set_title("a $x$ & <b>")
    assert "a $x$ &amp; &lt;b&gt;" in made[0]
    assert isinstance(made[0], Markup)


@pytest.mark.parametrize(("nuclei", "few"), [(100, True), (5000, False)])
def test_a_slide_with_few_nuclei_is_marked(nuclei: int, few: bool) -> None:
    page = cohort_page(page_of(slide("a", n_nuclei=nuclei, few=few))).decode()
    assert (">few<" in page) is few

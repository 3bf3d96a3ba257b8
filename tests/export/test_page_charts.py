"""Pages: text stays text whatever it holds, and charts show every slide inside their frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsipsm.export.markup import add, page_bytes, plain
from wsipsm.export.page_charts import Axis, draw_control_chart, draw_histogram
from wsipsm.scoring.drift import control_chart

finite = st.floats(-1e6, 1e6, allow_nan=False)


class Read(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""
        self.told: str | None = None

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.told = dict(attrs).get("title", self.told)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\t")))
def test_any_text_stays_text(text: str) -> None:
    root = Element("html")
    add(root, "p", text, title=text)
    read = Read()
    read.feed(page_bytes(root).decode().removeprefix("<!DOCTYPE html>\n").rstrip("\n"))
    read.close()
    assert (read.tags, read.text, read.told) == (["html", "p"], plain(text), plain(text))


def test_a_name_that_is_no_text_is_shown_as_what_it_is() -> None:
    root = Element("html")
    add(root, "p", "bad \udcff name")
    assert b"bad \\xff name" in page_bytes(root)


@given(st.lists(finite, min_size=1, max_size=80))
def test_histogram_counts_every_slide_once(values: list[float]) -> None:
    root = Element("div")
    draw_histogram(root, values, "values", None)
    bars = root.findall(".//rect")
    assert sum(int(bar.findtext("title", "").rpartition(": ")[2]) for bar in bars) == len(values)
    for bar in bars:
        x, y, width, height = (float(bar.get(name, "nan")) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= 720
        assert 0 <= y <= y + height <= 180


@given(st.lists(st.one_of(finite, st.just(float("nan"))), min_size=1, max_size=60))
def test_control_chart_shows_what_is_known_and_marks_what_is_outside(values: list[float]) -> None:
    root, chart = Element("div"), control_chart(values)
    names = [f"s{n}" for n in range(len(values))]
    draw_control_chart(root, chart, names, "OD")
    if chart.centre is None:
        assert f"known of {chart.n_known} slides; a control chart needs at least 8" in (root.findtext("p") or "")
        assert root.find("svg") is None
        return
    path = next(one for one in root.iter("path") if str(one.get("class")).startswith("point"))
    places = re.findall(r"M([-\d.]+) ([-\d.]+)h0", path.get("d", ""))
    assert len(places) == chart.n_known
    assert all(0 <= float(x) <= 720 and 0 <= float(y) <= 180 for x, y in places)
    marked = [mark.findtext("title", "").partition(":")[0] for mark in root.iter("circle")]
    assert marked == [names[n] for n in np.flatnonzero(chart.outside)]


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 100, 10, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
        (0.28, 0.42, 4, [0.3, 0.35, 0.4]),
        (-3, 3, 4, [-2, 0, 2]),
        (5, 5, 4, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert Axis(low, high, 0, 100).ticks(most) == pytest.approx(ticks)

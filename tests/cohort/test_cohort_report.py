"""The page of a cohort: what stands on it, that names stay text, and what its table holds."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import pyarrow.parquet as pq
import pytest
from stand_in import MPP, draw_slide

from wsipsm.cohort import page as cohort_report
from wsipsm.cohort.page import CohortReport, flag_drift
from wsipsm.cohort.run import CohortOptions, run_cohort
from wsipsm.cohort.table import COLUMNS, CSV_NAME, PAGE_NAME, PARQUET_NAME, CohortRow, write_table
from wsipsm.config import RunOptions
from wsipsm.events import Event, SlideDone, ignore_events
from wsipsm.export.thumbnail import THUMBNAIL_NAME, write_thumbnail

HOSTILE = "<script>alert(1)</script>"
DOCS = Path(__file__).parents[2] / "docs"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page; every element must be closed, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[str] = []
        self.heads: list[str] = []
        self.feed(path.read_bytes().decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open and data.strip():
            self.texts.append(data)
            if self.open[-1] == "h2":
                self.heads.append(data)
            if "tr" in self.open:
                self.rows[-1] += f"{data}|"

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("slides")
    draw_slide(root / "a.png", 700, 700, seed=1)
    draw_slide(root / "b.png", 300, 300, seed=2)
    (root / "broken.svs").write_bytes(b"no slide")
    manifest = root / "cohort.csv"
    with open(manifest, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "id", "group", "site"])
        writer.writerow(["a.png", HOSTILE, '"><img src=x onerror=alert(2)>', "A&B"])
        writer.writerow(["b.png", "b", "\x1b[31m", "x"])
        writer.writerow(["broken.svs", "broken<b>", "", "x"])
    return manifest


@pytest.fixture
def out(cohort: Path, tmp_path: Path, stand_in: None) -> Path:
    run_cohort(
        [cohort], tmp_path / "out", RunOptions(mpp=MPP, workers=0), ignore_events, CohortOptions(retry=0, skip_bad=True)
    )
    return tmp_path / "out"


def test_a_cohort_has_a_page(out: Path) -> None:
    page = Page(out / PAGE_NAME)
    text = page.text
    assert page.heads == ["Failed (1)", "Slides", "Distributions", "Stain drift"]
    assert "3 slides: 1 failed, 0 incomplete, 2 done, 0 waiting" in text
    assert text.count("Research use, not for diagnosis.") == 2
    assert "skipped" not in text
    assert "a control chart needs at least 8" in text
    listed, table = page.rows[1:2], page.rows[3:]
    assert "broken_b_" in listed[0]
    assert "broken_b_" in table[0]
    assert "|failed|" in table[0]
    assert len(table) == 3
    assert "wsipsm " in text
    assert "stand-in (2)" in text


def test_names_are_text_and_nothing_is_loaded_from_elsewhere(out: Path) -> None:
    page = Page(out / PAGE_NAME)
    assert len(page.scripts) == 1
    raw = (out / PAGE_NAME).read_text()
    assert HOSTILE not in raw
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [link for link in page.links if re.match(r"[a-z]+:|//|\.\.|/", link, re.IGNORECASE)]
    assert "script-src 'sha256-" in unescape(raw)


def test_rows_with_markup_in_every_text_stay_text(tmp_path: Path) -> None:
    texts = {column.name: HOSTILE for column in fields(CohortRow) if column.type == "str"}
    rows = [
        CohortRow(**{**texts, "status": status, "stain": stain}, labelling_index=0.1, nuclei_per_mm2=3.0)
        for status in ("failed", "done")
        for stain in ("ihc", HOSTILE)
    ]
    rows = [replace(row, hematoxylin_od=0.1 * n) for row in rows for n in range(9)]
    for ended in (False, True):
        CohortReport(tmp_path).write(rows, ended=ended)
        page = Page(tmp_path / PAGE_NAME)
        assert len(page.scripts) == 1
        assert HOSTILE not in (tmp_path / PAGE_NAME).read_text()
        assert HOSTILE in page.text


def test_thumbnails_are_small_pictures_that_the_page_links(out: Path) -> None:
    page = Page(out / PAGE_NAME)
    pictures = [link for link in page.links if link.endswith(THUMBNAIL_NAME)]
    assert len(pictures) == 2
    for link in pictures:
        file = out / unquote(link)
        assert file.stat().st_size < 20_000
        picture = cv2.imread(str(file))
        assert picture is not None
        assert picture.shape[0] <= 150
        assert picture.shape[1] <= 260
        assert picture.std() > 5


def test_thumbnail_follows_its_overview(out: Path, tmp_path: Path) -> None:
    overview, small = out / "b" / "overview.png", tmp_path / "small.jpg"
    assert write_thumbnail(overview, small)
    before = small.stat().st_mtime_ns
    assert write_thumbnail(overview, small)
    assert small.stat().st_mtime_ns == before
    # Two writes within a tick of the file system's clock have one time.
    older = overview.stat().st_mtime_ns - 10**9
    os.utime(small, ns=(older, older))
    assert write_thumbnail(overview, small)
    assert small.stat().st_mtime_ns > older
    overview.write_bytes(b"no picture")
    assert not write_thumbnail(overview, tmp_path / "other.jpg")
    assert not write_thumbnail(tmp_path / "absent.png", tmp_path / "other.jpg")
    assert not (tmp_path / "other.jpg").exists()


@pytest.mark.usefixtures("stand_in")
def test_page_is_there_while_slides_are_done(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort_report, "_PERIOD_S", 0.0)
    monkeypatch.setattr("wsipsm.cohort.run._TABLE_PERIOD_S", 0.0)
    seen = []

    def look(event: Event) -> None:
        if isinstance(event, SlideDone):
            seen.append(Page(tmp_path / "out" / PAGE_NAME).text)

    how = CohortOptions(retry=0, skip_bad=True)
    run_cohort([cohort], tmp_path / "out", RunOptions(mpp=MPP, workers=0), look, how)
    assert "1 failed, 0 incomplete, 0 done, 2 waiting" in seen[0]
    assert "1 failed, 0 incomplete, 1 done, 1 waiting" in seen[1]
    assert "still being worked on" in seen[1]
    assert "the command has ended" in Page(tmp_path / "out" / PAGE_NAME).text


def test_page_is_not_written_again_at_once(tmp_path: Path) -> None:
    report = CohortReport(tmp_path)
    report.write([CohortRow("a", "a.svs")])
    first = (tmp_path / PAGE_NAME).read_bytes()
    report.write([CohortRow("a", "a.svs", status="failed", reason="gone")])
    assert (tmp_path / PAGE_NAME).read_bytes() == first
    report.write([CohortRow("a", "a.svs", status="failed", reason="gone")], ended=True)
    assert "gone" in Page(tmp_path / PAGE_NAME).text


def stained(n: int, **odd: Any) -> list[CohortRow]:
    rows = [
        CohortRow(
            f"s{i}", f"s{i}.svs", status="done", stain="ihc", hematoxylin_od=0.3 + 0.01 * (i % 3), labelling_index=0.2
        )
        for i in range(n)
    ]
    rows[3] = replace(rows[3], **odd)
    return rows


def test_a_slide_stained_otherwise_is_flagged_in_table_and_page(tmp_path: Path) -> None:
    rows = flag_drift(stained(12, hematoxylin_od=0.9))
    assert [row.id for row in rows if row.drift] == ["s3"]
    assert rows[3].drift.startswith("hematoxylin_od 0.9 outside ")
    CohortReport(tmp_path).write(rows, ended=True)
    page = Page(tmp_path / PAGE_NAME)
    assert "s3: 0.9" in page.text
    assert ("class", "flag") in page.attributes
    assert "1 of 12 slides outside" in (tmp_path / PAGE_NAME).read_text()


def test_too_few_slides_of_a_stain_are_not_judged_by_those_of_another() -> None:
    rows = stained(12, hematoxylin_od=0.9, stain="he")
    assert not any(row.drift for row in flag_drift(rows))
    assert not any(row.drift for row in flag_drift(stained(7, hematoxylin_od=0.9)))


def test_columns_that_a_run_fills(out: Path) -> None:
    table = pq.read_table(out / PARQUET_NAME)
    assert table.schema.names == [*COLUMNS, "site"]
    assert all(table.schema.field(name).type == kind for name, kind in COLUMNS.items())
    large, small, broken = table.to_pylist()
    assert large["spatial_low"] <= large["low"] < large["labelling_index"] < large["high"] <= large["spatial_high"]
    assert large["n_fields"] >= 1
    assert 0 < large["field_mean"] < 1
    assert 0 < large["field_mean_by_area"] < 1
    assert 0 <= large["share_near_cut"] <= 1
    assert large["dab_od_negative"] < large["dab_cut_od"] < large["dab_od_positive"]
    assert large["dab_cut_from"]
    assert 200 < large["background_level"] <= 255
    assert large["hematoxylin_od"] > 0
    # A hundred nuclei are no hot spot, and nothing is known of what was not read.
    assert (small["hot_spot_index"], small["hot_spot_n"], small["hot_spot_low"]) == (None, None, None)
    empty = [name for name in COLUMNS if broken[name] not in (None, "")]
    assert empty == ["id", "slide", "status", "reason", "attempts"]
    with open(out / CSV_NAME, newline="") as file:
        told = list(csv.DictReader(file))
    for name in ("spatial_low", "field_mean", "dab_cut_od", "hematoxylin_od"):
        assert float(told[0][name]) == pytest.approx(large[name], rel=1e-5)
        assert told[2][name] == ""


def test_every_column_is_written_with_its_own_type(tmp_path: Path) -> None:
    values: dict[str, Any] = {"str": "text", "int": 3, "int | None": 7, "float | None": 0.125}
    full = CohortRow(
        **{column.name: values[str(column.type)] for column in fields(CohortRow) if column.name != "extra"}
    )
    write_table(tmp_path, [full, CohortRow("b", "b.svs")])
    first, second = pq.read_table(tmp_path / PARQUET_NAME).to_pylist()
    assert first == {name: getattr(full, name) for name in COLUMNS}
    assert second["hot_spot_n"] is None


def test_documentation_names_exactly_the_columns_in_order() -> None:
    lines = (DOCS / "cohort-table.md").read_text().splitlines()
    named = [match[1] for line in lines if (match := re.match(r"\| `(\w+)` \|", line))]
    assert named == list(COLUMNS)
    assert "cohort-table.md" in (DOCS / "usage.md").read_text()

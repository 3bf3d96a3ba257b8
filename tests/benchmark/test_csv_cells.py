"""Tables that a spreadsheet opens: nothing in them is a formula, numbers stay numbers, nothing steers a terminal."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsipsm.benchmark.table import csv_text
from wsipsm.cohort.table import CohortRow, write_table
from wsipsm.text import cell_text

STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\ufe66")
BLANKS = ("", " ", "   ", "\u00a0", "\u3000", "\u2003 ")


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("blank", BLANKS)
def test_formulas_become_text_also_after_blanks_and_in_full_width(start: str, blank: str) -> None:
    text = f"{blank}{start}cmd|' /C calc'!A0"

    assert cell_text(text) == f"'{text}"
    assert cell_text(cell_text(text)) == f"'{text}"


@pytest.mark.parametrize("text", ["\t=1+1", "\r=1+1", "\n=1+1", "\ufeff=1+1", "\u200b=1+1", "\x00=1+1", " \t@SUM(A1)"])
def test_what_cannot_be_seen_before_a_formula_is_shown(text: str) -> None:
    assert cell_text(text).lstrip().startswith("\\")


@pytest.mark.parametrize(
    "text", ["-1", "+1", "-0.25", "+1,5", "-.5", "1e-5", "-1E+10", " -3 ", "051", "a=b", "x@y", ""]
)
def test_numbers_and_ordinary_text_stay(text: str) -> None:
    assert cell_text(text) == text


@pytest.mark.parametrize("text", ["-1-1", "+1+cmd", "-inf", "-1_0", "+49 30 1234", "--1", "-\uff11"])
def test_what_only_looks_like_a_number_is_text(text: str) -> None:
    assert cell_text(text) == f"'{text}"


@given(st.text(st.characters(exclude_categories=())))
def test_no_cell_is_a_formula(text: str) -> None:
    cell = cell_text(text).lstrip()

    assert not cell.startswith(STARTS) or float(cell.replace(",", ".")) is not None
    assert cell_text(cell_text(text)) == cell_text(text)
    cell.encode()


def test_the_table_of_a_cohort(tmp_path: Path) -> None:
    extra = {" =HYPERLINK(1)": "\x1b[2J", "@age": "-3", "note": " +SUM(A1)"}
    row = CohortRow("a", "=a.svs", group="-1", reason="\ud800", labelling_index=-0.5, extra=extra)

    write_table(tmp_path, [row])

    with (tmp_path / "cohort.csv").open(newline="", encoding="utf-8") as file:
        head, cells = csv.reader(file)
    found = dict(zip(head, cells, strict=True))
    assert head[-3:] == ["' =HYPERLINK(1)", "'@age", "note"]
    assert cells[-3:] == [r"\x1b[2J", "-3", "' +SUM(A1)"]
    assert [found[name] for name in ("slide", "group", "reason", "labelling_index")] == [
        "'=a.svs",
        "-1",
        r"\ud800",
        "-0.5",
    ]
    table = pq.read_table(tmp_path / "cohort.parquet").to_pylist()[0]
    assert [table[name] for name in (" =HYPERLINK(1)", "@age", "note", "slide")] == [
        r"\x1b[2J",
        "-3",
        " +SUM(A1)",
        "=a.svs",
    ]


def test_the_table_of_a_benchmark() -> None:
    assert csv_text([{"image": "=1", "score": -0.5}, {"-x": 2}]) == "image,score,'-x\n'=1,-0.5,\n,,2\n"

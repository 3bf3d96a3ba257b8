"""Manifests as they come: what is read, and what is refused before any of it is used."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.cohort.discover import read_cohort
from wsipsm.cohort.manifest import MAX_COLUMNS, OWN_COLUMNS, read_manifest
from wsipsm.errors import UsageError


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "cohort.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_other_columns_are_carried_unchanged_and_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "Zeta,SLIDE,Group,age,patient,note\r\n"
        '=HYPERLINK("http://x"),a.svs, tumour ,051,p1," two\r\nlines, and a comma "\r\n'
        "@SUM(A1),b.svs,,-3,,+1\r\n",
    )
    first, second = read_manifest(path)
    assert (first.slide, first.group, first.patient, first.line) == ("a.svs", "tumour", "p1", 2)
    assert first.extra == (
        ("Zeta", '=HYPERLINK("http://x")'),
        ("age", "051"),
        ("note", " two\r\nlines, and a comma "),
    )
    assert (second.line, second.extra) == (4, (("Zeta", "@SUM(A1)"), ("age", "-3"), ("note", "+1")))


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
NAME = st.text("abcdefgh", min_size=1, max_size=8).filter(lambda name: name not in OWN_COLUMNS)


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAME, unique=True, max_size=4), rows=st.lists(st.lists(TEXT, min_size=4, max_size=4), max_size=5))
def test_what_a_csv_writer_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], rows: list[list[str]]
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["slide", *names])
    writer.writerows([f"{n}.svs", *cells[: len(names)]] for n, cells in enumerate(rows))
    found = read_manifest(write(tmp_path_factory.mktemp("csv"), text.getvalue()))
    assert [row.slide for row in found] == [f"{n}.svs" for n in range(len(rows))]
    assert [row.extra for row in found] == [tuple(zip(names, cells, strict=False)) for cells in rows]


@settings(max_examples=80, deadline=None)
@given(content=st.binary(max_size=80))
def test_whatever_the_bytes_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.mktemp("csv"), b"slide,x\n" + content)
    try:
        rows = read_manifest(path)
    except UsageError as error:
        told = str(error)
    else:
        assert all(row.slide.strip() and len(row.extra) == 1 for row in rows)
        return
    assert told.startswith(str(path))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_of_spreadsheets(tmp_path: Path, separator: str, end: str) -> None:
    lines = [separator.join(cells) for cells in (["slide", "x"], ["a.svs", "1"], ["b.svs"], ["", ""])]
    found = read_manifest(write(tmp_path, "\ufeff" + end.join(lines) + end))
    assert [(row.slide, row.extra) for row in found] == [("a.svs", (("x", "1"),)), ("b.svs", (("x", ""),))]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"slide\na\0.svs\n", "line 2: a NUL byte"),
        ("slide\nä.svs\n".encode("latin-1"), "line 2: byte 0xe4 is no UTF-8"),
        ("slide\na.svs\n".encode("utf-16"), "UTF-16"),
        (b"slide,x\na.svs," + b"y" * 200_000 + b"\n", "line 2: no valid CSV"),
        (b'slide,x\na.svs,1\nb.svs,"never closed\nc.svs,2\n', "line 3: no valid CSV"),
        (b"slide,age,Age\n", "more than one column is called 'Age'"),
        (b"slide,Slide\n", "more than one column is called 'slide'"),
        (b"slide,x\na.svs,1,2\nb.svs,1,2,3\n", "line 2: 3 cells under 2 columns, line 3: 4 cells"),
        (b"slide,id\n,case-1\n", "line 2: no slide"),
        (b"slide,,x\na.svs,lost,1\n", "line 2: 'lost' stands in a column without a name"),
        (b"slide,Status\na.svs,1\n", "column 'Status' is also a column of the results"),
        (b"slide" + b",x" * MAX_COLUMNS, f"{MAX_COLUMNS + 1} columns"),
    ],
)
def test_what_cannot_be_trusted_is_refused_by_line(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_manifest(write(tmp_path, content), table_columns=("status", "n_nuclei", "slide", "id"))


def test_empty_columns_at_the_end_are_left_out(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, "slide,x,,\na.svs,1,,\n"))[0].extra == (("x", "1"),)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "absent.csv"):
        with pytest.raises(UsageError, match=str(path)):
            read_manifest(path)


def read_rows(folder: Path, n_rows: int) -> float:
    """Read a manifest of so many rows; gives the processor time in seconds."""
    rows = "".join(f"slides/{n % 700}/case-{n}.svs,c{n},0.25,tumour,p{n // 2},{n},text\n" for n in range(n_rows))
    path = write(folder, "slide,id,mpp,group,patient,age,site\n" + rows)
    start = time.process_time()
    cohort = read_cohort([path], folder / "out")
    seconds = time.process_time() - start
    assert (len(cohort.slides), cohort.problems) == (n_rows, ())
    assert cohort.extra_columns == ("age", "site")
    return seconds


@pytest.mark.parametrize("n_rows", [4_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_the_time_for_a_manifest_grows_as_its_rows(tmp_path: Path, n_rows: int) -> None:
    # Time that grew with the square of the rows would be 25 times as long.
    assert read_rows(tmp_path, 5 * n_rows) < 10 * min(read_rows(tmp_path, n_rows) for _ in range(2))


@pytest.mark.parametrize("mark", [";", ",", "\t", "|"])
@pytest.mark.parametrize("first", ["sep={}", "SEP={}", '"sep={}"', "\ufeffsep={}", "sep={};;"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_first_line_that_declares_the_separator_is_no_header(tmp_path: Path, mark: str, first: str, end: str) -> None:
    lines = [first.format(mark), mark.join(("slide", "mpp", "note")), mark.join(("a.svs", "0.25", '"x,y;z"'))]
    rows = read_manifest(write(tmp_path, end.join([*lines, ""])))

    assert [(row.line, row.slide, row.mpp, row.extra) for row in rows] == [(3, "a.svs", "0.25", (("note", "x,y;z"),))]


def test_lines_are_counted_from_the_declaring_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 3: no slide"):
        read_manifest(write(tmp_path, "sep=;\nslide;id\n;case-1\n"))
    with pytest.raises(UsageError, match="columns sepal"):
        read_manifest(write(tmp_path, "sepal;id\n1;case-1\n"))

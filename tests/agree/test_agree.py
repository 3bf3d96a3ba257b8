"""Comparing two tables: what is joined, what is refused and in which words, what is left on the disk."""

from __future__ import annotations

import csv
import re
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsipsm.agree.compare import AgreementOptions, compare_tables
from wsipsm.agree.reader_table import Source, Unit, join_tables, read_table
from wsipsm.cohort.table import CohortRow, write_table
from wsipsm.errors import OutputError, UsageError

INDICES = {"a": 0.031, "b": 0.12, "c": 0.25, "d": 0.48}
REFERENCE = "slide,index\na,4\nb,10\nc,27\nd,40\n"


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Table as ``wsipsm cohort`` writes it."""
    path = tmp_path / "results" / "cohort.csv"
    path.parent.mkdir()
    rows = [
        CohortRow(name, f"/slides/{name}.svs", status="done", labelling_index=value) for name, value in INDICES.items()
    ]
    rows += [CohortRow("lost", "/slides/lost.svs", status="failed", reason="no reader opens it")]
    write_table(path.parent, rows)
    return path


def table(folder: Path, text: str | bytes, name: str = "ref.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(reference: Path, cohort: Path, **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        compare_tables(reference, cohort, reference.parent / "out", AgreementOptions(**options))  # type: ignore[arg-type]
    assert not (reference.parent / "out").exists()
    return str(caught.value)


def test_report_table_and_plot(tmp_path: Path, cohort: Path) -> None:
    reference = table(tmp_path, REFERENCE + "lost,33\nnowhere,12\n")
    summary = compare_tables(reference, cohort, tmp_path / "out")
    assert summary.n_slides == 4
    assert summary.limits.bias.value == pytest.approx((-0.9 + 2 - 2 + 8) / 4)
    assert summary.reference.only_here == ("nowhere",)
    assert summary.cohort.without_value == (("lost", "failed: no reader opens it"),)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"agreement.md", "agreement.csv", "bland_altman.png"}
    with open(tmp_path / "out" / "agreement.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["slide"] for row in rows] == list(INDICES)
    assert (rows[3]["reference_percent"], rows[3]["cohort_percent"], rows[3]["difference"]) == ("40", "48", "8")
    assert rows[3]["reference_band"] == rows[3]["cohort_band"] == "30 % or more"
    told = (tmp_path / "out" / "agreement.md").read_text(encoding="utf-8")
    assert "nowhere" in told
    assert "lost (failed: no reader opens it)" in told
    assert (
        "| bias (cohort - reference) | +1.77 points |" in told or "| bias (cohort - reference) | +1.78 points |" in told
    )
    assert summary.icc.value > 0.9


@pytest.mark.parametrize(
    "names",
    [
        "a b c d",
        "A B C D",
        "a.svs b.svs c.svs d.svs",
        "/slides/a.svs /slides/b.svs /slides/c.svs /slides/d.svs",
        r"Z:\scans\a.svs Z:\scans\b.svs Z:\scans\c.svs Z:\scans\d.svs",
    ],
)
def test_slides_are_known_by_id_path_or_file_name(tmp_path: Path, cohort: Path, names: str) -> None:
    text = "slide,index\n" + "".join(f"{name},{10 + i}\n" for i, name in enumerate(names.split()))
    reference = read_table(Source(table(tmp_path, text)))
    pairs, *_ = join_tables(reference, read_table(Source(cohort, unit=Unit.FRACTION)))
    assert [(first.line, second.name) for first, second in pairs] == [(2, "a"), (3, "b"), (4, "c"), (5, "d")]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfSlide;Ki67\r\na;4,0\r\nb;10,5\r\nc;27\r\nd;40,25\r\n",
        "slide\tKi-67 (%)\na\t4\nb\t10,5\nc\t27\nd\t40.25\n",
        'patient, slide , Labelling Index,slide area\n1,a,4,9\n\n1,b,"10,5",9\n2,c,27,9\n2,d,40.25,9\n',
        "id,labeling_index\na,4\nb,10.5\nc,2.7e1\nd,40.25\n",
        "id,slide,index\n4,a,4\n3,b,10.5\n2,c,27\n1,d,40.25\n",
    ],
    ids=["spreadsheet of continental Europe", "tabulators", "quotes and blanks", "id", "id is a line's number"],
)
def test_tables_as_people_save_them(tmp_path: Path, cohort: Path, text: str | bytes) -> None:
    summary = compare_tables(table(tmp_path, text), cohort, tmp_path / "out")
    assert (summary.n_slides, summary.reference.unit) == (4, "percent")
    assert summary.limits.bias.value == pytest.approx((-0.9 + 1.5 - 2 + 7.75) / 4)


def test_counts_of_positive_and_negative_nuclei_make_an_index(tmp_path: Path, cohort: Path) -> None:
    reference = table(tmp_path, "slide,n_positive,n_negative\na,4,96\nb,10,90\nc,27,73\nd,40,60\n")
    assert compare_tables(reference, cohort, tmp_path / "out").limits.bias.value == pytest.approx(1.775)


def test_fractions_and_counts_by_option(tmp_path: Path, cohort: Path) -> None:
    reference = table(tmp_path, "slide,index,cells\na,0.04,100\nb,0.1,240\nc,0.27,90\nd,0.4,310\n")
    assert compare_tables(
        reference, cohort, tmp_path / "out", AgreementOptions(unit=Unit.FRACTION)
    ).limits.bias.value == pytest.approx(1.775)
    counts = AgreementOptions(ref_column="cells", column="cells", unit=Unit.COUNT)
    ours = table(tmp_path, "slide,cells\na,110\nb,230\nc,95\nd,300\n", "ours.csv")
    summary = compare_tables(reference, ours, tmp_path / "out", counts)
    assert (summary.limits.bias.value, summary.bands, summary.unit) == (pytest.approx(-1.25), (), "count")
    assert "kappa" not in (tmp_path / "out" / "agreement.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "the file is empty"),
        (b"\n \n", "the file is empty"),
        ("slide,index\n", "a header and no slides"),
        ("case,index\na,4\n", "columns case, index; a column 'slide' or 'id' is needed"),
        ("slide,score\na,4\n", "it has score.*--ref-column"),
        ("slide,index,ki67\na,4,5\n", "ki67 and index may both be the index.*--ref-column"),
        ("slide,index,Index\na,4,5\n", "column 'index' occurs twice"),
        ("slide,index\na,4\nb,about 10\n", "line 3: 'about 10' in column 'index' is no number"),
        ("slide,index\na,4,5\nb,10,5\n", "line 2: 3 values under 2 columns.*Decimal commas"),
        ("slide,index\na,4\nb,-10\n", "line 3: '-10'.*start at 0"),
        ("slide,index\na,4\nb,1e999\n", "line 3: '1e999'"),
        ("slide,index\na,4\nb,inf\n", "line 3: 'inf' in column 'index' is no number"),
        ("slide,index\na,40\nb,101\nc,20\n", "line 3: 101 in column 'index'; an index as percent lies from 0 to 100"),
        ("slide,index\na,0.04\nb,0.1\nc,0.27\n", "from 0.04 to 0.27, which may be.*--unit fraction or --unit percent"),
        ("slide,index\na,0.04\nb,0.1\nc,0.2\nd,40\n", "may be fractions or percent"),
        ("slide,index\na,\nb,NaN\nc,n/a\n", "column 'index' is empty on all 3 lines"),
        ("slide,index\na,4\n,5\nc,6\n", "line 3: no slide named"),
        ("slide,index\na,4\nb,5\nA,6\n", "lines 2 and 4 both name slide 'A'"),
        ("slide,index\na,4\nb,5\na.svs,6\n", "lines 2 and 4 both mean 'a'"),
        (
            "slide,index\na,4\nb,5\nx,6\n",
            "2 slides have a value in both; at least 3.*first only: x; .*second only: c, d",
        ),
        ("slide,index\na,4\nb,5\nc,\n", "2 slides have a value in both.*without a value: c"),
        ("slide,index\na,12\nb,12\nc,12\nd,12\n", "column 'index' is 12 % on all 4 common slides"),
        ("slide,index\na,\xe4\n".encode("latin-1"), r"not UTF-8 \(byte 14\)"),
        (b"PK\x03\x04\xff\xfe" + bytes(range(200, 256)), "a spreadsheet.*CSV UTF-8"),
        ("slide,n_positive,n_negative\na,1 000,4\n", "'1 000' in column 'n_positive' is no number"),
        ("slide;n_positive;n_negative\na;1,000;4\n", "may be thousands or a decimal comma"),
    ],
)
def test_careless_tables_get_a_clear_line(tmp_path: Path, cohort: Path, text: str | bytes, told: str) -> None:
    message = refusal(table(tmp_path, text), cohort)
    assert "ref.csv" in message
    assert re.search(told, message), message


def test_options_that_do_not_fit_the_tables(tmp_path: Path, cohort: Path) -> None:
    reference = table(tmp_path, REFERENCE)
    assert "no column 'score'; it has index. Name one of them with --ref-column" in refusal(
        reference, cohort, ref_column="score"
    )
    assert "n_nuclei" in refusal(reference, cohort, column="nuclei")
    assert "--unit count without a column" in refusal(reference, cohort, unit=Unit.COUNT)
    assert "line 2: 4 in column 'index'; an index as fraction" in refusal(reference, cohort, unit=Unit.FRACTION)
    percent = table(tmp_path, "id,slide,status,labelling_index\na,a,done,3\nb,b,done,12\n", "cohort.csv")
    assert "pass --cohort-unit percent" in refusal(reference, percent)
    assert "--cohort-unit" in refusal(reference, cohort, unit=Unit.COUNT, cohort_unit=Unit.PERCENT)
    assert "column 'n_nuclei' is empty on all" in refusal(reference, cohort, column="n_nuclei")
    assert "no such file" in refusal(tmp_path / "nowhere.csv", cohort)


def test_fractions_called_percent_are_doubted(tmp_path: Path, cohort: Path) -> None:
    reference = table(tmp_path, "slide,index\na,0.04\nb,0.1\nc,0.27\nd,0.4\n")
    summary = compare_tables(reference, cohort, tmp_path / "out", AgreementOptions(unit=Unit.PERCENT))
    assert "no value above 1 %" in summary.notes[0]
    assert "To be checked" in (tmp_path / "out" / "agreement.md").read_text(encoding="utf-8")


def test_a_file_name_of_two_slides_is_not_guessed(tmp_path: Path) -> None:
    rows = [CohortRow(f"a-{i}", f"/{i}/a.svs", status="done", labelling_index=0.1 * i) for i in range(1, 4)]
    write_table(tmp_path, rows)
    message = refusal(table(tmp_path, REFERENCE), tmp_path / "cohort.csv")
    assert "'a' may be a-1, a-2, a-3" in message
    # Ids and paths are sure.
    reference = table(tmp_path, "slide,index\na-1,10\n/2/a.svs,20\na-3,30\n")
    assert compare_tables(reference, tmp_path / "cohort.csv", tmp_path / "out").n_slides == 3


def test_slides_scored_in_part_are_told(tmp_path: Path) -> None:
    rows = [CohortRow(name, name, status="done", labelling_index=value) for name, value in INDICES.items()]
    rows[1] = CohortRow("b", "b", status="incomplete", reason="2 parts could not be read", labelling_index=0.12)
    write_table(tmp_path, rows)
    summary = compare_tables(table(tmp_path, REFERENCE), tmp_path / "cohort.csv", tmp_path / "out")
    assert summary.notes == ("scored in part only (1): b",)


def test_inputs_are_not_replaced(tmp_path: Path, cohort: Path) -> None:
    reference = table(tmp_path, REFERENCE, "agreement.csv")
    with pytest.raises(UsageError, match="would be replaced"):
        compare_tables(reference, cohort, tmp_path)
    assert reference.read_text() == REFERENCE


def test_a_folder_that_cannot_be_made(tmp_path: Path, cohort: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="--out"):
        compare_tables(table(tmp_path, REFERENCE), cohort, tmp_path / "out")


def test_a_missing_extra_is_named(tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wsipsm.metrics

    monkeypatch.setitem(sys.modules, "pingouin", None)
    monkeypatch.delitem(sys.modules, "wsipsm.metrics.agreement", raising=False)
    monkeypatch.delattr(wsipsm.metrics, "agreement", raising=False)
    assert "pip install 'wsipsm[agree]'" in refusal(table(tmp_path, REFERENCE), cohort)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120) | st.text(max_size=120).map(lambda text: ("slide,index\n" + text).encode()))
def test_whatever_a_file_holds_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = table(tmp_path_factory.getbasetemp(), data, "any.csv")
    with suppress(UsageError):
        read = read_table(Source(path))
        assert all(reading.value is None or 0 <= reading.value <= 100 for reading in read.readings)


@pytest.mark.parametrize("mark", [";", ",", "\t"])
def test_a_first_line_that_declares_the_separator_is_no_header(tmp_path: Path, mark: str) -> None:
    text = f"sep={mark}\n" + REFERENCE.replace(",", mark)
    read = read_table(Source(table(tmp_path, text), unit=Unit.PERCENT))

    assert [(reading.line, reading.slide) for reading in read.readings] == [(3, "a"), (4, "b"), (5, "c"), (6, "d")]


def cohort_of(folder: Path, markers: list[str]) -> Path:
    rows = [
        CohortRow(name, f"{name}.svs", status="done", labelling_index=value, marker=marker)
        for (name, value), marker in zip(INDICES.items(), markers, strict=True)
    ]
    write_table(folder, rows)
    return folder / "cohort.csv"


@pytest.mark.parametrize(
    ("markers", "bands", "note"),
    [
        (["Ki-67"] * 4, ["International Ki67 Working Group", "20 % cut"], ""),
        (["Ki-67", "mib1", "", "ki67"], ["International Ki67 Working Group", "20 % cut"], ""),
        (["ER"] * 4, [], "ER: no bands of this marker are known"),
        (["ER", "Ki-67", "PR", "ER"], [], "slides of several markers (ER, Ki-67, PR): they are not compared by bands"),
    ],
)
def test_slides_are_compared_by_the_bands_of_their_own_marker(
    tmp_path: Path, markers: list[str], bands: list[str], note: str
) -> None:
    reference = table(tmp_path, REFERENCE)
    summary = compare_tables(reference, cohort_of(tmp_path, markers), tmp_path / "out")
    report = (tmp_path / "out" / "agreement.md").read_text()
    assert [one.name for one in summary.bands] == bands
    assert list(summary.notes) == [note] * bool(note)
    assert ("Ki67 Working Group" in report) == bool(bands)
    header = (tmp_path / "out" / "agreement.csv").read_text().splitlines()[0]
    assert header.endswith("reference_band,cohort_band,reference_cut_20,cohort_cut_20" if bands else "difference")

"""A marker more is one file: with it alone, runs, scores and pages have its bands, its figures and its words."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image
from stand_in import MPP, draw_nuclei

from wsipsm.agree.compare import AgreementOptions, compare_tables
from wsipsm.agree.reader_table import Unit
from wsipsm.cli.report import lines_about_run
from wsipsm.cli.score import lines_about_score
from wsipsm.cohort.report import StudyReport
from wsipsm.cohort.table import PAGE_NAME, CohortRow
from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.keys import Artefact
from wsipsm.markers import known
from wsipsm.markers.bands import Band, BandSet, Limit
from wsipsm.markers.base import Place
from wsipsm.markers.known import known_markers
from wsipsm.markers.registry import is_marker_name, marker_of
from wsipsm.quality.brown import check_solidity
from wsipsm.results.scoring import Scoring
from wsipsm.stages.report import overview_caption
from wsipsm.stages.rescore import score_result
from wsipsm.stages.run import run_slide
from wsipsm.stages.write import Totals

ER = '''
"""Estrogen receptor: percent positive with the bands of ASCO and CAP, and the H-score."""

from wsipsm.markers.bands import Band, BandSet, ComparedBands, Limit
from wsipsm.markers.base import FigureKind, Marker, Place

STEP_OD = 0.15


def h_score(dab_od, cut_od):
    return 100 * sum(float((dab_od >= cut_od + step * STEP_OD).mean()) for step in range(3))


STATUS = BandSet(
    name="receptor status, 1 and 10%",
    bands=(
        Band("negative", "below 1 %", "below 1%: negative"),
        Band("low positive", "1 to 10 %", "1 to 10%: low positive"),
        Band("positive", "above 10 %", "above 10%: positive"),
    ),
    limits=(Limit(0.01, starts_upper=True), Limit(0.10, starts_upper=False)),
    reference="Allison et al. 2020, J Clin Oncol 38:1346, 10.1200/JCO.19.02309",
)
MARKER = Marker(
    key="er",
    name="ER",
    aliases=frozenset({"sp1", "estrogenreceptor"}),
    place=Place.NUCLEI,
    index_name="percent positive",
    min_nuclei=100,
    min_nuclei_reference="Allison et al. 2020",
    bands=(STATUS,),
    compared_by=(
        ComparedBands(STATUS, "ASCO and CAP", "status", "Bands of ASCO and CAP (Allison et al., J Clin Oncol 2020)."),
    ),
    figures=(FigureKind("h_score", "H-score", h_score, 0, "three strengths, 0.15 OD apart (McCarty et al. 1985)"),),
    index_columns=("er_percent",),
)
'''


@pytest.fixture
def _with_er(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the file beside those of the package, as whoever adds a marker does."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "er.py").write_text(ER)
    monkeypatch.setattr(known, "__path__", [*known.__path__, str(tmp_path / "more")])
    monkeypatch.setitem(sys.modules, "wsipsm.markers.known.er", None)
    monkeypatch.delitem(sys.modules, "wsipsm.markers.known.er")


@pytest.mark.usefixtures("stand_in", "_with_er")
def test_one_file_gives_bands_figures_and_words(tmp_path: Path) -> None:
    path = tmp_path / "case.png"
    Image.fromarray(draw_nuclei(500, 400)).save(path)
    options = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128, marker="Estrogen receptor")
    summary = run_slide(path, tmp_path / "out", options, ignore_events)
    folder = Path(summary.folder)
    cells = pq.read_table(folder / Artefact.CELLS, columns=["dab_od_mean"])["dab_od_mean"].to_numpy()
    cut = summary.scoring["dab_cut_od"]
    expected = 100 * sum(np.mean(cells >= cut + step) for step in (0, 0.15, 0.3))
    assert summary.scores is not None
    assert summary.scoring["marker"] == "ER"
    assert [call["band"] for call in summary.scores["bands"]] == ["positive"]
    assert [(one["name"], one["value"]) for one in summary.scores["figures"]] == [("H-score", pytest.approx(expected))]
    told = "\n".join(lines_about_run(summary))
    assert "ER percent positive: " in told
    assert f"  H-score: {expected:.0f}; three strengths" in told
    again = score_result(folder, dab_cut_od=0.3)
    lines = "\n".join(lines_about_score(again))
    assert "receptor status, 1 and 10%: " in lines
    assert "H-score: " in lines
    is_small = again.score.index.n_scored < 100
    assert any("a score needs at least 100" in flag for flag in again.score.index.flags) == is_small
    totals = Totals(n_nuclei=9, n_positive=3, n_negative=6)
    caption = overview_caption(str(path), totals, Scoring(**summary.scoring), ())
    assert ", ER 33.3%" in caption
    row = CohortRow("case", "case.png").finished(summary)
    StudyReport(tmp_path).write([row], ended=True)
    page = (tmp_path / PAGE_NAME).read_text()
    assert "Percent positive, ER %" in page
    texts = [told, lines, caption, page, *(file.read_text() for file in folder.glob("*.json"))]
    assert not [text for text in texts if "Ki-67" in text or "abelling index" in text]


@pytest.mark.usefixtures("stand_in", "_with_er")
def test_what_gives_an_index_away_is_withheld_with_it(tmp_path: Path) -> None:
    grey = np.repeat(draw_nuclei(500, 400).mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "case.png")
    options = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128, marker="er")
    folder = run_slide(tmp_path / "case.png", tmp_path / "out", options, ignore_events).folder
    score = orjson.loads((Path(folder) / Artefact.SCORE).read_bytes())
    assert (score["index"], score["bands"], score["figures"]) == (None, None, None)


@pytest.mark.usefixtures("_with_er")
def test_two_tables_are_compared_by_its_bands_and_its_column_is_found(tmp_path: Path) -> None:
    (tmp_path / "ref.csv").write_text("slide,er_percent\na,0.5\nb,7\nc,80\n")
    (tmp_path / "mine.csv").write_text("slide,marker,er_percent\na,sp1,0.4\nb,ER,12\nc,,90\n")
    summary = compare_tables(
        tmp_path / "ref.csv", tmp_path / "mine.csv", tmp_path / "out", AgreementOptions(cohort_unit=Unit.PERCENT)
    )
    assert [(one.name, one.labels[0]) for one in summary.bands] == [("ASCO and CAP", "below 1 %")]
    assert summary.bands[0].share_agreeing == pytest.approx(2 / 3)
    report = (tmp_path / "out" / "agreement.md").read_text()
    assert "- Bands of ASCO and CAP (Allison et al., J Clin Oncol 2020).\n" in report
    assert "Ki67" not in report
    assert "reference_status,cohort_status" in (tmp_path / "out" / "agreement.csv").read_text()


@pytest.mark.usefixtures("_with_er")
@pytest.mark.parametrize("text", ["ER", "er", "SP1", "sp-1", "Estrogen Receptor"])
def test_a_marker_is_found_by_every_name_of_it(text: str) -> None:
    assert marker_of(text).name == "ER"
    assert marker_of("ki67").name == "Ki-67"


def test_what_is_not_known_has_its_name_and_nothing_more() -> None:
    marker = marker_of(" p53  wild ")
    assert (marker.name, marker.bands, marker.compared_by, marker.figures) == ("P53 WILD", (), (), ())
    assert marker.place is Place.UNSTATED
    assert marker_of(marker.name) == marker


def test_each_marker_says_why_brown_elsewhere_gives_no_index() -> None:
    ragged = np.full(100, 0.8)
    assert "since Ki-67 stains nuclei." in check_solidity(ragged, marker_of("mib1")).text
    told = check_solidity(ragged, marker_of("pr")).text
    assert "since an index counts stained nuclei." in told
    assert "Ki-67" not in told


@pytest.mark.usefixtures("_with_er")
def test_known_markers_are_told_apart_and_say_where_their_numbers_come_from() -> None:
    markers = known_markers()
    assert [marker.key for marker in markers] == ["ki67", "er"]
    spellings = [one for marker in markers for one in marker.spellings]
    assert len(spellings) == len(set(spellings))
    for marker in markers:
        assert is_marker_name(marker.key)
        assert marker_of(marker.name) is marker, "its name leads back to it"
        assert marker.min_nuclei_reference
        assert all(limits.reference for limits in (*marker.bands, *(one.bands for one in marker.compared_by)))
        assert all(one.words.endswith(".") for one in marker.compared_by)


@pytest.mark.parametrize("values", [(), (0.2, 0.1), (0.1, 0.1), (0.0, 0.5), (0.5, 1.0)])
def test_limits_that_do_not_divide_are_refused(values: tuple[float, ...]) -> None:
    bands = tuple(Band(str(n), "", "") for n in range(max(3, len(values) + 1)))
    with pytest.raises(ValueError, match="limits"):
        BandSet("drawn", bands, tuple(Limit(value, starts_upper=True) for value in values), "none")

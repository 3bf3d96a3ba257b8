"""A marker more is one file: with it alone, runs, scores and pages have its bands, its figures and its words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image
from stand_in import MPP, draw_nuclei

from wsipsm.agree.compare import AgreementOptions, compare_tables
from wsipsm.agree.reader_table import Unit
from wsipsm.cli.score import lines_about_score
from wsipsm.cli.score_text import lines_about_index
from wsipsm.cli.summary_text import lines_about_run
from wsipsm.cohort.page import CohortReport
from wsipsm.cohort.table import PAGE_NAME, CohortRow
from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.finished.rescore import score_result
from wsipsm.keys import Artefact
from wsipsm.results.summary import ScoreFacts
from wsipsm.stages.run import run_slide
from wsipsm.stages.summarise import overview_caption
from wsipsm.stages.write import Totals


@pytest.mark.usefixtures("stand_in", "marker_er")
def test_one_file_gives_bands_figures_and_words(tmp_path: Path) -> None:
    path = tmp_path / "case.png"
    Image.fromarray(draw_nuclei(500, 400)).save(path)
    options = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128, marker="Estrogen receptor")
    summary = run_slide(path, tmp_path / "out", options, ignore_events)
    folder = Path(summary.folder)
    cells = pq.read_table(folder / Artefact.CELLS, columns=["dab_od_mean"])["dab_od_mean"].to_numpy()
    cut = summary.scoring.dab_cut_od
    expected = 100 * sum(np.mean(cells >= cut + step) for step in (0, 0.15, 0.3))
    assert summary.scores is not None
    assert summary.scoring.marker == "ER"
    assert [call.band for call in summary.scores.bands] == ["positive"]
    assert [(one.name, one.value) for one in summary.scores.figures] == [("H-score", pytest.approx(expected))]
    told = "\n".join(lines_about_run(summary))
    assert "ER percent positive: " in told
    assert f"  H-score: {expected:.0f}; three strengths" in told
    again = score_result(folder, dab_cut_od=0.3)
    lines = "\n".join(lines_about_score(again))
    assert "receptor status, 1 and 10%: " in lines
    # A run and a later score say the same in the same words.
    of_run = lines_about_index(summary.labelling_index, summary.scores, "ER")
    of_score = lines_about_index(again.score.index, ScoreFacts.of(again.score), "ER")
    assert all(line in told.splitlines() for line in of_run)
    assert all(f"  {line}" in lines.splitlines() for line in of_score)
    assert "H-score: " in lines
    is_small = again.score.index.n_scored < 100
    assert any("a score needs at least 100" in flag for flag in again.score.index.flags) == is_small
    totals = Totals(n_nuclei=9, n_positive=3, n_negative=6)
    caption = overview_caption(str(path), totals, summary.scoring, ())
    assert ", ER 33.3%" in caption
    row = CohortRow("case", "case.png").finished(summary)
    CohortReport(tmp_path).write([row], ended=True)
    page = (tmp_path / PAGE_NAME).read_text()
    assert "Percent positive, ER %" in page
    texts = [told, lines, caption, page, *(file.read_text() for file in folder.glob("*.json"))]
    assert not [text for text in texts if "Ki-67" in text or "abelling index" in text]


@pytest.mark.usefixtures("stand_in", "marker_er")
def test_what_gives_an_index_away_is_withheld_with_it(tmp_path: Path) -> None:
    grey = np.repeat(draw_nuclei(500, 400).mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "case.png")
    options = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128, marker="er")
    folder = run_slide(tmp_path / "case.png", tmp_path / "out", options, ignore_events).folder
    score = orjson.loads((Path(folder) / Artefact.SCORE).read_bytes())
    assert (score["index"], score["bands"], score["figures"]) == (None, None, None)


@pytest.mark.usefixtures("marker_er")
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

"""The marker is declared: limits of Ki-67 and its name stand on its slides alone; a grey picture has no index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from PIL import Image
from stand_in import MPP, draw_nuclei
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.cli.score import lines_about_score
from wsipsm.cli.summary_text import lines_about_run
from wsipsm.cohort.page import CohortReport
from wsipsm.cohort.table import PAGE_NAME, CohortRow
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.events import ignore_events
from wsipsm.finished.check import check_result
from wsipsm.finished.rescore import score_result
from wsipsm.keys import Artefact
from wsipsm.markers.registry import marker_of
from wsipsm.quality.brown import BrownPlace, check_brown
from wsipsm.quality.finding import Finding, flags_of
from wsipsm.results.summary import RunSummary
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")


def run(folder: Path, rgb: Any, **values: Any) -> RunSummary:
    path = folder / "case.png"
    Image.fromarray(rgb).save(path)
    options = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128, **values)
    return run_slide(path, folder / "out", options, ignore_events)


def told(summary: RunSummary) -> str:
    return "\n".join(lines_about_run(summary))


@pytest.mark.parametrize("text", ["ki67", "Ki-67", "KI67", "mib1", "MIB-1", "ki-67", "Ki 67", "ki_67", "30-9"])
def test_ki67_has_one_spelling(text: str) -> None:
    assert marker_of(text).name == "Ki-67"


def test_another_marker_has_its_name_and_no_band_of_ki67(tmp_path: Path) -> None:
    summary = run(tmp_path, draw_nuclei(500, 400), marker="er")
    assert summary.labelling_index is not None
    assert summary.scores is not None
    assert summary.scores.bands == ()
    assert "ER labelling index" in told(summary)
    assert "Ki-67" not in told(summary)
    again = score_result(summary.folder, dab_cut_od=0.3)
    assert again.scoring.marker == "ER"
    assert again.record.bands == ()
    assert "Ki-67" not in (Path(summary.folder) / Artefact.SCORE_AREAS).read_text()


def test_a_score_may_declare_another_marker_than_its_run(tmp_path: Path) -> None:
    folder = run(tmp_path, draw_nuclei(500, 400)).folder
    assert CliRunner().invoke(app, ["score", folder, "--marker", "pr"]).exit_code == 0
    shown = orjson.loads((Path(folder) / Artefact.SUMMARY).read_bytes())
    assert (shown["scoring"]["marker"], shown["scores"]["bands"]) == ("PR", [])
    assert check_result(Path(folder)) == []
    assert score_result(folder, marker="mib-1").scoring.marker == "Ki-67"
    assert score_result(folder).scoring.made_by == "run"


def test_why_an_index_is_withheld_is_said_in_the_words_of_the_declared_marker(tmp_path: Path) -> None:
    folder = run(tmp_path, draw_nuclei(500, 400)).folder
    path = Path(folder) / Artefact.SCORES / "run" / Artefact.SUMMARY
    values = orjson.loads(path.read_bytes())
    ringed = check_brown([BrownPlace(True, False, True)] * 100, np.full(100, 0.95), marker_of("ki67"))[1]
    values["checks"] = [
        ringed.model_dump(mode="json") if one["name"] == ringed.name else one for one in values["checks"]
    ]
    path.write_bytes(orjson.dumps(values))
    assert "Ki-67 stains nuclei" in str(score_result(folder, dab_cut_od=0.3).withheld)
    other = score_result(folder, marker="pr")
    assert other.withheld == ringed.text.replace("Ki-67 stains nuclei", "an index counts stained nuclei")
    assert "Ki-67" not in (Path(folder) / Artefact.SUMMARY).read_text()


@pytest.mark.parametrize("marker", ["", "<b>", "a" * 25, "e\nr"])
def test_a_score_refuses_a_marker_that_is_no_name(tmp_path: Path, marker: str) -> None:
    folder = run(tmp_path, draw_nuclei(500, 400)).folder
    with pytest.raises(UsageError, match="--marker"):
        score_result(folder, marker=marker)


def test_ki67_is_the_default_and_printed(tmp_path: Path) -> None:
    summary = run(tmp_path, draw_nuclei(500, 400))
    assert run(tmp_path, draw_nuclei(500, 400), marker="Ki-67").was_done
    assert summary.scores is not None
    assert len(summary.scores.bands) == 2
    assert "Ki-67 labelling index" in told(summary)


def test_a_grey_slide_has_no_index_anywhere(tmp_path: Path) -> None:
    grey = np.repeat(draw_nuclei(500, 400).mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    summary = run(tmp_path, grey)
    assert summary.labelling_index is None
    lines = lines_about_run(summary)
    assert lines[0].startswith("FLAG: the picture is grey")
    assert "grey" in lines[-1]
    score = orjson.loads((Path(summary.folder) / Artefact.SCORE).read_bytes())
    withheld = ("index", "interval", "unweighted_mean", "area_weighted_mean", "hot_spot", "bands", "threshold_curve")
    assert [score[name] for name in withheld] == [None] * len(withheld)
    assert not any("straddles" in flag for flag in score["flags"])
    assert score["scoring"]["marker"] == "Ki-67"
    assert orjson.loads((Path(summary.folder) / Artefact.SCORE_AREAS).read_bytes())["features"] == []
    again = score_result(summary.folder, dab_cut_od=0.3)
    assert [getattr(again.record, name) for name in withheld] == [None] * len(withheld)
    lines = "\n".join(lines_about_score(again))
    assert "index withheld" in lines
    assert not any(word in lines for word in ("straddles", "hot spot", "mean over fields"))
    assert check_result(Path(summary.folder)) == []


def test_counts_and_cut_of_a_withheld_index_stay_in_the_table_of_a_cohort(tmp_path: Path) -> None:
    grey = np.repeat(draw_nuclei(500, 400).mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    summary = run(tmp_path, grey, marker="er")
    row = CohortRow("case", "case.png").finished(summary)
    assert (row.labelling_index, row.low, row.field_mean, row.hot_spot_index) == (None, None, None, None)
    assert (row.n_positive, row.n_negative) == (summary.n_positive, summary.n_negative)
    assert (row.marker, row.dab_cut_od) == ("ER", summary.scoring.dab_cut_od)
    empty = replace(row, n_nuclei=0)
    slide_report = CohortReport(tmp_path)
    for one, is_withheld in ((row, True), (empty, False)):
        slide_report.write([one], ended=True)
        page = (tmp_path / PAGE_NAME).read_text()
        assert (">withheld<" in page) == is_withheld
        assert "ER %" in page


def test_a_new_cut_is_checked_anew(tmp_path: Path) -> None:
    summary = run(tmp_path, draw_nuclei(500, 400))
    before = {check.name: check.model_dump(mode="json") for check in summary.checks}
    score_result(summary.folder, dab_cut_od=0.02)
    shown = orjson.loads((Path(summary.folder) / Artefact.SUMMARY).read_bytes())
    after = {check["name"]: check for check in shown["checks"]}
    changed = {name for name, check in after.items() if check != before[name]}
    assert changed <= {"negative_level", "dab_gap_od", "positive_solidity"}
    cells = pq.read_table(Path(summary.folder) / Artefact.CELLS, columns=["solidity", "dab_od_mean"])
    positive = cells["dab_od_mean"].to_numpy() >= 0.02
    assert after["positive_solidity"]["value"] == pytest.approx(
        np.median(cells["solidity"].to_numpy()[positive]), abs=1e-4
    )
    assert "dab_gap_od" in changed
    assert shown["flags"] == flags_of(Finding.model_validate(check) for check in shown["checks"])
    score_result(summary.folder, dab_cut_od=0)


def test_an_ihc_model_on_he_gives_no_index(tmp_path: Path) -> None:
    rgb = draw_nuclei(500, 400)
    pink = np.where(
        (rgb == (238, 234, 236)).all(axis=2)[..., None] | (rgb.min(axis=2) > 200)[..., None], (232, 170, 200), rgb
    )
    pink[:40] = 240
    summary = run(tmp_path, pink.astype(np.uint8), model="ki67-ihc")
    assert summary.labelling_index is None
    assert any("looks like H&E" in flag for flag in summary.flags)


def test_a_cohort_says_on_the_screen_that_slides_are_flagged(tmp_path: Path) -> None:
    rgb = draw_nuclei(300, 200)
    grey = np.repeat(rgb.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    command = ["cohort", str(tmp_path / "grey.png"), "--out", str(tmp_path / "out"), "--mpp", str(MPP)]
    done = CliRunner().invoke(app, [*command, "--workers", "0"])
    assert done.exit_code == 0, done.output
    assert "FLAG: 1 of them" in done.output

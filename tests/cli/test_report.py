from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wsipsm.cli.score_text import lines_about_index
from wsipsm.cli.summary_text import lines_about_run
from wsipsm.quality.finding import Finding, Verdict
from wsipsm.results.scoring_key import Scoring
from wsipsm.results.summary import RunSummary, ScoredTissue, ScoreFacts
from wsipsm.scoring.drift import StainStatistics
from wsipsm.scoring.index import labelling_index
from wsipsm.scoring.score import MarkerScore, score_nuclei
from wsipsm.stages.summarise import overview_caption
from wsipsm.stages.write import Totals

TISSUE = {
    "kind": "tissue",
    "name": "all nuclei",
    "area_px0": 8e6,
    "n_parts": 1,
    "fraction": 0.4,
    "ink_fraction": 0.0,
    "px0_per_pixel": 16,
    "origin_px0": (0, 0),
    "note": None,
    "hash": "hash",
    "annotations": (),
}


def summary(**values: Any) -> RunSummary:
    made = RunSummary(
        slide="/slides/case_07.svs",
        folder="results/case_07",
        model="ki67-ihc",
        model_reason="brown",
        stain="ihc",
        stain_reason="brown",
        n_nuclei=2500,
        n_positive=678,
        n_negative=1822,
        labelling_index=labelling_index(678, 1822, "all nuclei", 1.0),
        labelling_index_note=None,
        scores=None,
        stain_statistics=StainStatistics(0.3, 0.1, 0.6, 0.05, 240.0),
        region=ScoredTissue.model_validate(TISSUE),
        scoring=Scoring("key", "run", "all nuclei", "hash", 0.25, "fitted"),
        region_area_mm2=0.5,
        coverage=1.0,
        n_blocks=4,
        n_failed_blocks=0,
        n_tiles=16,
        failed_boxes_px0=[],
        n_too_large=0,
        mean_area_um2=40.0,
        nuclei_per_mm2=5000.0,
        tissue_fraction=0.4,
        checks=[],
        flags=[],
        notes=[],
        seconds={"total": 12.3},
        files={},
        request_key="a",
        result_key="b",
        version="0.1.0",
    )
    return made.replaced(**values)


def test_what_was_found_where_it_lies_and_what_to_open() -> None:
    text = "\n".join(lines_about_run(summary()))
    assert "case_07.svs: 2,500 nuclei in 0.50 mm2, 5,000 per mm2" in text
    assert "Ki-67 labelling index: 27.1% (95 % interval 25.4% to 28.9%); 678 positive of 2,500 nuclei" in text
    assert "region: all nuclei" in text
    assert "Wilson" in text
    assert "results in results/case_07 (took 12 s)" in text
    assert "drag cells.geojson.gz onto it" in text
    assert "overview.png" in text


def scored(n: int, side_um: float) -> MarkerScore:
    random = np.random.default_rng(5)
    xy_um, dab_od = random.uniform(0, side_um, (n, 2)), random.uniform(0, 0.4, n)
    return score_nuclei(
        xy_um,
        dab_od,
        cut_od=0.3,
        cut_from="fitted on the slide",
        region="tumour",
        coverage=1.0,
        areas_of=lambda boxes_um: np.full(len(boxes_um), 500.0**2),
    )


def told_of(score: MarkerScore) -> str:
    return "\n".join(lines_about_run(summary(labelling_index=score.index, scores=ScoreFacts.of(score))))


def test_both_intervals_and_the_scores_of_places() -> None:
    score = scored(3000, 1400.0)
    text = told_of(score)
    assert score.interval is not None
    assert score.hot_spot.spot is not None
    assert f"{score.index.low:.1%} to {score.index.high:.1%} by counting" in text
    assert f"{score.interval.low:.1%} to {score.interval.high:.1%} with clusters" in text
    assert f"mean over fields: {score.unweighted.value:.1%} (fields: 9), by area" in text
    assert f"hot spot: {score.hot_spot.spot.index:.1%} of {score.hot_spot.spot.n} nuclei (95 % interval" in text


def test_no_hot_spot_says_why() -> None:
    text = told_of(scored(30, 300.0))
    assert "mean over fields: none, no field holds enough nuclei; hot spot: not scorable: 30 nuclei" in text


def test_research_use_stands_below() -> None:
    assert lines_about_run(summary())[-1] == "Research use, not for diagnosis."


def test_no_index_on_hematoxylin_and_eosin() -> None:
    text = "\n".join(lines_about_run(summary(labelling_index=None, labelling_index_note="no index exists on H&E.")))
    assert "Ki-67: no index exists on H&E." in text
    assert "%" not in text


def test_index_of_nothing() -> None:
    lines = lines_about_index(labelling_index(0, 0, "tumour", 1.0))
    assert lines[0] == "Ki-67 labelling index: none; 0 positive of 0 nuclei; region: tumour"


def test_incomplete_run_says_so() -> None:
    index = labelling_index(678, 1822, "all nuclei", 0.9)
    text = "\n".join(lines_about_run(summary(coverage=0.9, failed_boxes_px0=[[0, 0, 9, 9]], labelling_index=index)))
    assert "incomplete: 90.00% of the region was scored" in text
    assert text.count("flag: ") == len(index.flags) >= 1


@pytest.mark.parametrize("was_done", [True, False])
def test_finished_before_says_how_to_do_it_again(was_done: bool) -> None:
    assert ("--overwrite" in "\n".join(lines_about_run(summary(was_done=was_done)))) == was_done


def test_a_flag_stands_on_the_first_and_on_the_last_line() -> None:
    lines = lines_about_run(summary(flags=["nuclei are 3 um wide at 0.25 um/px."]))
    assert lines[0] == "FLAG: nuclei are 3 um wide at 0.25 um/px."
    assert "nuclei are 3 um wide" in lines[-1]


def test_a_withheld_index_gives_its_reason_in_place_of_the_number() -> None:
    reason = "the picture has no hue."
    lines = lines_about_run(summary(labelling_index=None, labelling_index_note=reason, flags=[reason]))
    assert f"Ki-67: {reason}" in lines
    assert not any("27.1%" in line for line in lines)


def test_the_caption_of_an_overview_has_figures_flag_and_use_each_where_it_is_not_cut() -> None:
    finding = Finding(name="x", value=1.0, verdict=Verdict.FLAG, text="the picture is doubtful." * 20)
    scoring = Scoring("key", "run", "all nuclei", "hash", 0.25, "fitted")
    caption = overview_caption(f"/a/n\n{'n' * 200}.svs", Totals(199, 36, 163), scoring, [finding]).splitlines()
    assert caption[0].startswith("199 nuclei, Ki-67 18.1%; all nuclei; n")
    assert caption[1].startswith("FLAG: the picture is doubtful.")
    assert caption[2] == "Research use, not for diagnosis."
    withheld = finding.model_copy(update={"verdict": Verdict.WITHHOLD})
    assert "%" not in overview_caption("a.svs", Totals(199, 36, 163), scoring, [withheld])
    assert len(overview_caption("a.svs", Totals(199, 36, 163), scoring, []).splitlines()) == 2

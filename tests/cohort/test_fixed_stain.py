"""Stains and DAB cut of a reference slide or of a whole cohort, in place of each slide's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from stand_in import MPP, draw_nuclei, draw_slide

from wsipsm.cohort.fixed_stain import (
    STAIN_NAME,
    SampleTask,
    fit_fixed_stain,
    fixed_stain_of,
    read_fixed_stain,
    sample_stain,
)
from wsipsm.cohort.request import CohortOptions
from wsipsm.cohort.run import run_cohort
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.events import ignore_events
from wsipsm.finished.rescore import score_result
from wsipsm.keys import Artefact, Stain
from wsipsm.slide.open import open_slide
from wsipsm.stages.run import run_slide
from wsipsm.stain import REFERENCE_EOSIN, REFERENCE_HEMATOXYLIN, StainProfile, fit_stain_profile

OPTIONS = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128)


def draw_stained(path: Path, strength: float, seed: int) -> Path:
    """Draw a slide whose stains absorb ``strength`` times as much."""
    from PIL import Image

    grey = draw_nuclei(500, 500, seed).astype(np.float64)
    Image.fromarray(np.rint(245 * (np.maximum(grey, 1) / 245) ** strength).clip(0, 255).astype(np.uint8)).save(path)
    return path


def profile_of(folder: Path) -> dict[str, object]:
    profile: dict[str, object] = json.loads((folder / Artefact.RUN).read_text())["stain"]["profile"]
    return profile


def test_one_slide_fits_what_its_own_profile_is(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "a.png", 500, 500)
    fixed = fixed_stain_of(slide, MPP, 0)
    with open_slide(slide, MPP) as opened:
        sample = sample_stain(SampleTask(str(slide), MPP, 0))
        assert opened.info.size.width == 500
    own = fit_stain_profile(sample.rgb, Stain.IHC, 0)
    assert (fixed.hematoxylin, fixed.dab, fixed.dab_cut_od) == (own.hematoxylin, own.counterstain, own.dab_cut_od)
    assert fixed.source == "a.png"


@pytest.mark.usefixtures("stand_in")
def test_a_paler_slide_gets_the_cut_of_the_reference(tmp_path: Path) -> None:
    strong, pale = draw_stained(tmp_path / "strong.png", 1.0, 1), draw_stained(tmp_path / "pale.png", 0.6, 2)
    fixed = fixed_stain_of(strong, MPP, 0)
    own = run_slide(pale, tmp_path / "own", OPTIONS, ignore_events)
    told = run_slide(pale, tmp_path / "fixed", OPTIONS.model_copy(update={"stain": fixed}), ignore_events)
    assert profile_of(Path(told.folder))["dab_cut_od"] == fixed.dab_cut_od != profile_of(Path(own.folder))["dab_cut_od"]
    # Glass is the slide's own.
    assert profile_of(Path(told.folder))["background"] == profile_of(Path(own.folder))["background"]
    # Scored again, the cut and where it comes from stay.
    again = score_result(told.folder).record
    assert told.labelling_index is not None
    assert again.index == told.labelling_index
    assert "fixed, from strong.png" in again.model_dump_json()


@pytest.mark.usefixtures("stand_in")
def test_a_cohort_has_one_cut_that_stays(tmp_path: Path) -> None:
    cohort, out = tmp_path / "cohort", tmp_path / "out"
    cohort.mkdir()
    for number, strength in enumerate((0.7, 1.0, 1.3)):
        draw_stained(cohort / f"{number}.png", strength, number)
    how = CohortOptions(stain_from="batch")
    first = run_cohort([cohort], out, OPTIONS, ignore_events, how)
    fixed = read_fixed_stain(out)
    assert fixed is not None
    assert fixed.source == "3 slides of the cohort"
    assert {profile_of(out / row.folder)["dab_cut_od"] for row in first.rows} == {fixed.dab_cut_od}
    # A slide that comes later, of another strength, gets the same cut, and the others are not done again.
    before = {row.id: (out / row.folder / Artefact.CELLS).stat().st_mtime_ns for row in first.rows}
    draw_stained(cohort / "late.png", 0.5, 9)
    second = run_cohort([cohort], out, OPTIONS, ignore_events, how)
    assert read_fixed_stain(out) == fixed
    assert {profile_of(out / row.folder)["dab_cut_od"] for row in second.rows} == {fixed.dab_cut_od}
    after = {row.id: (out / row.folder / Artefact.CELLS).stat().st_mtime_ns for row in second.rows}
    assert {name: after[name] for name in before} == before
    assert pq.read_table(out / "cohort.parquet").num_rows == 4


@pytest.mark.usefixtures("stand_in")
def test_workers_give_the_same_cut_as_this_process(tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    for number in range(3):
        draw_slide(cohort / f"{number}.png", 400, 300, seed=number)
    how = CohortOptions(stain_from="batch")
    for workers in (0, 2):
        options = OPTIONS.model_copy(update={"workers": workers})
        # Workers do not have the stand-in; the cut is fitted before any block.
        run_cohort([cohort], tmp_path / str(workers), options, ignore_events, how)
    assert read_fixed_stain(tmp_path / "0") == read_fixed_stain(tmp_path / "2")


def test_pink_slides_have_no_cut(tmp_path: Path) -> None:
    from PIL import Image

    pink = np.full((400, 400, 3), (235, 150, 200), np.uint8)
    pink[::3] = (120, 60, 150)
    pink[:100] = 243
    Image.fromarray(pink).save(tmp_path / "pink.png")
    with pytest.raises(UsageError, match=r"--stain-from: pink.png: a hematoxylin-DAB slide is needed"):
        fixed_stain_of(tmp_path / "pink.png", MPP, 0)
    with pytest.raises(UsageError, match="no slide could be read"):
        fit_fixed_stain([], "0 slides of the cohort", 0)


def test_he_is_left_alone(tmp_path: Path) -> None:
    fixed = fixed_stain_of(draw_slide(tmp_path / "a.png", 500, 500), MPP, 0)
    profile = StainProfile(Stain.HE, (245.0,) * 3, REFERENCE_HEMATOXYLIN, REFERENCE_EOSIN, None, 10, 0, ())
    assert fixed.replace_in(profile) == profile


@pytest.mark.parametrize("text", ["", "{}", '{"source": "x", "dab_cut_od": "much"}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    assert read_fixed_stain(tmp_path) is None
    (tmp_path / STAIN_NAME).write_text(text)
    with pytest.raises(UsageError, match=f"{STAIN_NAME}: cannot be used .* Remove it"):
        read_fixed_stain(tmp_path)

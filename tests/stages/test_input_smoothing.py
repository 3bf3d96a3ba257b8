"""Shards of a model that smooths its input are not those of one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_in import CARD, MPP, draw_slide

import wsipsm.stages.plan
from wsipsm.config import RunOptions
from wsipsm.rundir import RunDir
from wsipsm.slide.open import open_slide
from wsipsm.stages.plan import plan_slide


def test_smoothing_names_other_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = draw_slide(tmp_path / "case.png", 200, 180)
    keys = []
    for sigma in (0.0, 0.0, 1.2):
        card = CARD.model_copy(update={"input_sigma_px": sigma})
        monkeypatch.setattr(wsipsm.stages.plan, "resolve_model", lambda name, card=card: (Path("stand-in"), card))
        with open_slide(path, MPP) as slide:
            keys.append(plan_slide(slide, RunOptions(mpp=MPP), RunDir(tmp_path / "out")).job.key)
    assert keys[0] == keys[1] != keys[2]

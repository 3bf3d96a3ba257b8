"""Real Ki-67 whose DAB is made fainter or darker, whose glass is tinted or hazy, keeps its index and gets no flag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from virtual_stains import hazy, tinted, with_strength

from wsipsm.config import RunOptions
from wsipsm.demo.draw import draw_array
from wsipsm.events import ignore_events
from wsipsm.geometry import Box
from wsipsm.quality.finding import Verdict
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_box
from wsipsm.stages.run import run_slide

MPP, INDEX = 0.2271, 0.181
CHANGES = ("DAB 0", "DAB 0.3", "DAB 0.4", "DAB 0.6", "DAB 1.3", "DAB 1.6", "haze", "tint")


@pytest.fixture(scope="module")
def crop(data_dir: Path) -> NDArray[np.uint8]:
    path = data_dir / "slides/real/ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif"
    with open_slide(path, identify=False) as slide:
        return read_box(slide, Box(0, 0, slide.info.size.width, slide.info.size.height), 1.0)


def changed(rgb: NDArray[np.uint8], change: str) -> NDArray[np.uint8]:
    if change.startswith("DAB"):
        return with_strength(rgb, dab=float(change.split()[1]))
    return hazy(rgb, 0.25) if change == "haze" else tinted(rgb, (1, 0.9, 0.7))


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_index_within_three_points_and_no_flag(crop: NDArray[np.uint8], change: str, tmp_path: Path) -> None:
    path = tmp_path / "case.png"
    Image.fromarray(changed(crop, change)).save(path)
    summary = run_slide(path, tmp_path / "out", RunOptions(mpp=MPP, workers=0), ignore_events)
    assert summary.flags == []
    assert summary.labelling_index is not None
    wanted = 0.0 if change == "DAB 0" else INDEX
    assert summary.labelling_index.value == pytest.approx(wanted, abs=0.03 if wanted else 0.005)


@pytest.mark.slow
@pytest.mark.parametrize("dab", [0.4, 1.0])
def test_where_every_nucleus_is_brown_the_index_is_flagged(dab: float, tmp_path: Path) -> None:
    """No cut can be found where there is one kind of nuclei; faint, it lies in their midst."""
    rgb, _ = draw_array(seed=5, size=(1400, 1400), n_nuclei=450, positive_fraction=1.0)
    path = tmp_path / "case.png"
    Image.fromarray(with_strength(rgb, dab=dab)).save(path)
    summary = run_slide(path, tmp_path / "out", RunOptions(mpp=0.25, workers=0), ignore_events)
    assert {check.name for check in summary.checks if check.verdict is Verdict.FLAG} & {
        "negative_level",
        "hematoxylin_share",
    }

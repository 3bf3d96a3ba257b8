"""From drawn images to pseudo labels, by the whole chain."""

from __future__ import annotations

from functools import partial

import pytest
import shapely

import wsipsm.training.pseudo_labels
from wsipsm.demo.draw import draw_array
from wsipsm.keys import Stain
from wsipsm.psm.pseudo_label import IGNORED
from wsipsm.stain import fit_stain_profile
from wsipsm.training.pretext_training import PretextOptions
from wsipsm.training.pseudo_labels import StainedImage, make_pseudo_labels


@pytest.fixture(autouse=True)
def _short_pretext(monkeypatch: pytest.MonkeyPatch) -> None:
    short = partial(PretextOptions, steps=3, batch=2, crop_px=64)
    monkeypatch.setattr(wsipsm.training.pseudo_labels, "PretextOptions", short)


def test_no_positive_is_invented_where_all_is_blue() -> None:
    rgb, _ = draw_array(seed=5, size=(200, 200), n_nuclei=20, positive_fraction=0.0)
    image = StainedImage(rgb, fit_stain_profile(rgb.reshape(-1, 3), Stain.IHC, 0))
    told: list[str] = []
    (labelled,) = make_pseudo_labels([image], Stain.IHC, 0, told.append)
    assert not (labelled.label.positive == 1).any()
    assert told[0].startswith("pretext: loss")
    assert told[-1] == f"pseudo labels 1/1: {len(labelled.label.points_xy)} nuclei kept"


def test_he_pseudo_labels_point_at_drawn_nuclei() -> None:
    rgb, truth = draw_array(seed=6, size=(300, 300), n_nuclei=30, stain=Stain.HE, touching_fraction=0.0)
    image = StainedImage(rgb, fit_stain_profile(rgb.reshape(-1, 3), Stain.HE, 0))
    (labelled,) = make_pseudo_labels([image], Stain.HE, 0, lambda line: None)
    drawn = shapely.union_all(list(truth.polygons))
    assert len(labelled.label.points_xy) >= 5
    assert shapely.contains_xy(drawn, *labelled.label.points_xy.T).mean() > 0.8
    assert (labelled.label.positive == IGNORED).all()

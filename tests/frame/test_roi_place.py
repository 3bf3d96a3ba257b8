"""A region is read in the frame that it was drawn in; one in the empty canvas is refused with the likely cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shapely

from wsipsm.errors import RoiError
from wsipsm.export.annotations import Annotation, annotation_bytes
from wsipsm.facts import FileFacts
from wsipsm.geometry import Box, Size
from wsipsm.keys import QuPathFrame
from wsipsm.region import read_roi
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.tissue import TissueMask

# As of the SCN and the MIRAX files of one scan: in the second, much of the canvas is read the same in both frames.
SCN = SlideInfo("a.scn", "openslide", (Size(13_211, 17_614),), 0.25, "0", Box(3082, 5284, 2202, 2202))
MIRAX = SlideInfo("a.mrxs", "openslide", (Size(4096, 4096),), 0.25, "0", Box(1024, 1024, 2048, 2048))
SVS = SlideInfo("a.svs", "openslide", (Size(2202, 2202),), 0.25, "0")
CROPPED, FULL = QuPathFrame.CROPPED, QuPathFrame.FULL


def feature(*box: float, name: str = "", kind: str = "") -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "annotation", "name": name}
    if kind:
        properties["classification"] = {"name": kind, "color": [1, 2, 3]}
    return {"type": "Feature", "geometry": shapely.geometry.mapping(shapely.box(*box)), "properties": properties}


def write(folder: Path, *features: dict[str, Any], about: dict[str, Any] | None = None) -> Path:
    path = folder / "roi.geojson"
    own = {} if about is None else {"wsipsm": about}
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", **own, "features": list(features)}))
    return path


@pytest.mark.parametrize("info", [SCN, MIRAX, SVS])
@pytest.mark.parametrize("qupath", list(QuPathFrame))
def test_the_same_place_from_both_frames(tmp_path: Path, info: SlideInfo, qupath: QuPathFrame) -> None:
    content, frame = SlideFrame.of(info).content, SlideFrame.of(info, qupath)
    x, y = content.x - frame.shown.x, content.y - frame.shown.y
    region = read_roi(write(tmp_path, feature(x + 100, y + 200, x + 900, y + 700)), info, qupath_frame=qupath)
    assert region.shape.bounds == (content.x + 100, content.y + 200, content.x + 900, content.y + 700)
    assert region.notes == ()


def test_drawn_on_the_full_canvas_and_read_as_cropped_is_refused(tmp_path: Path) -> None:
    roi = write(tmp_path, feature(3500, 5600, 4500, 6900))
    with pytest.raises(
        RoiError, match=r"100% of the region lies in the empty part .* pass --qupath-frame full"
    ) as found:
        read_roi(roi, SCN)
    assert "x 3500 to 4500, y 5600 to 6900" in str(found.value)
    assert read_roi(roi, SCN, qupath_frame=FULL).shape.bounds == (3500, 5600, 4500, 6900)


def test_drawn_on_the_crop_and_read_as_full_is_refused(tmp_path: Path) -> None:
    roi = write(tmp_path, feature(100, 100, 2000, 2000))
    with pytest.raises(RoiError, match=r"empty part .* pass --qupath-frame cropped if"):
        read_roi(roi, SCN, qupath_frame=FULL)


@pytest.mark.parametrize("qupath", list(QuPathFrame))
def test_drawn_in_the_empty_canvas_in_either_frame(tmp_path: Path, qupath: QuPathFrame) -> None:
    with pytest.raises(RoiError, match=r"empty part of the canvas .* drawn on this slide"):
        read_roi(write(tmp_path, feature(9000, 12_000, 9900, 13_000)), SCN, qupath_frame=qupath)


def test_mostly_beside_the_scan_is_refused_and_a_rim_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(RoiError, match="75% of the region lies in the empty part"):
        read_roi(write(tmp_path, feature(1202, 202, 5202, 2202)), SCN)
    region = read_roi(write(tmp_path, feature(1702, 202, 2302, 2202)), SCN)
    assert region.area_px0() == 500 * 2000
    assert "17% of the region lies outside the slide" in region.notes[0]


def test_a_better_fit_in_the_other_frame_is_noted(tmp_path: Path) -> None:
    (note, *_) = read_roi(write(tmp_path, feature(1100, 1100, 2148, 2148)), MIRAX).notes
    assert note.endswith("0% in QuPath's other frame: pass --qupath-frame full if it was drawn so.")


def test_where_both_frames_are_on_the_scan_tissue_decides(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), bool)
    mask[:20, :20] = True
    tissue = TissueMask(mask, 32.0, None, mask, origin_px0=(1024, 1024))
    roi = write(tmp_path, feature(1030, 1030, 1500, 1500))
    (note,) = read_roi(roi, MIRAX, within=tissue).notes
    assert "0% of the region lies in all nuclei, 100% in QuPath's other frame: pass --qupath-frame full" in note
    assert read_roi(roi, MIRAX, within=tissue, qupath_frame=FULL).notes == ()


@pytest.mark.parametrize("written", list(QuPathFrame))
@pytest.mark.parametrize("asked", list(QuPathFrame))
def test_a_file_of_wsipsm_says_its_own_frame(tmp_path: Path, written: QuPathFrame, asked: QuPathFrame) -> None:
    frame = SlideFrame.of(SCN, written)
    drawn = shapely.box(3200, 5400, 4000, 6000)
    path = tmp_path / "region.geojson"
    path.write_bytes(annotation_bytes(frame, [Annotation(drawn, "part")], FileFacts("", "", written)))
    assert read_roi(path, SCN, qupath_frame=asked).shape.equals(drawn)


@pytest.mark.parametrize("about", [{}, {"qupath_frame": "sideways"}, {"qupath_frame": 3}, {"qupath_frame": ["full"]}])
def test_a_frame_that_is_none_is_passed_over(tmp_path: Path, about: dict[str, Any]) -> None:
    roi = write(tmp_path, feature(100, 100, 900, 900), about=about)
    assert read_roi(roi, SCN).shape.bounds == (3182, 5384, 3982, 6184)


def test_what_is_cut_out_alone_is_placed_too(tmp_path: Path) -> None:
    fold = feature(3500, 5600, 3600, 5700, name="fold", kind="Ignore*")
    with pytest.raises(RoiError, match="pass --qupath-frame full"):
        read_roi(write(tmp_path, fold), SCN)
    region = read_roi(write(tmp_path, fold), SCN, qupath_frame=FULL)
    assert region.area_px0() == 2202**2 - 100**2


def test_unused_annotations_do_not_decide(tmp_path: Path) -> None:
    tumour = feature(100, 100, 900, 900, kind="Tumor")
    elsewhere = feature(8000, 8000, 12_000, 12_000, kind="Stroma")
    assert read_roi(write(tmp_path, tumour, elsewhere), SCN).area_px0() == 800 * 800

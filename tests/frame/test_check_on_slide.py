"""``wsipsm check --slide``: positions must lie where the slide holds pixels, in the frame that the file is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from drawn_canvas import write_sparse
from typer.testing import CliRunner, Result

from wsipsm.cli.main import app
from wsipsm.export.annotations import Annotation, annotation_bytes, read_outline
from wsipsm.facts import FileFacts
from wsipsm.geometry import Box
from wsipsm.keys import QuPathFrame
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import open_slide

CONTENT = Box(1024, 512, 768, 512)


ABOUT = {"software": "", "slide_fingerprint": "", "qupath_frame": "cropped"}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.full((CONTENT.height, CONTENT.width, 3), 180, np.uint8)
    path = tmp_path_factory.mktemp("drawn") / "sparse.tif"
    return write_sparse(path, pixels, (4096, 3072), (CONTENT.x, CONTENT.y))


@pytest.fixture(scope="module")
def info(slide: Path) -> SlideInfo:
    with open_slide(slide) as opened:
        return opened.info


def check(file: Path, *args: object) -> Result:
    return CliRunner().invoke(app, ["check", str(file), *map(str, args)])


def write(path: Path, shape: shapely.Geometry, frame: SlideFrame, **about: Any) -> Path:
    path.write_bytes(annotation_bytes(frame, [Annotation(shape, "part")], FileFacts(**{**ABOUT, **about})))
    return path


def plain(path: Path, box: tuple[float, float, float, float]) -> Path:
    """Write an annotation that says nothing about its slide, as QuPath would."""
    feature = {
        "type": "Feature",
        "id": "d3b7a0f2-51c5-4f0e-9d0b-6f8f2f3f6a10",
        "geometry": shapely.geometry.mapping(shapely.box(*box)),
        "properties": {"objectType": "annotation"},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


@pytest.mark.parametrize("qupath", list(QuPathFrame))
def test_what_wsipsm_writes_says_its_frame(info: SlideInfo, slide: Path, tmp_path: Path, qupath: QuPathFrame) -> None:
    frame = SlideFrame.of(info, qupath)
    facts = {"qupath_frame": qupath.value, "slide_fingerprint": info.fingerprint}
    file = write(tmp_path / "own.geojson", frame.outline, frame, **facts)
    for asked in QuPathFrame:
        done = check(file, "--slide", slide, "--qupath-frame", asked)
        assert done.exit_code == 0, done.output
        assert f"{qupath.value} frame" in done.output


def test_the_frame_of_other_files_is_chosen(slide: Path, tmp_path: Path) -> None:
    cropped = plain(tmp_path / "cropped.geojson", (0, 0, 768, 512))
    full = plain(tmp_path / "full.geojson", (1024, 512, 1792, 1024))
    assert check(cropped, "--slide", slide).exit_code == 0
    assert check(full, "--slide", slide, "--qupath-frame", "full").exit_code == 0
    for file, frame in ((cropped, "full"), (full, "cropped")):
        done = check(file, "--slide", slide, "--qupath-frame", frame)
        assert done.exit_code == 1
        assert "outside the image" in done.output
        assert "--qupath-frame chooses the other one" in done.output


@pytest.mark.parametrize("box", [(-1, 0, 700, 500), (0, 0, 768.01, 500), (0, 0, 700, 513), (1500, 100, 1600, 200)])
def test_positions_beside_the_slide(slide: Path, tmp_path: Path, box: tuple[float, float, float, float]) -> None:
    done = check(plain(tmp_path / "a.geojson", box), "--slide", slide, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert found["qupath_frame"] == "cropped"
    assert found["problems"][0].endswith("0 to 768, 0 to 512 is needed. [bounds]")


def test_a_file_of_another_slide(info: SlideInfo, slide: Path, tmp_path: Path) -> None:
    frame = SlideFrame.of(info)
    done = check(write(tmp_path / "a.geojson", frame.outline, frame, slide_fingerprint="f" * 64), "--slide", slide)
    assert done.exit_code == 1
    assert "made of another slide" in done.output


def test_a_slide_that_does_not_open(tmp_path: Path) -> None:
    done = check(plain(tmp_path / "a.geojson", (0, 0, 10, 10)), "--slide", tmp_path / "none.svs")
    assert done.exit_code not in (0, 1)


def test_annotations_are_cut_to_the_slide_and_rounded(info: SlideInfo, slide: Path, tmp_path: Path) -> None:
    frame = SlideFrame.of(info)
    ragged = shapely.Point(1100, 600).buffer(333.333).union(shapely.Point(1700, 900).buffer(150.1))
    file = write(tmp_path / "a.geojson", ragged, frame, slide_fingerprint=info.fingerprint)
    assert check(file, "--slide", slide).exit_code == 0, check(file, "--slide", slide).output
    content = annotation_bytes(frame, [Annotation(ragged, "a")], FileFacts(**ABOUT), ragged)
    assert read_outline(content).equals_exact(ragged, 0)
    nothing = annotation_bytes(
        frame, [Annotation(shapely.box(0, 0, 50, 50), "far")], FileFacts("", info.fingerprint, frame.qupath)
    )
    assert json.loads(nothing)["features"] == []
    (tmp_path / "none.geojson").write_bytes(nothing)
    assert check(tmp_path / "none.geojson", "--slide", slide).exit_code == 0


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"wsipsm":{}}', b'{"wsipsm":{"outline_px0_wkb":"00"}}', b'{"wsipsm":3}']
)
def test_outlines_that_cannot_be_read(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_outline(content)

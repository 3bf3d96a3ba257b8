"""A cohort looked at before work starts: everything at once, also what takes the process down that opens it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from stand_in import draw_slide

from wsipsm.cohort.check import check_slides
from wsipsm.cohort.discover import CohortSlide, read_cohort
from wsipsm.config import RunOptions
from wsipsm.errors import ModelError
from wsipsm.remote.cache import SlideCache

SITE = """
import ctypes, time
import wsipsm.slide.readers.image as image

class Hostile(image.ImageSlide):
    def __init__(self, path, mpp=None):
        if "crash" in path.name:
            ctypes.string_at(0)
        if "forever" in path.name:
            time.sleep(3600)
        super().__init__(path, mpp)

image.ImageSlide = Hostile
"""
SQUARE = (
    '{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": '
    "[[[10, 10], [90, 10], [90, 90], [10, 90], [10, 10]]]}}"
)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder, in the processes that open slides, that really crashes or hangs on files of certain names."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_everything_is_told_at_once(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "good.png", 100, 100)
    (tmp_path / "broken.svs").write_bytes(b"no slide at all")
    (tmp_path / "roi.geojson").write_text(SQUARE)
    (tmp_path / "empty.geojson").write_text("{}")
    (tmp_path / "cohort.csv").write_text(
        "slide,id,mpp,model,roi\n"
        "good.png,good,0.5,nuclei-he,roi.geojson\n"
        "good.png,no mpp,,,\n"
        "good.png,absurd,40,,\n"
        "absent.svs,absent,0.5,nuclei-hf,gone.geojson\n"
        "broken.svs,broken,0.5,,\n"
        "good.png,roi,0.5,,empty.geojson\n"
        "good.png,model,0.5,gone.safetensors,\n"
    )
    cohort = read_cohort([tmp_path / "cohort.csv"], tmp_path / "out")
    assert cohort.problems == ()
    progress: list[tuple[int, int]] = []
    problems = check_slides(cohort.slides, RunOptions(), announce=lambda done, total: progress.append((done, total)))
    assert progress == [(n, 7) for n in range(1, 8)]
    told = [(problem.slide_id, problem.reason) for problem in problems]
    expected = [
        ("no mpp", "no pixel size"),
        ("absurd", "40 um/px"),
        ("absent", "no such file; a slide"),
        ("absent", "gone.geojson: no such file"),
        ("absent", "nuclei-hf"),
        ("broken", "a text file"),
        ("roi", "empty.geojson"),
        ("model", "gone.safetensors"),
    ]
    assert [name for name, _ in told] == [name for name, _ in expected]
    for (_, reason), (_, part) in zip(told, expected, strict=True):
        assert part in reason
        assert reason.startswith(f"{tmp_path / 'cohort.csv'}, line ")
        assert "\n" not in reason
    assert problems[0].source == str(slide)


def test_options_stand_in_for_what_slides_lack(tmp_path: Path) -> None:
    slides = [CohortSlide(draw_slide(tmp_path / "a.png", 100, 100), "a")]
    assert check_slides(slides, RunOptions(mpp=0.5)) == []
    assert [p.slide_id for p in check_slides(slides, RunOptions(mpp=0.5, roi=tmp_path / "gone.geojson"))] == ["a"]
    with pytest.raises(ModelError, match="nuclei-hf"):
        check_slides(slides, RunOptions(mpp=0.5, model="nuclei-hf"))
    assert check_slides([], RunOptions()) == []


@pytest.mark.usefixtures("hostile")
def test_what_crashes_or_hangs_the_decoder_is_named_and_alone(tmp_path: Path) -> None:
    slides = []
    for n in range(36):
        name = {7: "crash-7.png", 20: "forever-20.png", 30: "crash-30.png"}.get(n, f"case-{n}.png")
        path = tmp_path / name
        if n == 0:
            draw_slide(path, 64, 64)
        else:
            shutil.copy(slides[0].path, path)
        slides.append(CohortSlide(path, path.stem))
    start = time.monotonic()
    problems = check_slides(slides, RunOptions(mpp=0.5), n_processes=2, patience_s=8)
    assert time.monotonic() - start < 120
    assert [problem.slide_id for problem in problems] == ["crash-7", "forever-20", "crash-30"]
    assert "crashed the decoder (SIGSEGV), 2 times" in problems[0].reason
    assert "did not open within 8 s" in problems[1].reason


def test_slides_by_address_are_asked_for(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "a.png", 64, 64)
    slides = [CohortSlide(slide, "a", url=slide.as_uri()), CohortSlide(slide, "b", url=f"file://{tmp_path}/gone.png")]
    assert check_slides(slides, RunOptions()) == []
    problems = check_slides(slides, RunOptions(), SlideCache(tmp_path / "cache", pauses_s=()))
    assert [problem.slide_id for problem in problems] == ["b"]
    refused = CohortSlide(Path("a.svs"), "c", url="ftp://host/a.svs")  # told where the manifest is read, and no end
    assert check_slides([refused], RunOptions(), SlideCache(tmp_path / "cache")) == []
    small = check_slides(slides[:1], RunOptions(), SlideCache(tmp_path / "cache", max_bytes=10))
    assert "--cache-bytes" in small[0].reason


def test_stopped_in_the_middle(tmp_path: Path) -> None:
    path = draw_slide(tmp_path / "a.png", 64, 64)
    slides = [CohortSlide(path, f"{n}") for n in range(40)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_slides(slides, RunOptions(mpp=0.5), announce=stop)


def test_real_slides(slides_dir: Path, tmp_path: Path) -> None:
    cohort = read_cohort([slides_dir / "broken", slides_dir / "derived"], tmp_path / "out")
    bad = {problem.slide_id for problem in check_slides(cohort.slides, RunOptions())}
    assert bad == {
        "broken-random-bytes",
        "empty",
        "generic-tiff-ki67-rgb-tag-on-ycbcr-jpeg",
        "mirax-no-data-folder",
        "aperio-jpeg-ihc-ki67-nompp",
    }

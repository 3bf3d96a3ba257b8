"""A picture at a wrong pixel size is flagged with the size that fits; one at its own is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsipsm.config import RunOptions
from wsipsm.demo.draw import draw_slide
from wsipsm.errors import MissingMppError
from wsipsm.events import ignore_events
from wsipsm.quality.finding import Finding
from wsipsm.stages.info import describe_slide
from wsipsm.stages.run import run_slide


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "drawn.tiff"
    draw_slide(path, size=(1500, 1200), n_nuclei=500)
    return path


def picture_of(path: Path, mpp: float | None = None) -> Finding:
    return next(finding for finding in describe_slide(path, mpp).findings if finding.name == "pixel_size")


@pytest.mark.parametrize(
    ("mpp", "verdict"), [(None, "ok"), (0.5, "flag"), (0.635, "flag"), (1.0, "flag"), (0.08, "flag")]
)
def test_a_drawn_slide(drawn: Path, mpp: float | None, verdict: str) -> None:
    finding = picture_of(drawn, mpp)
    assert finding.verdict == verdict
    assert finding.value == pytest.approx(0.25, rel=0.4)


def test_a_run_can_refuse_it_with_the_size_that_fits(drawn: Path, tmp_path: Path) -> None:
    options = RunOptions(mpp=1.0, on_pixel_size="refuse", workers=0)
    with pytest.raises(MissingMppError, match=r"--mpp 0\.[23]") as caught:
        run_slide(drawn, tmp_path, options, ignore_events)
    assert caught.value.exit_code == 3


def test_results_that_were_flagged_are_refused_without_being_made_again(drawn: Path, tmp_path: Path) -> None:
    flagged = RunOptions(mpp=0.08, workers=0)
    run_slide(drawn, tmp_path, flagged, ignore_events)
    with pytest.raises(MissingMppError, match=r"--mpp 0\.[23]"):
        run_slide(drawn, tmp_path, flagged.model_copy(update={"on_pixel_size": "refuse"}), ignore_events)
    assert run_slide(drawn, tmp_path, flagged, ignore_events).was_done


@pytest.mark.parametrize(
    ("name", "mpp", "verdict"),
    [
        ("aperio-jp2k33005-he-tcga-cr-7395-nompp.svs", 0.25, "flag"),
        ("aperio-jp2k33005-he-tcga-cr-7395-nompp.svs", 1.0, "ok"),
        ("ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif", None, "ok"),
        ("ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif", 0.577, "flag"),
        ("ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif", 0.4542, "flag"),
        ("ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif", 0.0894, "flag"),
        ("aperio-jpeg-he-skin-cmu1-small-region.svs", None, "ok"),
        ("aperio-jpeg-he-skin-cmu1-small-region.svs", 1.0, "flag"),
        ("ometiff-he-tma-core-instanseg.ome.tif", None, "ok"),
        ("aperio-jp2k33003-ihc-dab-luna-1065626.svs", None, "ok"),
    ],
)
def test_real_slides(slides_dir: Path, name: str, mpp: float | None, verdict: str) -> None:
    assert picture_of(slides_dir / "real" / name, mpp).verdict == verdict


def test_info_tells_what_a_run_finds_before_its_nuclei(drawn: Path, tmp_path: Path) -> None:
    report = describe_slide(drawn)
    summary = run_slide(drawn, tmp_path, RunOptions(workers=0), ignore_events)
    assert {"pixel_size", "share_in_focus", "ink_fraction"} < {one.name for one in report.findings}
    assert [one for one in report.findings if one not in summary.checks] == []
    assert (report.model, report.stain) == (summary.model, summary.stain)
    assert report.tissue_fraction == pytest.approx(summary.tissue_fraction, abs=1e-6)

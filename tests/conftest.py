"""Shared fixtures: where the real data lies, and which tests are slow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

DATA_DIR = Path(os.environ.get("WSIPSM_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session", autouse=True)
def no_gpu_is_seen() -> Iterator[None]:
    """Hide GPUs from torch, here and in processes that tests start: results are those of any other machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="session", autouse=True)
def own_network_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled networks for these tests alone: no test finds, or leaves, one among the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSIPSM_NETWORK_CACHE", str(tmp_path_factory.mktemp("networks", numbered=True)))
        yield


@pytest.fixture(autouse=True)
def every_geojson_passes_the_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check, against its slide, every GeoJSON that runs left in the test's own folder.

    Folders whose slide is gone or was replaced, or whose run.json the test damaged, are passed over.
    """
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    for run in sorted(folder.rglob("run.json")) if folder is not None else ():
        problems = _problems_of_run(run)
        assert not problems, problems


def _problems_of_run(run: Path) -> list[str]:
    from wsipsm.errors import WsipsmError
    from wsipsm.export.geojson_check import OnSlide, examine_geojson
    from wsipsm.slide.frame import SlideFrame
    from wsipsm.slide.open import open_slide

    try:
        slide = orjson.loads(run.read_bytes())["slide"]
        with open_slide(slide["path"], image=slide["image"]) as opened:
            info = opened.info
    except (ValueError, KeyError, TypeError, OSError, WsipsmError):
        return []
    if info.fingerprint != slide["fingerprint"]:
        return []
    names = ("cells.geojson.gz", "score.geojson", "region.geojson")
    files = [run.parent / name for name in names if (run.parent / name).is_file()]
    on_slide = OnSlide(SlideFrame.of(info), info.fingerprint)
    problems = [(file, problem) for file in files for problem in examine_geojson(file, slide=on_slide).problems]
    # Scores of a slide that stood there before are kept.
    for file in run.parent.glob("scores/*.geojson"):
        problems += [(file, one) for one in examine_geojson(file, slide=on_slide).problems if one.rule != "slide"]
    return [f"{file}: {problem}" for file, problem in problems]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real slides and images; tests that need it skip when it is absent."""
    if not DATA_DIR.is_dir():
        pytest.skip(f"no test data at {DATA_DIR}; set WSIPSM_TEST_DATA")
    return DATA_DIR


@pytest.fixture(scope="session")
def slides_dir(data_dir: Path) -> Path:
    return data_dir / "slides"


@pytest.fixture(scope="session")
def tiny_engine() -> str:
    """Settings of the paper's engine as TOML, in the smallest trainings that run."""
    return """
[pretext]
network = "torchvision:resnet18"
steps = 1
batch = 2
crop_px = 64
[clusters]
min_area_px = 40
[detection]
steps = 1
batch = 1
crop_px = 32
[segmentation]
steps = 1
batch = 1
crop_px = 32
"""


@pytest.fixture
def marker_er(monkeypatch: pytest.MonkeyPatch) -> None:
    """ER is known, by a file beside those of the package, as of whoever adds a marker."""
    from wsipsm.markers import known

    folder = Path(__file__).parent / "drawn" / "more_markers"
    monkeypatch.setattr(known, "__path__", [*known.__path__, str(folder)])
    # Loaded within the test, it is forgotten with it.
    monkeypatch.setitem(sys.modules, "wsipsm.markers.known.er", None)
    monkeypatch.delitem(sys.modules, "wsipsm.markers.known.er")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a network that is known in full in place of a model, for the time of a test."""
    from stand_in import PLACES

    from wsipsm.stages.block import release_worker

    for module, name, replacement in PLACES:
        monkeypatch.setattr(f"{module}.{name}", replacement)
    release_worker()
    yield
    release_worker()

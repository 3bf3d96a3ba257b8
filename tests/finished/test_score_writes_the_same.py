"""A scoring's files are the same bytes, whether features are taken from the run's file or made anew."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import shapely
from stand_in import MPP, draw_slide

from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.finished.rescore import score_result
from wsipsm.keys import Artefact
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")
FILES = (Artefact.CELLS, Artefact.GEOJSON, Artefact.SCORE, Artefact.SCORE_AREAS, Artefact.OVERVIEW)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    slide = draw_slide(tmp_path_factory.mktemp("drawn") / "case.png", 1400, 1100, seed=4)
    options = RunOptions(mpp=MPP, workers=0, block_px=512, tile_px=512)
    return Path(run_slide(slide, slide.parent / "out", options, ignore_events).folder)


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "case"))


def own(folder: Path) -> Path:
    return folder / Artefact.SCORES / "run"


def change_summary(folder: Path, **values: Any) -> None:
    path = own(folder) / Artefact.SUMMARY
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), **values}))


def without_digests(folder: Path) -> Path:
    """A copy whose features are made anew, since nothing says that the run's are as they were."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    change_summary(copy, nuclei_sha256={})
    return copy


def scored(folder: Path, **values: Any) -> dict[str, bytes]:
    score_result(folder, **values)
    return {name.value: (folder / name).read_bytes() for name in FILES}


def change_features(folder: Path, change: Callable[[bytes], bytes], *, and_the_digest: bool) -> None:
    path = own(folder) / Artefact.GEOJSON
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))
    if and_the_digest:
        files = (Artefact.CELLS, Artefact.GEOJSON)
        digests = {name.value: hashlib.sha256((own(folder) / name).read_bytes()).hexdigest() for name in files}
        change_summary(folder, nuclei_sha256=digests)


def of_another_last_nucleus(text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    lines[-2] = re.sub(rb'"Solidity":[0-9.]+', b'"Solidity":7.5', lines[-2])
    return b"".join(lines)


def test_in_every_way_of_scoring(folder: Path, tmp_path: Path) -> None:
    ring = shapely.Point(600, 500).buffer(380).difference(shapely.Point(500, 450).buffer(90))
    roi = tmp_path / "roi.geojson"
    roi.write_bytes(orjson.dumps(shapely.geometry.mapping(ring)))
    nowhere = tmp_path / "nowhere.geojson"
    nowhere.write_bytes(orjson.dumps(shapely.geometry.mapping(shapely.box(0, 0, 3, 3))))
    copy = without_digests(folder)
    found = {}
    ways: dict[str, dict[str, Any]] = {
        "lower cut": {"dab_cut_od": 0.05},
        "higher cut": {"dab_cut_od": 0.6},
        "region": {"roi": roi},
        "region and cut": {"roi": roi, "dab_cut_od": 0.2},
        "no nucleus": {"roi": nowhere},
        "frame": {"qupath_frame": "full"},
        "marker": {"marker": "ER"},
    }
    for name, values in ways.items():
        found[name] = scored(folder, **values)
        assert found[name] == scored(copy, **values), name
    assert len({files[Artefact.GEOJSON] for files in found.values()}) == len(found)
    assert b"withheld" in b"".join(files[Artefact.SCORE] for files in found.values())


def test_features_come_from_the_runs_file_where_it_is_known(folder: Path) -> None:
    change_features(folder, of_another_last_nucleus, and_the_digest=True)
    assert b'"Solidity":7.5' in gzip.decompress(scored(folder, dab_cut_od=0.2)[Artefact.GEOJSON])


@pytest.mark.parametrize("case", ["edited", "absent", "another form", "a nucleus less"])
def test_a_file_that_is_not_the_runs_own_is_passed_over(case: str, folder: Path) -> None:
    expected = scored(without_digests(folder), dab_cut_od=0.2)
    if case == "edited":
        change_features(folder, of_another_last_nucleus, and_the_digest=False)
    elif case == "absent":
        (own(folder) / Artefact.GEOJSON).unlink()
    elif case == "another form":
        change_features(folder, lambda text: text.replace(b".0,", b".00,"), and_the_digest=True)
    elif case == "a nucleus less":
        change_features(folder, lambda text: b"\n".join(text.split(b"\n")[:-3]) + b"\n]}\n", and_the_digest=True)
    assert scored(folder, dab_cut_od=0.2) == expected

"""Whatever was run, scored and killed, a folder that is called finished agrees with itself."""

from __future__ import annotations

import gzip
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
import shapely
from stand_in import MPP, draw_slide
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.finished.check import check_result
from wsipsm.finished.rescore import score_result
from wsipsm.keys import Artefact
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")
_ACTS = ("replace", "rename", "link", "unlink", "rmdir", "mkdir")
_KILLED = 77


def options(**values: Any) -> RunOptions:
    return RunOptions(**{"mpp": MPP, "workers": 0, "block_px": 256, "tile_px": 256, **values})


def write_roi(path: Path, shape: shapely.Geometry) -> Path:
    path.write_bytes(orjson.dumps(shapely.geometry.mapping(shape)))
    return path


def killed(act: Callable[[], object], after: int) -> bool:
    """Do something in a process that ends, without any cleaning up, at one of its changes of the disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads that a fork does not take along are not needed
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == _KILLED
    try:
        left = [after]
        for name in _ACTS:
            setattr(os, name, _ending(getattr(os, name), left))
        act()
    finally:
        os._exit(0)


def _ending(real: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def act(*args: Any, **values: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os._exit(_KILLED)
        return real(*args, **values)

    return act


def test_random_sequences_with_kills(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "case.png", 240, 200, seed=3)
    folder = tmp_path / "out" / "case"
    rois = [write_roi(tmp_path / f"{n}.geojson", shapely.box(10, 10, 90 + 50 * n, 150)) for n in range(3)]
    run_slide(slide, folder.parent, options(), ignore_events)
    rng = random.Random(11)
    acts: list[tuple[str, Callable[[], object]]] = [
        ("run", lambda: run_slide(slide, folder.parent, options(), ignore_events)),
        ("run with a region", lambda: run_slide(slide, folder.parent, options(roi=rois[2]), ignore_events)),
        ("score", lambda: score_result(folder)),
        *((f"score {roi.name}", lambda roi=roi: score_result(folder, roi)) for roi in rois),
        ("cut 0.3", lambda: score_result(folder, dab_cut_od=0.3)),
        ("region and cut", lambda: score_result(folder, rois[1], 0.2)),
    ]
    n_killed = 0
    for _ in range(24):
        name, act = rng.choice(acts)
        after = rng.randrange(30)
        was_killed = killed(act, after)
        n_killed += was_killed
        if not was_killed:
            assert check_result(folder) == [], name
            continue
        if (folder / Artefact.SUMMARY).exists():
            assert check_result(folder) == [], f"{name}, killed after {after} changes"
        if (folder / "scores" / "run" / Artefact.SUMMARY).exists() and rng.random() < 0.5:
            score_result(folder, rng.choice(rois))
        else:
            run_slide(slide, folder.parent, options(), ignore_events)
        assert check_result(folder) == [], f"after {name}, killed after {after} changes"
    assert n_killed >= 8
    assert run_slide(slide, folder.parent, options(), ignore_events).n_nuclei > 20
    assert not [path for path in folder.rglob(".wsipsm-*") if path.is_dir()]


def test_a_wider_region_finds_the_runs_nuclei_again(tmp_path: Path) -> None:
    slide = draw_slide(tmp_path / "case.png", 240, 200, seed=3)
    folder = Path(run_slide(slide, tmp_path / "out", options(), ignore_events).folder)
    narrow, wide = (write_roi(tmp_path / f"{n}.geojson", shapely.box(0, 0, n, 200)) for n in (60, 200))
    direct = score_result(folder, wide).score.index
    ids = pq.read_table(folder / Artefact.CELLS).column("nucleus_id").to_pylist()
    assert score_result(folder, narrow).score.index.n_scored < direct.n_scored
    assert score_result(folder, wide).score.index == direct
    assert pq.read_table(folder / Artefact.CELLS).column("nucleus_id").to_pylist() == ids


def _other_class(folder: Path) -> None:
    path = folder / Artefact.GEOJSON
    with gzip.open(path) as file:
        content = file.read()
    path.unlink()
    with gzip.open(path, "wb") as file:
        file.write(content.replace(b'"Negative"', b'"Positive"', 1))


def _other_count(folder: Path) -> None:
    path = folder / Artefact.SUMMARY
    values = orjson.loads(path.read_bytes())
    path.unlink()
    path.write_bytes(orjson.dumps({**values, "n_positive": values["n_positive"] + 1}))


def _of_another(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / "scores" / "run" / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(content)

    return damage


def test_what_does_not_agree_is_told(tmp_path: Path) -> None:
    """One file after the other is replaced by that of another scoring, or changed a little."""
    slide = draw_slide(tmp_path / "case.png", 240, 200, seed=3)
    folder = Path(run_slide(slide, tmp_path / "out", options(), ignore_events).folder)
    score_result(folder, write_roi(tmp_path / "roi.geojson", shapely.box(10, 10, 150, 150)), 0.3)
    names = [one for one in Artefact if (folder / "scores" / "run" / one.value).is_file() and (folder / one).is_file()]
    assert len(names) == 6
    for told, damage in [
        *((one.value, _of_another(one.value)) for one in names),
        (Artefact.GEOJSON.value, _other_class),
        (Artefact.SUMMARY.value, _other_count),
    ]:
        before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert check_result(folder) == []
        damage(folder)
        problems = check_result(folder)
        assert any(told in problem for problem in problems), (told, problems)
        done = CliRunner().invoke(app, ["check", str(folder)])
        assert done.exit_code == 1
        assert problems[0] in done.output
        for path, content in before.items():
            path.unlink(missing_ok=True)
            path.write_bytes(content)
    assert CliRunner().invoke(app, ["check", str(folder), "--json"]).exit_code == 0

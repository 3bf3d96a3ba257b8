"""Commands on a small drawn slide: what they print, what they leave, how they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from wsipsm.cli import demo
from wsipsm.cli.main import app
from wsipsm.demo.compare import Comparison
from wsipsm.demo.draw import draw_slide
from wsipsm.keys import BACKENDS, Artefact
from wsipsm.models.shipped import DEFAULT_MODELS, shipped_names

RUNNER = CliRunner()
FILES = {artefact.value for artefact in Artefact} - {
    Artefact.SHARDS.value,
    Artefact.REGION.value,
    Artefact.TRACE.value,
}


def wsipsm(*args: object) -> Result:
    return RUNNER.invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "case 07.tiff"
    draw_slide(path, size=(800, 600), n_nuclei=120)
    return path


@pytest.fixture(scope="module")
def first_run(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("results")
    return wsipsm("run", slide, "--out", out, "--workers", "0"), out


def test_run_tells_progress_on_stderr_and_results_on_stdout(first_run: tuple[Result, Path]) -> None:
    result, out = first_run
    assert result.exit_code == 0, result.output
    assert "examining the slide" in result.stderr
    assert "1/1 blocks" in result.stderr
    assert "Ki-67 labelling index: " in result.stdout
    assert str(out / "case 07") in result.stdout
    assert {path.name for path in (out / "case 07").iterdir()} >= FILES


def test_results_pass_the_checker(first_run: tuple[Result, Path]) -> None:
    _, out = first_run
    result = wsipsm("check", out / "case 07" / Artefact.GEOJSON)
    assert result.exit_code == 0, result.output
    assert json.loads(wsipsm("check", out / "case 07" / Artefact.GEOJSON, "--json").stdout)["ok"] is True


def test_json_is_one_object_and_nothing_else(first_run: tuple[Result, Path], slide: Path) -> None:
    _, out = first_run
    result = wsipsm("run", slide, "--out", out, "--workers", "0", "--json")
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.stderr == ""
    stored = json.loads((out / "case 07" / Artefact.SUMMARY).read_text())
    assert told["n_nuclei"] == stored["n_nuclei"] > 0
    assert told["labelling_index"]["n_scored"] == told["n_nuclei"]


def test_finished_run_is_not_done_again(first_run: tuple[Result, Path], slide: Path) -> None:
    _, out = first_run
    before = (out / "case 07" / Artefact.CELLS).stat().st_mtime_ns
    result = wsipsm("run", slide, "--out", out, "--workers", "0")
    assert "--overwrite" in result.stdout
    assert (out / "case 07" / Artefact.CELLS).stat().st_mtime_ns == before


def test_quiet_prints_nothing(first_run: tuple[Result, Path], slide: Path) -> None:
    _, out = first_run
    result = wsipsm("run", slide, "--out", out, "--workers", "0", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_info(slide: Path) -> None:
    result = wsipsm("info", slide)
    assert result.exit_code == 0, result.output
    assert "800 x 600 px" in result.stdout
    assert "0.2500 um/px" in result.stdout
    assert "ki67-ihc" in result.stdout
    told = json.loads(wsipsm("info", slide, "--json").stdout)
    assert (told["width_px0"], told["height_px0"], told["stain"]) == (800, 600, "ihc")
    assert json.loads(wsipsm("info", slide, "--mpp", "0.5", "--json").stdout)["mpp"] == 0.5


def test_models() -> None:
    result = wsipsm("models")
    assert result.exit_code == 0, result.output
    names = {card["name"] for card in json.loads(wsipsm("models", "--json").stdout)["models"]}
    assert names == set(shipped_names()) >= {*DEFAULT_MODELS.values()}
    assert all(name in result.stdout for name in names)


@pytest.mark.parametrize("command", ["run", "cohort"])
def test_help_names_all_models_and_backends(command: str) -> None:
    shown = " ".join(wsipsm(command, "--help").output.replace("\u2502", " ").split())
    assert f"{', '.join(shipped_names())} or a .safetensors file" in shown
    assert "|".join(BACKENDS) in shown


def test_errors_name_all_models_and_backends(slide: Path, tmp_path: Path) -> None:
    refused = wsipsm("run", slide, "--out", tmp_path, "--model", "nuclei")
    assert all(name in refused.output for name in shipped_names())
    refused = wsipsm("run", slide, "--out", tmp_path, "--backend", "onnx")
    assert all(name in refused.output for name in BACKENDS)


def test_cohort_goes_on_after_a_failure(slide: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"no slide")
    given = ("cohort", broken, slide, "--out", tmp_path / "out", "--workers", "0")
    refused = wsipsm(*given)
    assert refused.exit_code == 2, refused.output
    assert "--skip-bad" in refused.stderr
    result = wsipsm(*given, "--skip-bad")
    assert result.exit_code == 5, result.output
    assert "broken.svs" in result.stdout
    table = (tmp_path / "out" / "cohort.csv").read_text().splitlines()
    assert len(table) == 3


def comparison(**values: Any) -> Comparison:
    facts: dict[str, Any] = {
        "n_drawn": 1000,
        "n_found": 1000,
        "n_matched": 980,
        "n_same_class": 970,
        "median_iou": 0.8,
        "index_drawn": 0.27,
        "index_measured": 0.28,
    }
    return Comparison(**{**facts, **values})


@pytest.mark.parametrize(
    ("values", "agrees"),
    [
        ({}, True),
        ({"n_matched": 970}, True),
        ({"n_matched": 969}, False),
        ({"index_measured": 0.295}, False),
        ({"index_measured": 0.245}, False),
        ({"index_measured": None}, False),
        ({"n_found": 0, "n_matched": 0, "n_same_class": 0, "median_iou": None, "index_measured": None}, False),
    ],
)
def test_demo_judges_recall_and_index(values: dict[str, Any], agrees: bool) -> None:
    compared = comparison(**values)
    assert demo.agrees_with_truth(compared) is agrees
    text = "\n".join(demo.lines_about_comparison(compared, agrees))
    assert ("does NOT agree" in text) is not agrees
    assert "27.0%" in text


def test_pictures_open_only_where_they_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    demo.show_picture(tmp_path / "overview.png", wanted=True)
    assert capsys.readouterr().out == f"Look at {tmp_path / 'overview.png'}\n", "stdout is no terminal here"


@pytest.mark.slow
def test_demo_agrees_with_its_truth(tmp_path: Path) -> None:
    result = wsipsm("demo", "--out", tmp_path / "demo", "--no-open", "--workers", "0")
    assert result.exit_code == 0, result.output
    assert "The result agrees with the truth." in result.stdout
    shutil.rmtree(tmp_path / "demo")

"""A cohort goes on by the name of its folder alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsipsm.cli.main import app
from wsipsm.cohort.request import REQUEST_NAME, CohortOptions, keep_request, read_request
from wsipsm.config import RunOptions
from wsipsm.errors import UsageError


def test_paths_hold_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    options = RunOptions(model="mine.safetensors", roi=Path("roi.geojson"), overwrite=True, workers=3)
    sources = ["slides/*.svs", "https://host/slide.svs"]
    keep_request(tmp_path, sources, options, CohortOptions(retry=4, stain_from="ref.svs", cache=Path("kept")))
    monkeypatch.chdir("/")
    kept = read_request(tmp_path)
    assert kept.sources == (str(tmp_path / "slides/*.svs"), "https://host/slide.svs")
    assert kept.options.model == str(tmp_path / "mine.safetensors")
    assert kept.options.roi == tmp_path / "roi.geojson"
    # What was done would be done again with every command.
    assert not kept.options.overwrite
    assert (kept.how.retry, kept.how.cache) == (4, tmp_path / "kept")
    assert kept.how.stain_from == str(tmp_path / "ref.svs")


def test_names_stay_names(tmp_path: Path) -> None:
    keep_request(tmp_path, ["a.svs"], RunOptions(model="ki67-ihc"), CohortOptions(stain_from="batch"))
    kept = read_request(tmp_path)
    assert (kept.options.model, kept.how.stain_from) == ("ki67-ihc", "batch")


@pytest.mark.parametrize("text", ["", "[]", '{"sources": ["a"], "options": {"block_px": 1}, "how": {}}'])
def test_a_damaged_request_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / REQUEST_NAME).write_text(text)
    with pytest.raises(UsageError, match=REQUEST_NAME):
        read_request(tmp_path)


def run_cli(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["cohort", *arguments])
    return result.exit_code, result.output + str(result.exception or "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "a slide, a folder or a manifest is needed"),
        (("slides",), "--out DIR is needed"),
        (("--resume", "absent"), "an earlier 'wsipsm cohort ... --out' wrote to is needed"),
        (("slides", "--resume", "absent"), "continues with its first options"),
        (("--resume", "absent", "--model", "ki67-ihc"), "continues with its first options"),
        (("--resume", "absent", "--stain-from", "batch"), "continues with its first options"),
    ],
)
def test_what_cannot_be_gone_on_with(
    arguments: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run_cli(*arguments)
    assert code == 2
    assert told in " ".join(said.split())


def test_a_cohort_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from wsipsm.demo.draw import draw_array

    cohort, out = tmp_path / "cohort", tmp_path / "out"
    cohort.mkdir()
    Image.fromarray(draw_array(seed=1, size=(300, 300), n_nuclei=40)[0]).save(cohort / "a.png")
    monkeypatch.chdir(tmp_path)
    code, said = run_cli("cohort", "--out", "out", "--mpp", "0.25", "--workers", "0", "--quiet")
    assert code == 0, said
    Image.fromarray(draw_array(seed=2, size=(300, 300), n_nuclei=40)[0]).save(cohort / "b.png")
    monkeypatch.chdir("/")
    code, said = run_cli("--resume", str(out), "--json")
    assert code == 0, said
    told = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert [row["status"] for row in told["slides"]] == ["done", "done"]
    assert {"a", "b"} <= set(os.listdir(out))

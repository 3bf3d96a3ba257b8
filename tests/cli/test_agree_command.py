"""The command agree: what it prints, how it ends, and that its libraries stay out of the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from wsipsm.cli.main import app


def wsipsm(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    reference, cohort = tmp_path / "pathologist.csv", tmp_path / "cohort.csv"
    reference.write_text("slide,ki67\na,4\nb,10\nc,27\nd,40\ne,5\n")
    cohort.write_text(
        "id,slide,status,reason,labelling_index\n"
        + "".join(
            f"{name},{name}.svs,done,,{value}\n"
            for name, value in zip("abcdf", (0.03, 0.12, 0.25, 0.48, 0.2), strict=True)
        )
    )
    return reference, cohort


def test_prints_measures_with_intervals_and_names_what_is_left_out(tables: tuple[Path, Path], tmp_path: Path) -> None:
    result = wsipsm("agree", *tables, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "4 slides compared" in result.stdout
    assert "bias (cohort - reference): +1.75 points (95 % interval " in result.stdout
    assert "ICC(2,1), absolute agreement: 0.9" in result.stdout
    assert "Cohen's kappa, 20 % cut: 1.000 (no disagreement" in result.stdout
    assert "in the reference only (1): e" in result.stdout
    assert "in the cohort only (1): f" in result.stdout
    assert (tmp_path / "out" / "bland_altman.png").is_file()


def test_json_is_one_object(tables: tuple[Path, Path], tmp_path: Path) -> None:
    result = wsipsm("agree", *tables, "--out", tmp_path / "out", "--json")
    told = json.loads(result.stdout)
    assert (told["n_slides"], told["unit"]) == (4, "percent")
    assert told["limits"]["bias"]["value"] == pytest.approx(1.75)
    assert [bands["name"] for bands in told["bands"]] == ["International Ki67 Working Group", "20 % cut"]


def test_quiet_prints_nothing(tables: tuple[Path, Path], tmp_path: Path) -> None:
    result = wsipsm("agree", *tables, "--out", tmp_path / "out", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--unit", "per cent"], "--unit per cent: unknown; one of percent, fraction, count is needed"),
        (["--cohort-unit", "count"], "--cohort-unit count: unknown; one of percent, fraction is needed"),
        (["--unit", "fraction"], "line 2: 4 in column 'ki67'"),
        (["--ref-column", "index"], "no column 'index'; it has ki67"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_code_2(
    tables: tuple[Path, Path], tmp_path: Path, options: list[str], told: str
) -> None:
    result = wsipsm("agree", *tables, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert told in result.stderr


def test_other_commands_do_not_load_its_libraries() -> None:
    code = "import sys, wsipsm.cli.main; sys.exit(bool({'pingouin', 'statsmodels', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Settings of the paper's engine as TOML."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from wsipsm.config import PaperOptions, PretextSection, read_paper_options
from wsipsm.errors import UsageError
from wsipsm.keys import Stain
from wsipsm.psm.pretext import Pretext

PIPELINES = Path(__file__).parents[2] / "pipelines"


PAPER = sorted([*PIPELINES.glob("paper_*.toml"), *PIPELINES.glob("psm_*.toml")])
"""The other files there are recipes of `wsipsm train`."""


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_every_setting_of_the_papers_engine_parses(path: Path) -> None:
    assert read_paper_options(path).seed == 0


@pytest.mark.parametrize(("stain", "name"), [(Stain.HE, "paper_monuseg"), (Stain.IHC, "paper_bcdata")])
def test_the_papers_recipe_is_what_is_done_without_one(stain: Stain, name: str) -> None:
    assert read_paper_options(PIPELINES / f"{name}.toml", stain) == read_paper_options(None, stain)


def test_bcdata_differs_where_the_paper_does() -> None:
    read = read_paper_options(PIPELINES / "paper_bcdata.toml")
    assert (read.stain, read.clusters.beta, read.clusters.fitted) == (Stain.IHC, 4.0, "set")
    assert read.detection == PaperOptions().detection


def test_settings_of_another_stain_are_refused() -> None:
    with pytest.raises(UsageError, match="stain = 'ihc': the images are he"):
        read_paper_options(PIPELINES / "paper_bcdata.toml", Stain.HE)


def test_pretext_tasks_are_those_that_can_be_trained() -> None:
    annotation = PretextSection.model_fields["task"].annotation
    assert set(typing.get_args(annotation)) == {task.value for task in Pretext}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("colour = 1", r"colour = 1: extra inputs"),
        ("[pretext]\nnetworks = 'x'", r"pretext\.networks = 'x': extra inputs"),
        ("[pretext]\ntask = 'jigsaw'", r"pretext\.task = 'jigsaw': input should be 'similarity', .*'none'"),
        ("[pretext]\nbatch = 1", r"pretext\.batch = 1: input should be greater than or equal to 2"),
        ("[activation]\nstage = 'first'", r"activation\.stage = 'first': input should be a valid integer"),
        ("[activation]\nstage = 5", r"activation\.stage = 5: "),
        ("[segmentation]\npoint_weight = -0.5", r"segmentation\.point_weight = -0\.5: "),
        ("stain = 'pas'", r"stain = 'pas': input should be 'he' or 'ihc'"),
        ("budget = nan", r"budget = nan: "),
        ("pretext = 3", r"pretext = 3: "),
        ("[pretext", r"valid TOML is needed"),
        ("seed = 'é".encode("latin-1"), r"valid TOML is needed"),
    ],
)
def test_what_is_refused_names_file_key_and_value(tmp_path: Path, text: str | bytes, told: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=rf"(?i)mine\.toml: (.*; )?{told}"):
        read_paper_options(path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read .*Check --config"):
        read_paper_options(tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"cannot be read .*Check --config"):
        read_paper_options(tmp_path)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = 4\nbudget = 0.5\n")
    assert read_paper_options(path, seed=7) == PaperOptions(seed=7, budget=0.5)
    assert read_paper_options(None, budget=0.1).budget == 0.1
    assert read_paper_options(path, Stain.IHC).stain == Stain.IHC
    with pytest.raises(UsageError, match="--budget 0: refused; input should be greater than 0"):
        read_paper_options(None, budget=0)
    with pytest.raises(UsageError, match="--seed -1: refused"):
        read_paper_options(path, seed=-1)

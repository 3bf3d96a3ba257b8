"""Recipes: those of the shipped models, and what a settings file may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsipsm.errors import UsageError
from wsipsm.keys import Stain
from wsipsm.models.registry import resolve_model
from wsipsm.training.defaults import default_recipe
from wsipsm.training.recipe import Recipe
from wsipsm.training.recipe_file import make_recipe, read_recipe_settings
from wsipsm.training.sources import find_files

PIPELINES = Path(__file__).parents[2] / "pipelines"


def read(name: str) -> Recipe:
    path = PIPELINES / f"{name}.toml"
    settings = read_recipe_settings(path)
    return make_recipe(Stain(str(settings["stain"])), settings, path)


@pytest.mark.parametrize(("name", "model"), [("nuclei_he", "nuclei-he"), ("ki67_ihc", "ki67-ihc")])
def test_settings_of_a_shipped_model_are_those_its_card_states(name: str, model: str) -> None:
    recipe, (_, card) = read(name), resolve_model(model)
    assert recipe.stain == card.stain
    assert recipe.decode == card.decode
    assert recipe.card_sigma_px == card.input_sigma_px
    stated = {key: card.training[key] for key in ("steps", "round_steps", "batch", "seed", "settle_steps")}
    assert stated == {
        "steps": recipe.first.steps,
        "round_steps": ", ".join(str(further.steps) for further in recipe.rounds),
        "batch": recipe.batch,
        "seed": recipe.seed,
        "settle_steps": ", ".join(str(options.steps) for options in recipe.consistency),
    }
    entries = {(source.name, source.terms): None for source in recipe.sources}
    assert list(entries) == [(source.name, source.terms) for source in card.data]


def test_the_fast_model_is_a_student_of_the_other() -> None:
    recipe, (_, card), (_, teacher) = (
        read("nuclei_he_fast"),
        resolve_model("nuclei-he-fast"),
        resolve_model("nuclei-he"),
    )
    assert recipe.distil is not None
    assert (recipe.first.steps, recipe.rounds, recipe.consistency) == (0, (), ())
    assert recipe.distil.steps == card.training["steps"]
    assert recipe.distilled_min_distance == card.decode.min_distance
    assert teacher.mpp * recipe.distil.shrink == card.mpp


@pytest.mark.parametrize("stain", list(Stain))
def test_the_default_recipe_holds_images_back_and_decodes_as_shipped(stain: Stain) -> None:
    recipe = default_recipe(stain)
    assert recipe.hold_back_every > 1
    assert recipe.sources == ()
    assert make_recipe(stain, {}) == recipe
    assert recipe.decode == read("nuclei_he" if stain == Stain.HE else "ki67_ihc").decode


def test_a_file_changes_what_it_states_and_nothing_else() -> None:
    base = default_recipe(Stain.HE)
    settings = {"first": {"augment": {"noise": 0.5}}, "rounds": [{"steps": 7}], "seed": 4}
    recipe = make_recipe(Stain.HE, settings, steps=9)
    assert recipe.first.augment.noise == 0.5
    assert recipe.first.augment.scale == base.first.augment.scale
    assert [further.steps for further in recipe.rounds] == [7]
    assert (recipe.seed, recipe.first.steps) == (4, 9)
    assert recipe.model_copy(update={"first": base.first, "rounds": base.rounds, "seed": 0}) == base
    assert make_recipe(Stain.HE, settings, seed=5).seed == 5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"first": {"stepz": 1}}, "first.stepz = 1"),
        ({"first": {"augment": {"scale": [2, 1]}}}, "first.augment.scale = \\[2, 1\\]: the lower end 2 is not below"),
        ({"first": {"augment": {"jpeg_quality": [0, 101]}}}, "first.augment.jpeg_quality"),
        ({"first": {"beta": float("nan")}}, "first.beta"),
        ({"first": {"steps": -1}}, "first.steps = -1"),
        ({"first": 4}, "first = 4"),
        ({"rounds": [{"steps": 0}]}, "rounds.0.steps = 0"),
        ({"rounds": [{"labels": {"input_sigma_px": 1}}]}, "is the recipe's input_sigma_px"),
        ({"rounds": [{"labels": {"scales": [1.0], "cuts": [0.5]}}]}, "found again at another"),
        ({"rounds": 3}, "rounds = 3"),
        ({"consistency": [{"view_gains": []}]}, "consistency.0.view_gains"),
        ({"crop_px": 100}, "crop_px = 100"),
        ({"hold_back_every": 1}, "keeps every image from training"),
        ({"seed": 2.5}, "seed = 2.5"),
        ({"decode": {"foreground": 3}}, "decode.foreground = 3"),
        ({"first": {"steps": 0}, "rounds": [], "consistency": []}, "no step trains anything"),
        ({"input_sigma_px": 1.0, "consistency": [], "distil": {}}, "cannot be distilled"),
        ({"distilled_min_distance": 0.5}, "distil is needed"),
        ({"sources": [{"files": ["/a.png"], "name": "a"}]}, "does not lie below"),
        ({"sources": [{"files": ["a/../../b.png"], "name": "a"}]}, "does not lie below"),
        ({"sources": [{"files": [], "name": "a"}]}, "sources.0.files"),
        ({"sources": [{"files": ["a"], "name": "a", "every": 0}]}, "sources.0.every"),
        ({"sources": [{"files": ["a"], "name": "a", "part": "consistency"}]}, "whole = true is needed"),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=f"^a.toml for he: .*{told}"):
        make_recipe(Stain.HE, settings, Path("a.toml"))


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"seed = ", "valid TOML"), (b"\xff", "valid TOML"), (b'stain = "pas"', "he, ihc"), (b"stain = 3", "he, ihc")],
)
def test_what_is_no_settings_file_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"a\.toml: .*{told}"):
        read_recipe_settings(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe_settings(tmp_path / "absent.toml")


def test_sources_are_found_in_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("c.png", "a.png", "in/b.png", "d.jpg", "e.txt"):
        (tmp_path / name).touch()
    source = {"files": ["*.jpg", "**/*.png"], "name": "drawn"}
    recipe = make_recipe(Stain.HE, {"sources": [source, source | {"every": 2}, source | {"files": ["*.svs"]}]})
    found = [path.relative_to(tmp_path).as_posix() for path in find_files(recipe.sources[0], tmp_path)]
    assert found == ["a.png", "c.png", "d.jpg", "in/b.png"]
    assert [path.name for path in find_files(recipe.sources[1], tmp_path)] == ["a.png", "d.jpg"]
    with pytest.raises(UsageError, match=r"no file matches \*\.svs"):
        find_files(recipe.sources[2], tmp_path)

"""Recipes as settings files, in TOML, which state only what differs from the default recipe of their stain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from wsipsm.config import read_toml
from wsipsm.errors import UsageError
from wsipsm.keys import Stain
from wsipsm.training.defaults import default_recipe
from wsipsm.training.recipe import Recipe

_EXAMPLE = "pipelines/README.md"


def read_recipe_settings(path: Path) -> dict[str, object]:
    """Read a settings file without checking it; only its stain, where it states one, is checked.

    Raises
    ------
    UsageError
        When the file is unreadable, no TOML, or states an unknown stain.
    """
    settings: dict[str, object] = read_toml(path, "--recipe", _EXAMPLE)
    known = [stain.value for stain in Stain]
    if settings.get("stain", known[0]) not in known:
        raise UsageError(f"{path}: stain = {settings['stain']!r}; one of {', '.join(known)} is needed. See {_EXAMPLE}.")
    return settings


def make_recipe(
    stain: Stain,
    settings: Mapping[str, object],
    source: Path | None = None,
    *,
    steps: int | None = None,
    seed: int | None = None,
) -> Recipe:
    """Make a recipe from the default of a stain and settings that replace parts of it: tables by key, lists as a whole.

    Parameters
    ----------
    stain
        Stain whose default recipe is used.
    settings
        Settings as :func:`read_recipe_settings` returns them; may be empty.
    source
        File of the settings, for errors.
    steps, seed
        Steps of the first round, and seed, from the command line; they replace those of the file.

    Raises
    ------
    UsageError
        When a key is unknown or a value impossible; the text names the file, the key and the value.
    """
    values = _laid_over(default_recipe(stain).model_dump(), settings)
    changes: dict[str, object] = {"stain": stain}
    changes |= {} if seed is None else {"seed": seed}
    changes |= {} if steps is None else {"first": {"steps": steps}}
    try:
        return Recipe.model_validate(_laid_over(values, changes))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        given = f"{key} = {first['input']!r}: " if key else ""
        reason = first["msg"].removeprefix("Value error, ")
        where = f"{source or 'recipe'}" if "stain" in settings else f"{source or 'recipe'} for {stain.value}"
        raise UsageError(f"{where}: {given}{reason}. See {_EXAMPLE}.") from error


def _laid_over(base: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    values = dict(base)
    for key, change in changes.items():
        below = values.get(key)
        both = isinstance(below, Mapping) and isinstance(change, Mapping)
        values[key] = _laid_over(below, change) if both else change  # type: ignore[arg-type]
    return values

"""The names of the models that come with the package, and which a run takes. It is light: help texts need it."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from wsipsm.keys import Stain

DEFAULT_MODELS = MappingProxyType({Stain.HE: "nuclei-he", Stain.IHC: "ki67-ihc"})
"""Models of a run in which none is named."""


def zoo_dir() -> Path:
    """Return the folder of the models that come with the package."""
    return Path(__file__).parents[1] / "zoo"


def shipped_names() -> list[str]:
    """List the names of the models in the package, sorted; a model's card lies in a file of its name."""
    return sorted(path.stem for path in zoo_dir().glob("*.json"))

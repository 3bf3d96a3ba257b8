"""Names of the models that come with the package, and the defaults of a run; help texts import it, so it is light."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from wsipsm.keys import Stain

DEFAULT_MODELS = MappingProxyType({Stain.HE: "nuclei-he", Stain.IHC: "ki67-ihc"})
"""Names of the models that a run uses where the user names none, by stain."""


def zoo_dir() -> Path:
    """Return the folder of the models that come with the package."""
    return Path(__file__).parents[1] / "zoo"


def shipped_names() -> list[str]:
    """List the names of the models in the package, sorted; no card is read, since its file has the model's name."""
    return sorted(path.stem for path in zoo_dir().glob("*.json"))

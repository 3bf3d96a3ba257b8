"""The base of the models of a folder's JSON files: how they are read, checked and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from wsipsm.errors import UsageError, one_line
from wsipsm.keys import Artefact
from wsipsm.rundir import RunDir, read_json_object
from wsipsm.text import clean_json

Number = int | float
"""A number that stays what it was, whole or not, on its way through JSON."""


class Facts(BaseModel):
    """A part of a JSON file. Strings are cleaned when it is made, since a file name may be no Unicode at all."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())
    as_they_are: ClassVar[frozenset[str]] = frozenset()
    """Strings that are cleaned when they are written only: paths by which something is opened."""

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value if name in cls.as_they_are else clean_json(value) for name, value in values.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as the file holds them."""
        return self.model_dump(mode="json", by_alias=True)


class Record(Facts):
    """A JSON file of a slide's folder, as a whole."""

    artefact: ClassVar[Artefact]
    """Which file it is."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file, given by itself or by its folder.

        Raises
        ------
        UsageError
            When it is absent, no JSON object, or lacks what this version writes; the message names the file.
        """
        path = path if path.name == cls.artefact.value else path / cls.artefact.value
        values = read_json_object(path)
        if values is None:
            what = "cannot be read as a JSON object" if path.exists() else "absent"
            raise UsageError(f"{path}: {what}; the folder of a finished run is needed. Check the path.")
        return cls.parse(values, path)

    @classmethod
    def parse(cls, values: dict[str, Any], path: Path) -> Self:
        """Check values that were read from a file.

        Raises
        ------
        UsageError
            When they lack what this version writes; the message names the file and the first that is wrong.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(step) for step in first["loc"]) or "the whole"
            raise UsageError(
                f"{path}: {place}: {one_line(first['msg'])}; results of this version are needed. Run the slide again."
            ) from error

    def write(self, run_dir: RunDir) -> None:
        """Write the file into a folder.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        run_dir.write_json(self.artefact, self.to_dict())

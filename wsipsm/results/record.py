"""The base of the models of a folder's JSON files: how they are read, checked and written."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import ValidationError

from wsipsm.errors import UsageError, one_line
from wsipsm.facts import Facts
from wsipsm.keys import Artefact
from wsipsm.rundir import RunDir, read_json_object
from wsipsm.text import JsonObject


def first_problem(error: ValidationError) -> str:
    """Return the first wrong field of a file, and why it is wrong."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"]) or "the whole"
    return f"{place}: {one_line(first['msg'])}"


class Record(Facts):
    """A JSON file of a slide's folder, as a whole."""

    remedy: ClassVar[str] = "Run the slide again."
    """Advice in the error about a file that lacks something."""
    artefact: ClassVar[Artefact]
    """The file that the model reads and writes."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; ``path`` is the file or its folder.

        Raises
        ------
        UsageError
            When it is absent, is not a JSON object, or lacks what this version writes; the message names the file.
        """
        path = path if path.name == cls.artefact.value else path / cls.artefact.value
        values = read_json_object(path)
        if values is None:
            what = "cannot be read as a JSON object" if path.exists() else "no such file"
            raise UsageError(f"{path}: {what}; the folder of a finished run is needed. Check the path.")
        return cls.parse(values, path)

    @classmethod
    def find(cls, run_dir: RunDir) -> Self | None:
        """Read the file of a folder; None where it is absent or is not a JSON object.

        Raises
        ------
        UsageError
            When it lacks what this version writes; the message names the file and the first field that is wrong.
        """
        values = run_dir.read_json(cls.artefact)
        return None if values is None else cls.parse(values, run_dir.path(cls.artefact))

    @classmethod
    def parse(cls, values: JsonObject, path: Path) -> Self:
        """Check values that were read from a file.

        Raises
        ------
        UsageError
            When they lack what this version writes; the message names the file and the first field that is wrong.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UsageError(
                f"{path}: {first_problem(error)}; results of this version are needed. {cls.remedy}"
            ) from error

    def write(self, run_dir: RunDir) -> None:
        """Write the file into a folder.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        run_dir.write_json(self.artefact, self.to_dict())

"""JSON schemas of the files in a slide's folder, made from the models that read and write them."""

from __future__ import annotations

from pathlib import Path

import orjson

from wsipsm.results.record import Record
from wsipsm.results.run_record import RunRecord
from wsipsm.results.score_record import ScoreRecord
from wsipsm.results.slide_folder import SlideOwner
from wsipsm.results.summary import RunSummary
from wsipsm.text import JsonObject

RECORDS: tuple[type[Record], ...] = (RunRecord, ScoreRecord, RunSummary, SlideOwner)
_NEVER_STORED = ("was_done",)


def schema_of(kind: type[Record]) -> JsonObject:
    """Make the schema of a file (JSON Schema 2020-12)."""
    schema = kind.model_json_schema()
    for name in _NEVER_STORED:
        schema["properties"].pop(name, None)
    if kind is RunSummary:
        schema["properties"]["exit_code"] = {"title": "Exit Code", "type": "integer"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_files() -> dict[str, bytes]:
    """Return the content of every schema by the name of its file, as ``docs/schemas`` holds them."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS
    return {
        f"{Path(kind.artefact.value).stem}.schema.json": orjson.dumps(schema_of(kind), option=options)
        for kind in RECORDS
    }


def write_schemas(folder: Path) -> None:
    """Write every schema into a folder that exists."""
    for name, content in schema_files().items():
        (folder / name).write_bytes(content)

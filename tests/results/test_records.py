"""The JSON files of a folder through their models: the same bytes, typed values, and errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shapely
from stand_in import CARD, MPP, draw_slide

from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.events import ignore_events
from wsipsm.facts import PolygonFacts, TissueFacts
from wsipsm.keys import Artefact, Stain
from wsipsm.results.record import Record
from wsipsm.results.run_record import RunRecord, slide_of_run
from wsipsm.results.schemas import RECORDS, schema_files
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir
from wsipsm.stages.run import run_slide

pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.fixture
def summary(tmp_path: Path) -> RunSummary:
    slide = draw_slide(tmp_path / "case.png", 620, 500, seed=2)
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps(shapely.geometry.mapping(shapely.box(20, 30, 500, 400))))
    options = RunOptions(mpp=MPP, workers=0, block_px=256, tile_px=128, roi=roi)
    return run_slide(slide, tmp_path / "out", options, ignore_events)


def values_of(summary: RunSummary, artefact: Artefact) -> dict[str, Any]:
    return dict(json.loads((Path(summary.folder) / artefact).read_text()))


@pytest.mark.parametrize("kind", RECORDS)
def test_a_file_read_and_written_is_the_same_to_the_byte(summary: RunSummary, kind: type[Record]) -> None:
    path = Path(summary.folder) / kind.artefact
    before = path.read_bytes()
    kind.read(path.parent).write(RunDir(path.parent))
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("damage", ["absent", "torn", "list", "empty"])
def test_a_file_that_is_not_whole_is_named(summary: RunSummary, kind: type[Record], damage: str) -> None:
    path = Path(summary.folder) / kind.artefact
    content = path.read_bytes()
    path.unlink()
    if damage != "absent":
        path.write_bytes({"torn": content[: len(content) // 2], "list": b"[]", "empty": b"{}"}[damage])
    with pytest.raises(UsageError, match=kind.artefact.value):
        kind.read(path.parent)


@pytest.mark.parametrize("kind", RECORDS)
def test_every_value_of_a_file_has_a_type(summary: RunSummary, kind: type[Record]) -> None:
    path = Path(summary.folder) / kind.artefact
    values = values_of(summary, kind.artefact)
    for name in values.keys() - {"exit_code"}:  # it follows from the others
        wrong = {**values, name: object}
        with pytest.raises(UsageError, match=rf"{path.name}: {name}"):
            kind.parse(wrong, path)


@pytest.mark.parametrize("kind", RECORDS)
def test_the_schemas_of_the_docs_are_those_of_the_files(summary: RunSummary, kind: type[Record]) -> None:
    docs = Path(__file__).resolve().parents[2] / "docs" / "schemas"
    made = schema_files()
    name = f"{Path(kind.artefact.value).stem}.schema.json"
    assert (docs / name).read_bytes() == made[name], "run scripts/schemas"
    assert {path.name for path in docs.iterdir()} == set(made)
    schema, values = json.loads(made[name]), values_of(summary, kind.artefact)
    assert set(schema["required"]) <= set(values) <= set(schema["properties"])
    assert set(schema["properties"]) - set(values) <= {"restored", "figures", "image"}


def test_a_run_as_it_was(summary: RunSummary) -> None:
    run = RunRecord.read(Path(summary.folder))
    assert run.slide.path == summary.slide
    assert run.slide.mpp == MPP
    assert run.options.block_px == run.grid.block_px == 256
    assert run.stain.profile.stain is Stain.IHC
    assert run.model.card == CARD
    assert run.model.backends == ("stand-in",)
    assert run.keys.request == summary.request_key
    assert sum(run.areas.n_nuclei) == summary.n_nuclei > 50
    assert isinstance(run.region, PolygonFacts)
    assert run.region.bounds_px0 == (20, 30, 500, 400)
    assert run.frame.canvas_px0 == (620, 500)
    assert run.slide_frame().content.width == 620
    assert slide_of_run(RunDir(summary.folder)) == (run.slide.path, run.slide.fingerprint)


def test_a_run_of_a_version_that_timed_less(summary: RunSummary, tmp_path: Path) -> None:
    values = values_of(summary, Artefact.RUN)
    del values["seconds"]["write_steps"]
    RunDir(tmp_path).path(Artefact.RUN).write_text(json.dumps(values))
    assert RunRecord.read(tmp_path).seconds.write_steps == {}


def test_a_whole_number_stays_one() -> None:
    facts = {"kind": "tissue", "name": "n", "area_px0": 7, "n_parts": 1, "fraction": 1, "ink_fraction": 0.0}
    facts |= {"px0_per_pixel": 1, "origin_px0": [0, 0], "note": None, "hash": "h"}
    assert json.dumps(TissueFacts.model_validate(facts).model_dump(mode="json")) == json.dumps(facts)


def test_names_that_are_no_text_are_cleaned() -> None:
    facts = {"kind": "polygon", "name": "a\udcff\x1b", "area_px0": 7.5, "n_parts": 1, "bounds_px0": [0.0] * 4}
    region = PolygonFacts.model_validate({**facts, "notes": [], "hash": "h"})
    assert region.name == r"a\xff\x1b"

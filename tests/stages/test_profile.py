"""A profiled run says what each step took and when it ran, and has the results of any other run."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from stand_in import MPP, draw_slide

from wsipsm.cli.summary_text import lines_about_time
from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.keys import Artefact
from wsipsm.results.run_record import RunRecord
from wsipsm.results.summary import RunSummary
from wsipsm.stages.run import run_slide

BLOCK_STEPS = {"read", "predict", "decode", "trace", "measure", "write"}
WRITE_STEPS = {"picture", "join", "cells", "geojson", "draw", "check", "overview", "score"}

pytestmark = pytest.mark.usefixtures("stand_in")


def run(folder: Path, **chosen: bool) -> RunSummary:
    options = RunOptions(mpp=MPP, workers=0, device="cpu", block_px=256, tile_px=128, **chosen)
    return run_slide(draw_slide(folder / "case.png", 500, 500, seed=3), folder / "out", options, ignore_events)


def test_a_trace_of_all_steps(tmp_path: Path) -> None:
    plain = run(tmp_path)
    folder = Path(plain.folder)
    cells = (folder / Artefact.CELLS).read_bytes()
    assert not (folder / Artefact.TRACE).exists()
    assert lines_about_time(run(tmp_path, profile=True)) == [
        "profile: nothing was timed, since the results were there already"
    ]

    profiled = run(tmp_path, profile=True, overwrite=True)
    assert (folder / Artefact.CELLS).read_bytes() == cells
    assert profiled.request_key == plain.request_key
    events = [one for one in orjson.loads((folder / Artefact.TRACE).read_bytes())["traceEvents"] if one["ph"] == "X"]
    by_block: dict[int, set[str]] = {}
    for event in events:
        by_block.setdefault(event["args"].get("block"), set()).add(event["name"])
    assert by_block.pop(None) == WRITE_STEPS | {"open", "plan"}
    assert len(by_block) == profiled.n_blocks == 4
    assert all(names == BLOCK_STEPS for names in by_block.values())
    ends = [(event["ts"], event["ts"] + event["dur"]) for event in events]
    assert all(after >= end - 1000 for (_, end), (after, _) in pairwise(ends))  # one thread, in turn
    assert {event["tid"] for event in events} == {os.getpid()}

    seconds = RunRecord.read(folder).seconds
    assert set(seconds.block_steps) == BLOCK_STEPS
    assert set(seconds.write_steps) == WRITE_STEPS
    shown = "\n".join(lines_about_time(profiled))
    assert all(f"{name} {took:.2f}" in shown for name, took in seconds.write_steps.items())
    assert str(folder / Artefact.TRACE) in shown
    assert "measure" in shown

    run(tmp_path, overwrite=True)
    assert not (folder / Artefact.TRACE).exists()  # it would be of another run

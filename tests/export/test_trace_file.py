"""A trace has a track for each thread of each process, and events where the spans were."""

from __future__ import annotations

from pathlib import Path

import orjson

from wsipsm.export.trace import write_trace
from wsipsm.timing import Span, Track


def test_events_and_tracks(tmp_path: Path) -> None:
    here, there, other = Track("node1", 7, 70), Track("node2", 7, 71), Track("node1", 7, 72)
    spans = [
        (Span("decode", 1000.5, 0.25, here), {"block": 3}),
        (Span("read", 1000.0, 0.5, here), {"block": 3}),
        (Span("predict", 1000.1, 0.1, there), {"block": 4}),
        (Span("write", 1001.0, 2.0, other), {}),
    ]
    write_trace(tmp_path / "trace.json", spans)
    events = orjson.loads((tmp_path / "trace.json").read_bytes())["traceEvents"]
    whole = [event for event in events if event["ph"] == "X"]
    assert [(event["name"], event["ts"], event["dur"]) for event in whole] == [
        ("read", 0.0, 5e5), ("predict", 1e5, 1e5), ("decode", 5e5, 2.5e5), ("write", 1e6, 2e6),
    ]  # fmt: skip
    tracks = [(event["pid"], event["tid"]) for event in whole]
    assert tracks[0] == tracks[2]
    assert tracks[1][0] != tracks[0][0]  # the same number on another machine is another process
    assert tracks[3][0] == tracks[0][0]
    assert tracks[3] != tracks[0]
    assert whole[0]["args"] == {"block": 3}
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names == {tracks[0][0]: "node1 process 7", tracks[1][0]: "node2 process 7"}


def test_nothing_ran(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace.json", [])
    assert orjson.loads((tmp_path / "trace.json").read_bytes())["traceEvents"] == []

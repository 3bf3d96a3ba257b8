"""A file for Perfetto and Chrome's ``about:tracing`` that says when each step of a run took place, on which worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from wsipsm.rundir import write_aside
from wsipsm.text import clean_text
from wsipsm.timing import Span

_US = 1e6


def write_trace(path: Path, spans: Iterable[tuple[Span, Mapping[str, int]]]) -> None:
    """Write spans as complete events, a track for each thread of each process.

    Parameters
    ----------
    path
        File to write.
    spans
        Spans, and what a reader is told beside the name, as the number of a block. Clocks of several machines are
        taken as they are.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    listed = sorted(spans, key=lambda one: one[0].started_s)
    zero_s = listed[0][0].started_s if listed else 0.0
    # Two machines may have a process of the same number, so processes are numbered here.
    numbers: dict[tuple[str, int], int] = {}
    events: list[dict[str, object]] = []
    for span, facts in listed:
        place = (span.track.host, span.track.process)
        if place not in numbers:
            numbers[place] = len(numbers) + 1
            name = clean_text(f"{place[0]} process {place[1]}")
            events.append({"ph": "M", "name": "process_name", "pid": numbers[place], "args": {"name": name}})
        events.append(
            {
                "ph": "X",
                "name": span.name,
                "cat": "wsipsm",
                "ts": round((span.started_s - zero_s) * _US, 1),
                "dur": round(span.seconds * _US, 1),
                "pid": numbers[place],
                "tid": span.track.thread,
                "args": dict(facts),
            }
        )
    with write_aside(path) as temporary:
        temporary.write_bytes(orjson.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))

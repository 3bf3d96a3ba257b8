"""The journal of a cohort: a line of JSON for every event of a slide, in every attempt."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from wsipsm.events import BlockFailed, Event, PoolOpened, RunPlanned, SlideDone, SlideFailed
from wsipsm.rundir import output_error
from wsipsm.text import clean_json

JOURNAL_NAME = "journal.jsonl"
_DECODING = (orjson.JSONDecodeError, UnicodeDecodeError)


class Journal:
    """Appends to ``journal.jsonl``, each line in one piece, so that a killed process loses at most its last one.

    Parameters
    ----------
    folder
        Folder of the cohort.

    Raises
    ------
    OutputError
        When the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_NAME
        try:
            self._end_last_line()
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115  closed by close()
        except OSError as error:
            raise output_error(self._path, error) from error
        self._facts = {"host": socket.gethostname(), "pid": os.getpid()}

    def write(self, what: str, **values: Any) -> None:
        """Append a line: time, host, process, ``what`` and values."""
        line = {"time": _now(), **self._facts, "what": what, **values}
        try:
            self._file.write(orjson.dumps(clean_json(line)) + b"\n")
        except OSError as error:
            raise output_error(self._path, error) from error

    def __call__(self, event: Event) -> None:
        """Write an event of a run, if the journal records its kind."""
        match event:
            case PoolOpened(n_workers, dashboard):
                self.write("workers", n_workers=n_workers, dashboard=dashboard)
            case RunPlanned():
                counts = {"n_blocks": event.n_blocks, "n_done_before": event.n_done_before}
                self.write("planned", slide=event.slide, **counts)
            case BlockFailed(slide, index, _, reason):
                self.write("block failed", slide=slide, block=index, reason=reason)
            case SlideDone(slide, summary):
                what = "done before" if summary.was_done else "done"
                self.write(what, slide=slide, n_nuclei=summary.n_nuclei, coverage=summary.coverage)
            case SlideFailed(slide, reason):
                self.write("failed", slide=slide, reason=reason)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end_last_line(self) -> None:
        """Add the line break that is missing after a line that a killed process left unfinished."""
        if self._path.exists() and self._path.stat().st_size:
            with open(self._path, "r+b") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """The values of a line that wsipsm reads again; all others are for people."""

    what: str
    time: str
    """Time in UTC; empty where the line has none."""
    slide: str
    reason: str
    """The reason why something failed; empty where nothing did."""
    n_blocks: int | None
    """Number of blocks of the slide, where it was planned."""


def read_journal(folder: Path) -> Iterator[JournalEntry]:
    """Read a cohort's journal line by line; lines that a killed process left unfinished are skipped."""
    path = folder / JOURNAL_NAME
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                found = orjson.loads(line)
            except _DECODING:
                continue
            if isinstance(found, dict):
                n_blocks = found.get("n_blocks")
                what, when, slide, reason = (str(found.get(name, "")) for name in ("what", "time", "slide", "reason"))
                yield JournalEntry(what, when, slide, reason, n_blocks if isinstance(n_blocks, int) else None)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

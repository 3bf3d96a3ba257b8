"""The progress of a cohort, read from its folder alone, so that the running command is not disturbed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wsipsm.cohort.journal import read_journal
from wsipsm.cohort.table import FAILED, PARQUET_NAME, WAITING
from wsipsm.errors import UsageError
from wsipsm.folderlock import holder_of
from wsipsm.keys import Artefact


@dataclass(frozen=True, slots=True)
class RunningSlide:
    """A slide that was begun and has no results yet."""

    id: str
    n_blocks_done: int
    n_blocks: int | None
    """Number of the slide's blocks; None while it is not known."""


@dataclass(frozen=True, slots=True)
class CohortStatus:
    """The state of a cohort, as its folder shows it."""

    folder: str
    holder: str
    """Process and host that work on the cohort, and when that process last renewed its lock; empty when none does."""
    n_slides: int
    n_by_status: dict[str, int]
    running: tuple[RunningSlide, ...]
    failures: tuple[tuple[str, str], ...]
    """Each failed slide and the reason."""
    n_starts: int
    """Number of commands that were started on the cohort."""
    last: str
    """Time of the journal's last line, UTC; empty without lines."""


def read_status(folder: Path) -> CohortStatus:
    """Read the state of a cohort from its folder.

    Parameters
    ----------
    folder
        Folder that ``wsipsm cohort --out`` wrote to.

    Raises
    ------
    UsageError
        When the folder holds no cohort.
    """
    table_path = folder / PARQUET_NAME
    try:
        rows = pq.read_table(table_path, columns=["id", "slide", "status", "reason"]).to_pylist()
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder}: no {PARQUET_NAME} in it; the folder that 'wsipsm cohort --out' was given is needed."
        ) from error
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise UsageError(f"{table_path}: cannot be read ({error}); the table of a cohort is needed.") from error
    starts, last = 0, ""
    planned: dict[str, int] = {}
    for line in read_journal(folder):
        starts += line.what == "started"
        last = line.time or last
        if line.n_blocks is not None:
            planned[line.slide] = line.n_blocks
    waiting = [(str(row["id"]), planned.get(str(row["slide"]))) for row in rows if row["status"] == WAITING]
    running = tuple(found for name, n in waiting if (found := _running(folder, name, n)) is not None)
    return CohortStatus(
        folder=str(folder),
        holder=holder_of(folder),
        n_slides=len(rows),
        n_by_status=dict(Counter(str(row["status"]) for row in rows)),
        running=running,
        failures=tuple((str(row["slide"]), str(row["reason"])) for row in rows if row["status"] == FAILED),
        n_starts=starts,
        last=last,
    )


def _running(folder: Path, name: str, n_blocks: int | None) -> RunningSlide | None:
    shards = folder / name / Artefact.SHARDS.value
    if not shards.is_dir():
        return None
    n_done = sum(1 for entry in shards.iterdir() if entry.suffix == ".parquet" and not entry.name.startswith("."))
    return RunningSlide(name, n_done, n_blocks)

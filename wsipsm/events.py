"""The events that a run announces. Listeners are called in the process that started the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from wsipsm.geometry import Box
from wsipsm.timing import Span


@dataclass(frozen=True, slots=True)
class BlockReport:
    """The result of one block."""

    index: int
    n_nuclei: int
    """Nuclei that the block owns, before seams are resolved and those outside the region are dropped."""
    n_tiles: int
    n_too_large: int
    """Instances that were refused because they were above the largest area."""
    failed: tuple[Box, ...] = ()
    """Level-0 boxes inside the core whose pixels could not be read."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by step: read, predict, decode, trace, measure, write; empty when an earlier run did the block."""
    backend: str = ""
    """Backend that ran the network; empty where no pixel could be read."""
    spans: tuple[Span, ...] = ()
    """The steps one by one, where the run is profiled."""


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage of a slide began: 'plan', 'segment' or 'write'."""

    name: str
    slide: str


@dataclass(frozen=True, slots=True)
class RunPlanned:
    """The plan of a slide is made."""

    slide: str
    n_blocks: int
    n_done_before: int
    """Blocks whose shards an earlier run left."""
    n_tiles: int
    """Tiles of all blocks, those done before included."""
    n_tiles_before: int = 0
    n_nuclei_before: int = 0
    """Tiles and nuclei of the blocks done before."""
    n_workers: int = 0
    """Number of worker processes; 0: this process does the work."""
    notes: tuple[str, ...] = ()
    """Choices that were made for the user, with reasons: stain, model, tissue."""
    flags: tuple[str, ...] = ()
    """Properties of the picture that make its results doubtful."""


@dataclass(frozen=True, slots=True)
class BlockDone:
    """The shard of a block is written."""

    slide: str
    report: BlockReport


@dataclass(frozen=True, slots=True)
class BlockFailed:
    """A block has no shard, because its worker was lost or its task raised an error."""

    slide: str
    index: int
    n_tiles: int
    reason: str


@dataclass(frozen=True, slots=True)
class SlideDone:
    """The results of a slide are written; it is also announced for a slide that was finished before."""

    slide: str
    summary: Any
    """The run's summary, as ``run_slide`` returns it."""


@dataclass(frozen=True, slots=True)
class SlideFailed:
    """A slide of a cohort has no results."""

    slide: str
    reason: str


@dataclass(frozen=True, slots=True)
class SlidesChecked:
    """A number of a cohort's slides were checked, which is done before work starts."""

    n_done: int
    n_slides: int


@dataclass(frozen=True, slots=True)
class CohortPlanned:
    """The slides of a cohort are listed."""

    slides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PoolOpened:
    """The workers of a cohort are ready."""

    n_workers: int
    """Number of worker processes; 0: this process does the work."""
    dashboard: str | None
    """Address of Dask's dashboard; None without one."""


Event: TypeAlias = (
    StageStarted
    | RunPlanned
    | BlockDone
    | BlockFailed
    | SlideDone
    | SlideFailed
    | SlidesChecked
    | CohortPlanned
    | PoolOpened
)
Listener: TypeAlias = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """Ignore an event: a listener for callers that need none."""

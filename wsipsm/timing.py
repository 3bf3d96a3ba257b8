"""Seconds of the steps of a piece of work, and, where they are asked for, when and where each step ran."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Track:
    """A thread that works."""

    host: str
    process: int
    thread: int


@dataclass(frozen=True, slots=True)
class Span:
    """A step that ran."""

    name: str
    started_s: float
    """Seconds since 1970, by the clock of its machine."""
    seconds: float
    track: Track


@dataclass(slots=True)
class Steps:
    """The seconds that steps took.

    Parameters
    ----------
    keeps_spans
        Whether every step is also kept by itself. The sums cost nothing; spans grow with the number of steps.
    """

    keeps_spans: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    """Sums by name, in the order in which the steps first ended."""
    spans: list[Span] = field(default_factory=list)
    _track: Track = field(
        default_factory=lambda: Track(platform.node(), os.getpid(), threading.get_native_id()), init=False
    )

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time what is done in the context, also where it fails."""
        started_s, start = time.time(), time.perf_counter()
        try:
            yield
        finally:
            took_s = time.perf_counter() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + took_s, 4)
            if self.keeps_spans:
                self.spans.append(Span(name, started_s, took_s, self._track))

    def each(self, name: str, made: Iterable[T]) -> Iterator[T]:
        """Give what an iterable makes, and time the making alone."""
        iterator = iter(made)
        while True:
            with self.timed(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

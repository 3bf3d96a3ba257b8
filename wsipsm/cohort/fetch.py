"""The fetching of slides that are given by address, ahead of time, while other slides are worked on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from wsipsm.cohort.discover import CohortSlide
from wsipsm.errors import UsageError
from wsipsm.remote.address import shown_url
from wsipsm.remote.cache import SlideCache

_N_THREADS = 2


class Fetcher:
    """Fetches slides and gives their local files; the cache keeps a fetched file until it is released.

    Parameters
    ----------
    cache
        Cache of fetched slides; None where no slide is given by address.
    """

    def __init__(self, cache: SlideCache | None) -> None:
        self._cache = cache
        self._threads = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="wsipsm-fetch")
        self._fetching: dict[int, Future[Path]] = {}
        self._stacks: dict[int, ExitStack] = {}

    def start(self, number: int, slide: CohortSlide) -> None:
        """Begin to fetch a slide, unless it has begun already or the slide lies on a disk."""
        if slide.url is not None and number not in self._fetching:
            self._stacks[number] = ExitStack()
            self._fetching[number] = self._threads.submit(self._fetch, number, slide.url)

    def path_of(self, number: int, slide: CohortSlide, wait: bool) -> Path | None:
        """Return the file of a slide; None while it is still being fetched and ``wait`` is false.

        Raises
        ------
        WsipsmError
            When the slide cannot be fetched.
        """
        if slide.url is None:
            return slide.path
        self.start(number, slide)
        future = self._fetching[number]
        return future.result() if wait or future.done() else None

    def release(self, number: int) -> None:
        """Release a slide's file, so that the cache may remove it."""
        self._fetching.pop(number, None)
        if (stack := self._stacks.pop(number, None)) is not None:
            stack.close()

    def _fetch(self, number: int, url: str) -> Path:
        if self._cache is None:
            raise UsageError(
                f"{shown_url(url)}: is an address; a folder to keep the slide in is needed. Name one with --cache."
            )
        return self._stacks[number].enter_context(self._cache.fetch(url))

    def close(self) -> None:
        """Stop all transfers, and release all files."""
        if self._cache is not None:
            self._cache.stop()
        self._threads.shutdown(cancel_futures=True)
        for number in list(self._stacks):
            self.release(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""A slide that stays open for many reads, with a check that its files have not changed."""

from __future__ import annotations

import weakref
from pathlib import Path

from wsipsm.errors import SlideOpenError
from wsipsm.slide.base import Slide
from wsipsm.slide.fingerprint import fingerprint_slide, stamp_slide


class OpenedSlide:
    """An open slide that is closed when the last reference to it is gone.

    Parameters
    ----------
    slide
        Open slide that has its fingerprint.
    path
        Path of the slide.
    """

    def __init__(self, slide: Slide, path: Path) -> None:
        self.slide = slide
        self._path, self._stamp = path, stamp_slide(path)
        self._closing = weakref.finalize(self, slide.close)

    def require_same(self) -> None:
        """Check that the content of the slide has not changed since it was opened.

        Raises
        ------
        SlideOpenError
            When it has changed. A slide that cannot be reached at the moment passes.
        """
        now = stamp_slide(self._path)
        if now is None or now == self._stamp:
            return
        if fingerprint_slide(self._path) != self.slide.info.fingerprint:
            raise changed_error(str(self._path))
        self._stamp = now


def changed_error(path: str) -> SlideOpenError:
    """Make the error for a slide whose content has changed."""
    return SlideOpenError(
        f"{path}: its content is not what the run was planned on; the same file is needed until the run ends. "
        "Run the command again.",
        path=path,
        value="its content is not what the run was planned on",
        needed="the same file until the run ends",
    )

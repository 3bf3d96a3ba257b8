"""A slide that stays open for many reads, and is not written meanwhile."""

from __future__ import annotations

import weakref
from pathlib import Path

from wsipsm.errors import SlideOpenError
from wsipsm.slide.base import Slide
from wsipsm.slide.fingerprint import fingerprint_slide, stamp_slide


class OpenedSlide:
    """A slide that is closed when nothing holds it any more.

    Parameters
    ----------
    slide
        Open, with its fingerprint.
    path
        Where it lies.
    """

    def __init__(self, slide: Slide, path: Path) -> None:
        self.slide = slide
        self._path, self._stamp = path, stamp_slide(path)
        self._closing = weakref.finalize(self, slide.close)

    def require_same(self) -> None:
        """Refuse pixels of a slide that was written while it was open.

        Raises
        ------
        SlideOpenError
            When the content is another now. A slide that is away just now cannot be asked.
        """
        now = stamp_slide(self._path)
        if now is None or now == self._stamp:
            return
        if fingerprint_slide(self._path) != self.slide.info.fingerprint:
            raise changed_error(str(self._path))
        self._stamp = now


def changed_error(path: str) -> SlideOpenError:
    """Make the error for a slide with other content than before."""
    return SlideOpenError(
        f"{path}: its content is not what the run was planned on; the same file is needed until the run ends. "
        "Run the command again.",
        path=path,
        value="its content is not what the run was planned on",
        needed="the same file until the run ends",
    )

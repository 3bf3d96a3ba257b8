"""Names of slides' folders, made from file names so that every system accepts them."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from wsipsm.errors import UsageError
from wsipsm.slide.formats import DOUBLE_SUFFIXES

_MAX_NAME_BYTES = 120
_NO_NAME = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')
_COHORT_FILES = re.compile(r"(cohort|journal|wsipsm)\.", re.IGNORECASE)
"""Names of the cohort's own files, which lie beside the slides' folders; no folder may get such a name."""


def slide_stem(path: str | Path) -> str:
    """Name a slide's folder after its file, without the suffix."""
    name = path.name if isinstance(path, Path) else Path(path).name
    for suffix in DOUBLE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return os.path.splitext(name)[0] or "slide"


def folder_stem(path: str | Path, image: int | None) -> str:
    """Name a slide's folder after its file and the image that was chosen, since two images of a file are two slides."""
    return slide_stem(path) if image is None else f"{slide_stem(path)}-image-{image}"


def folder_name(text: str) -> str:
    """Change a text to a name that a folder may have on any system; an empty text stays empty."""
    if not text:
        return ""
    plain = _NO_NAME.sub("_", unicodedata.normalize("NFC", text))
    short = plain.strip(". ").encode()[:_MAX_NAME_BYTES].decode(errors="ignore").rstrip(". ")
    return f"_{short}" if _COHORT_FILES.match(short) else short


def check_folder_name(name: str, option: str) -> None:
    """Make sure that a name can be a folder's on any system.

    Raises
    ------
    UsageError
        When the name is refused; the message names the option that gave it.
    """
    if folder_name(name) != name or not name:
        usable = folder_name(name) or "slide"
        raise UsageError(
            f"{option} {name[:80]!r}: some systems refuse this as a folder's name; one without slashes, control "
            f"characters and signs like : or *, without dots or blanks at its ends, of at most {_MAX_NAME_BYTES} bytes "
            f"is needed. {usable!r} would do."
        )

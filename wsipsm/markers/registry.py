"""A search for the marker that a user's text means."""

from __future__ import annotations

import re

from wsipsm.markers.known import known_markers
from wsipsm.markers.known.ki67 import MARKER as DEFAULT_MARKER
from wsipsm.markers.marker import NAME_PATTERN, Marker

__all__ = ["DEFAULT_MARKER", "is_marker_name", "marker_of"]


def is_marker_name(text: str) -> bool:
    """Check whether a text may be the name of a marker."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def marker_of(text: str) -> Marker:
    """Find the marker of a name: ``ki67``, ``Ki 67`` and ``mib-1`` are Ki-67.

    Parameters
    ----------
    text
        A name as a user writes it or as a report spells it; case, blanks and punctuation do not matter.

    Returns
    -------
    The known marker of that name; where there is none, a marker that has this name and no bands.
    """
    letters = "".join(char for char in text.casefold() if char.isalnum())
    found = (marker for marker in known_markers() if letters in marker.spellings)
    return next(found, Marker(key=letters, name=" ".join(text.split()).upper()))

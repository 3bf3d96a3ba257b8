"""Markers that wsipsm knows: each module here defines one as ``MARKER``, so a new file adds a new marker."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from wsipsm.markers.marker import Marker


def known_markers() -> tuple[Marker, ...]:
    """List every marker that has a module here, in the order of the modules' names."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return tuple(module.MARKER for module in modules)

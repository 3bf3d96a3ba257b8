"""Imports OpenVINO so that it reports nothing; wsipsm takes OpenVINO from here alone.

When it is imported, OpenVINO tells its makers over the internet that it was, unless the machine's user has refused
that before. It does so in a process that it forks from this one. Software that handles patients' data must not. Where
its package ``openvino_telemetry`` cannot be found, OpenVINO goes on without it.
"""

from __future__ import annotations

import sys

_REPORTER = "openvino_telemetry"
_is_hidden = sys.modules.setdefault(_REPORTER, None) is None  # type: ignore[arg-type]  # None: cannot be imported
try:
    import openvino
finally:
    # Others who share this process may have use for the package.
    if _is_hidden:
        del sys.modules[_REPORTER]

__all__ = ["openvino"]

"""The facts about machine and software that a table of results states."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("wsipsm", "numpy", "scipy", "scikit-image", "torch", "openvino", "openslide-bin", "shapely", "pyarrow")


def describe_machine() -> dict[str, str]:
    """Describe date, machine and versions of libraries; the keys are ``date``, ``machine`` and ``versions``."""
    found = [f"{name} {_version(name)}" for name in _PACKAGES]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {_n_cores()} cores, {platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, " + ", ".join(found),
    }


def _n_cores() -> int:
    # Only Linux says how many of the cores this process may use.
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"

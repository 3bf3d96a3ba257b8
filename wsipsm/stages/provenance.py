"""What made a result: code, libraries, machine."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import wsipsm
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame

_SHAPES_A_SHARD = (
    "geometry.py",
    "keys.py",
    "stain.py",
    "tiling.py",
    "slide",
    "models",
    "instances",
    "ki67/measure.py",
    "stages/block.py",
)
"""Code that decides what a shard holds; a change of it makes other shards."""
_SHAPES_A_RESULT = (
    *_SHAPES_A_SHARD,
    "zoo",
    "ki67",
    "tissue",
    "region",
    "text.py",
    "export",
    "stages/plan.py",
    "stages/write.py",
    "stages/coverage.py",
    "stages/fixed_stain.py",
    "stages/score.py",
    "stages/prepare.py",
    "stages/finish.py",
)
_LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "shapely",
    "pyarrow",
    "torch",
    "openvino",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "imagecodecs",
    "distributed",
)


def package_version() -> str:
    """Version of wsipsm as installed; '0' from a source tree that is not."""
    return installed_version("wsipsm") or "0"


def slide_facts(info: SlideInfo, frame: SlideFrame) -> dict[str, str]:
    """Facts that every GeoJSON carries about its making: by whom, of which slide, and in which of QuPath's frames."""
    return {
        "software": f"wsipsm {package_version()}",
        "slide_fingerprint": info.fingerprint,
        "qupath_frame": frame.qupath.value,
    }


def installed_version(distribution: str) -> str | None:
    """Version of a distribution, without loading it; None when it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@lru_cache(maxsize=4)
def code_digest(rooms: tuple[str, ...]) -> str:
    """Name the code of rooms, shipped model cards included: 16 hex digits."""
    root = Path(wsipsm.__file__).parent
    files: list[Path] = []
    for room in rooms:
        place = root / room
        found = [place] if place.is_file() else [*place.rglob("*.py"), *place.rglob("*.json")]
        files.extend(found)
    whole = hashlib.sha256()
    for file in sorted(set(files)):
        content = file.read_bytes()
        whole.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest()[:16]


def shard_code() -> str:
    """Name the code and the libraries that decide what a shard holds."""
    return f"wsipsm {package_version()} ({code_digest(_SHAPES_A_SHARD)}); " + " ".join(
        f"{name} {number}" for name, number in library_versions().items() if name != "distributed"
    )


def result_code() -> str:
    """Name all code that decides what a slide's results hold."""
    return f"{shard_code()}; {code_digest(_SHAPES_A_RESULT)}"


def worker_code() -> str:
    """Say what a process runs, shipped models included, with commas between; asked of a running scheduler's workers."""
    parts = [f"wsipsm {package_version()} ({code_digest(_SHAPES_A_RESULT)})"]
    return ", ".join([*parts, *(f"{name} {number}" for name, number in library_versions().items())])


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Versions of the libraries a run uses, by distribution."""
    found = {name: installed_version(name) for name in _LIBRARIES}
    return {name: number for name, number in found.items() if number is not None}


def machine_facts() -> dict[str, str | int]:
    """Describe the machine, for run.json."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "n_cpus": os.cpu_count() or 1,
    }

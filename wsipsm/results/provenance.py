"""The makers of a result: code, libraries, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from wsipsm.results.closure import import_closure

SHARD_ROOTS = ("wsipsm.stages.block",)
"""What a worker runs on a block: this and all that it imports decide what a shard holds."""
RESULT_ROOTS = ("wsipsm.stages.prepare", "wsipsm.stages.block", "wsipsm.stages.finish")
"""The steps of a slide, likewise, decide what its results hold."""
WORKER_ROOTS = ("wsipsm.cohort.flow",)
"""What a process of a running scheduler is given to do."""
WITHOUT_INFLUENCE = MappingProxyType(
    {
        "cryptography": "keys of connections",
        "dask": "where tasks run",
        "distributed": "where tasks run",
        "filelock": "who may write",
        "fsspec": "a slide's bytes are named by themselves",
        "aiohttp": "a slide's bytes are named by themselves",
        "isal": "packs the bytes it is given",
        "orjson": "writes the numbers it is given",
        "psutil": "how many workers fit",
        "pydantic": "checks options and cards",
        "threadpoolctl": "how many threads work",
    }
)
"""Libraries whose version leaves results as they are, and why; every other that is imported makes them stale."""
DISTRIBUTIONS = MappingProxyType(
    {
        "PIL": ("pillow",),
        "cv2": ("opencv-python-headless",),
        "openslide": ("openslide-python", "openslide-bin"),
        "skimage": ("scikit-image",),
        "sklearn": ("scikit-learn",),
    }
)
"""Distributions of modules that are called otherwise."""
_NO_DATA = frozenset((".py", ".pyc", ".typed", ".safetensors"))
"""Endings of what is no data of the package; weights are named by the checksum in their card."""


def package_version() -> str:
    """Return the installed version of wsipsm; '0' when a source tree is run without being installed."""
    return installed_version("wsipsm") or "0"


def installed_version(distribution: str) -> str | None:
    """Return the version of a distribution, without loading it; None when it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@lru_cache(maxsize=8)
def code_digest(roots: tuple[str, ...], package: Path | None = None) -> str:
    """Name the code that modules run, and the data of the package, its models' cards included: 16 hex digits.

    Parameters
    ----------
    roots
        Modules; all that they import counts, whether at their top or in a function.
    package
        Folder of wsipsm; None stands for the package that is running.
    """
    folder = package or _own_folder()
    data = (file for file in folder.rglob("*") if file.is_file() and file.suffix not in _NO_DATA)
    whole = hashlib.sha256()
    for file in sorted({*import_closure(roots, folder).files, *data}):
        content = file.read_bytes()
        whole.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest()[:16]


def shard_code() -> str:
    """Name the code and the libraries that decide what a shard holds."""
    return _name_code(SHARD_ROOTS)


def result_code() -> str:
    """Name all code that decides what a slide's results hold."""
    return f"{shard_code()}; {_name_code(RESULT_ROOTS)}"


def _name_code(roots: tuple[str, ...]) -> str:
    known = library_versions()
    names = [name for name in libraries_of(roots) if name in known]
    return f"wsipsm {package_version()} ({code_digest(roots)}); " + " ".join(f"{name} {known[name]}" for name in names)


@lru_cache(maxsize=8)
def libraries_of(roots: tuple[str, ...]) -> tuple[str, ...]:
    """List the distributions that modules import and whose version may change what they make, installed or not."""
    imported = import_closure(roots, _own_folder()).libraries - sys.stdlib_module_names - set(WITHOUT_INFLUENCE)
    return tuple(sorted(name for module in imported for name in DISTRIBUTIONS.get(module, (module,))))


def _own_folder() -> Path:
    return Path(__file__).parents[1]


def worker_code() -> str:
    """Say what a process runs, shipped models included, with commas between; asked of a running scheduler's workers."""
    parts = [f"wsipsm {package_version()} ({code_digest(WORKER_ROOTS)})"]
    return ", ".join([*parts, *(f"{name} {number}" for name, number in library_versions().items())])


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """List the versions of the libraries a run uses, by distribution."""
    found = {name: installed_version(name) for name in (*libraries_of(WORKER_ROOTS), "distributed")}
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

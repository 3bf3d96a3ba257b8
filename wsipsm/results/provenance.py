"""The code, the libraries and the machine that made a result."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from wsipsm.results.closure import Closure, import_closure

SHARD_ROOTS = ("wsipsm.stages.block",)
"""Module that a worker runs on a block; it and all that it imports decide what a shard holds."""
RESULT_ROOTS = ("wsipsm.stages.prepare", "wsipsm.stages.block", "wsipsm.stages.finish")
"""Modules of a slide's steps; they and all that they import decide what its results hold."""
WORKER_ROOTS = ("wsipsm.cohort.flow",)
"""Module whose tasks the workers of a running scheduler run."""
WITHOUT_INFLUENCE = MappingProxyType(
    {
        "cryptography": "it makes the keys of connections",
        "dask": "it decides where tasks run",
        "distributed": "it decides where tasks run",
        "filelock": "it decides which process may write",
        "fsspec": "it fetches a slide, whose bytes are checked by the fingerprint",
        "aiohttp": "it fetches a slide, whose bytes are checked by the fingerprint",
        "isal": "it compresses bytes, which come out the same when they are unpacked",
        "orjson": "it writes the numbers that it is given",
        "psutil": "it says how many workers fit into memory",
        "pydantic": "it checks options and cards",
        "threadpoolctl": "it sets the number of threads",
    }
)
"""Libraries whose version leaves results as they are, and why; another version of any other makes results stale."""
DISTRIBUTIONS = MappingProxyType(
    {
        "PIL": ("pillow",),
        "cv2": ("opencv-python-headless",),
        "openslide": ("openslide-python", "openslide-bin"),
        "skimage": ("scikit-image",),
        "sklearn": ("scikit-learn",),
    }
)
"""Names of the distributions of modules whose own name is another."""
_NO_DATA = frozenset((".py", ".pyc", ".typed", ".safetensors"))
"""Suffixes of files that do not count as data of the package; the checksum in a model's card stands for its weights."""


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
    """Compute a digest of the code that modules run and of the package's data, models' cards included.

    Parameters
    ----------
    roots
        Names of modules; all that they import counts, whether at their top or in a function.
    package
        Folder of wsipsm; None stands for the package that is running.

    Returns
    -------
    16 hexadecimal digits.
    """
    folder = package or _own_folder()
    data = (file for file in folder.rglob("*") if file.is_file() and file.suffix not in _NO_DATA)
    whole = hashlib.sha256()
    closure = _own_closure(roots) if package is None else import_closure(roots, folder)
    for file in sorted({*closure.files, *data}):
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
    """List the distributions that modules import and whose version may change results, installed or not."""
    imported = _own_closure(roots).libraries - sys.stdlib_module_names - set(WITHOUT_INFLUENCE)
    return tuple(sorted(name for module in imported for name in DISTRIBUTIONS.get(module, (module,))))


@lru_cache(maxsize=8)
def _own_closure(roots: tuple[str, ...]) -> Closure:
    return import_closure(roots, _own_folder())


def _own_folder() -> Path:
    return Path(__file__).parents[1]


def worker_code() -> str:
    """Name the code, shipped models and libraries that a process runs, separated by commas.

    The command compares this text with that of each worker of a running scheduler.
    """
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

"""A check of this machine: libraries, processors, memory, models, the current folder."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from wsipsm.errors import WsipsmError
from wsipsm.executors.budget import available_bytes
from wsipsm.executors.task import granted_cpus
from wsipsm.machine import ground_problems, process_problem
from wsipsm.slide.formats import INSTALL_TIATOOLBOX

State = Literal["ok", "note", "fail"]

LITTLE_MEMORY_BYTES = 4 * 2**30
"""The memory in bytes below which a run with default options may be refused."""

LIBRARIES = (
    ("numpy", "numpy"),
    ("scipy", "scipy"),
    ("scikit-image", "skimage"),
    ("scikit-learn", "sklearn"),
    ("opencv-python-headless", "cv2"),
    ("pillow", "PIL"),
    ("tifffile", "tifffile"),
    ("imagecodecs", "imagecodecs"),
    ("safetensors", "safetensors"),
    ("dask", "dask"),
    ("distributed", "distributed"),
    ("cryptography", "cryptography"),
    ("shapely", "shapely"),
    ("geopandas", "geopandas"),
    ("pyarrow", "pyarrow"),
    ("pandas", "pandas"),
    ("pydantic", "pydantic"),
    ("orjson", "orjson"),
    ("isal", "isal"),
    ("joblib", "joblib"),
    ("threadpoolctl", "threadpoolctl"),
    ("filelock", "filelock"),
    ("psutil", "psutil"),
    ("jinja2", "jinja2"),
    ("markupsafe", "markupsafe"),
    ("matplotlib", "matplotlib"),
    ("typer", "typer"),
    ("rich", "rich"),
)
"""Distribution and module of the libraries about which only the version is of interest."""

_LOAD_ERRORS = (ImportError, OSError, RuntimeError, AttributeError)
"""Errors that a library raises on import when it is absent, broken or built for another machine."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check."""

    subject: str
    state: State
    """'fail' when a run cannot work without the subject, 'note' when it can, 'ok' when nothing is wrong."""
    found: str
    remedy: str = ""
    """What the user can do about it; empty when nothing is to be done."""

    def to_dict(self) -> dict[str, str]:
        """Return the fields as a dictionary that JSON can hold."""
        return {"subject": self.subject, "state": self.state, "found": self.found, "remedy": self.remedy}


def examine_machine() -> list[Finding]:
    """Check everything that a run depends on; a check that fails does not stop the others."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _check_python,
        "openslide": _check_openslide,
        "torch": _check_torch,
        "torchvision": _check_torchvision,
        "openvino": _check_openvino,
        "device": _check_device,
        "network cache": _check_network_cache,
        "tiatoolbox": _check_tiatoolbox,
        "processors": _check_cpus,
        "memory": _check_memory,
        "models": _check_models,
        "current folder": _check_folder,
        "temporary folder": _check_temporary_folder,
        "worker processes": _check_workers,
    }
    libraries = [_check_library(name, module) for name, module in LIBRARIES]
    return [*libraries, *(_examine(subject, check) for subject, check in checks.items())]


def _examine(subject: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except _LOAD_ERRORS as error:
        return Finding(subject, "fail", f"{type(error).__name__}: {error}", "Install wsipsm again.")


def _check_library(distribution: str, module: str) -> Finding:
    try:
        import_module(module)
        return Finding(distribution, "ok", version(distribution))
    except PackageNotFoundError:
        # Conda and system packages can name their metadata otherwise; the module loads, which is what matters.
        return Finding(distribution, "ok", "loads; version unknown")
    except _LOAD_ERRORS as error:
        return Finding(distribution, "fail", f"does not load: {error}", f"pip install --force-reinstall {distribution}")


def _check_python() -> Finding:
    state: State = "ok" if sys.version_info >= (3, 11) else "fail"
    return Finding("python", state, f"{platform.python_version()} on {platform.platform()}")


def _check_openslide() -> Finding:
    try:
        module = import_module("openslide")
    except _LOAD_ERRORS as error:
        return Finding("openslide", "fail", f"does not load: {error}", "pip install openslide-python openslide-bin")
    return Finding("openslide", "ok", f"{module.__version__}, library {module.__library_version__}")


def _check_torch() -> Finding:
    try:
        torch = import_module("torch")
    except _LOAD_ERRORS as error:
        return Finding("torch", "fail", f"does not load: {error}", 'pip install "torch>=2.6,<2.14"')
    devices = ["cpu"] + [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding(
        "torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads, devices: {', '.join(devices)}"
    )


def _check_torchvision() -> Finding:
    try:
        import_module("torchvision.ops")
        return Finding("torchvision", "ok", f"{version('torchvision')}, compiled operators load")
    except _LOAD_ERRORS as error:
        found = f"compiled operators do not load beside this torch ({str(error).splitlines()[0]})"
        return Finding("torchvision", "note", found, "Nothing to do: wsipsm uses none of them.")


def _check_openvino() -> Finding:
    try:
        core = import_module("wsipsm.models.quiet_openvino").openvino.Core()
        devices = [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices]
    except _LOAD_ERRORS as error:
        return Finding("openvino", "note", f"does not load: {error}", "pip install openvino; torch is used until then.")
    return Finding("openvino", "ok", f"{version('openvino')}, devices: {', '.join(devices)}")


def _check_device() -> Finding:
    from wsipsm.models.gpu import gpu_name, gpu_problem
    from wsipsm.models.inference import choose_inference

    chosen, problem = choose_inference(), gpu_problem("cuda")
    about = f"no GPU: {problem}" if problem else f"GPU: {gpu_name('cuda')}"
    found = f"networks run on {chosen.device}, by {chosen.library}, in {chosen.precision}; {about}"
    return Finding("device", "ok", found)


def _check_network_cache() -> Finding:
    try:
        from wsipsm.models.compiled import FOLDER_VARIABLE, find_folder
    except _LOAD_ERRORS:
        return Finding("network cache", "ok", "only OpenVINO's networks are kept")
    folder, problem = find_folder()
    if problem:
        remedy = (
            "Each process compiles its network anew, which takes seconds. Make a folder that you alone can enter "
            f"(chmod 700), and name it in {FOLDER_VARIABLE}."
        )
        return Finding("network cache", "note", f"{folder or FOLDER_VARIABLE} is not used: {problem}", remedy)
    return Finding("network cache", "ok", str(folder or "none is wanted"))


def _check_tiatoolbox() -> Finding:
    adds = "would add OME-Zarr (NGFF) slides"
    try:
        installed = version("tiatoolbox")
    except PackageNotFoundError:
        return Finding("tiatoolbox", "note", f"not installed; {adds}", INSTALL_TIATOOLBOX)
    try:
        import_module("tiatoolbox.wsicore.wsireader")
    except _LOAD_ERRORS as error:
        return Finding("tiatoolbox", "note", f"{installed} does not load: {error}; {adds}", INSTALL_TIATOOLBOX)
    return Finding("tiatoolbox", "ok", f"{installed}, adds OME-Zarr (NGFF) slides")


def _check_cpus() -> Finding:
    return Finding(
        "processors", "ok", f"{granted_cpus()} granted of {os.cpu_count()} (affinity, cgroup and job counted)"
    )


def _check_memory() -> Finding:
    free = available_bytes()
    found = f"{free / 2**30:.1f} GiB free (cgroup counted)"
    if free < LITTLE_MEMORY_BYTES:
        return Finding("memory", "note", found, "Pass --workers 0, a smaller --block-px or a smaller --tile-px.")
    return Finding("memory", "ok", found)


def _check_models() -> Finding:
    # Imported here, so that a broken library that the registry needs becomes a finding instead of ending the check.
    from wsipsm.models.registry import list_models, resolve_model

    try:
        names = [card.name for card in list_models()]
        for name in names:
            resolve_model(name)
    except WsipsmError as error:
        return Finding("models", "fail", str(error), "Install wsipsm again.")
    if not names:
        return Finding("models", "fail", "none in the package", "Install wsipsm again.")
    return Finding("models", "ok", ", ".join(names))


def _check_folder() -> Finding:
    folder = Path.cwd()
    free = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free"
    if _can_write(folder):
        return Finding("current folder", "ok", f"{folder} can be written, {free}")
    return Finding("current folder", "fail", f"{folder} cannot be written", "Change to another folder, or pass --out.")


def _check_temporary_folder() -> Finding:
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        return Finding("temporary folder", "fail", str(error), "Set TMPDIR to a folder that can be written.")
    return Finding("temporary folder", "ok", f"{folder}, {shutil.disk_usage(folder).free / 1e9:.1f} GB free")


def _check_workers() -> Finding:
    n_workers = granted_cpus()
    problems = [*ground_problems(n_workers), *filter(None, [process_problem()])]
    if problems:
        remedy = "Repair this, or pass --workers 0, which works in one process."
        return Finding("worker processes", "fail", "; ".join(problems), remedy)
    return Finding(
        "worker processes", "ok", f"{n_workers} can be started: /dev/shm, 127.0.0.1, files, processes, temporary folder"
    )


def _can_write(folder: Path) -> bool:
    try:
        # A file is written, because permission bits say nothing on read-only mounts or for root.
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False

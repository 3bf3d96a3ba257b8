"""The GPUs that torch can use here. Torch, whose import takes seconds, is loaded only where there may be one."""

from __future__ import annotations

import ctypes
import platform
import runpy
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from wsipsm.errors import ModelError

_NAME = "cuda"
"""Torch calls a GPU that, AMD's too."""


def gpu_problem(device: str) -> str:
    """Say why torch cannot use a GPU here; empty when it can.

    Parameters
    ----------
    device
        ``cuda``, the first GPU that this process sees, or ``cuda:n``, the one of that number.
    """
    built = _built_for()
    if built is None:
        return "torch is not installed"
    version, has_cuda, has_rocm = built
    if not (has_cuda or has_rocm):
        return f"torch {version} is built without CUDA"
    if not has_rocm and not _has_driver():
        return "there is no NVIDIA driver"
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of a driver that is too old is said below
        n_seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if n_seen == 0:
        return "torch sees no GPU (none is there, CUDA_VISIBLE_DEVICES hides it, or its driver is too old)"
    place = gpu_place(device)
    if place >= n_seen:
        return f"torch sees {n_seen} GPU(s), numbered from 0"
    return "" if has_rocm else _unsupported(place, torch.cuda.get_arch_list())


def require_gpu(device: str) -> None:
    """Refuse to go on without a GPU.

    Raises
    ------
    ModelError
        When torch cannot use it here; the message names this machine, since it may be one of many workers.
    """
    problem = gpu_problem(device)
    if problem:
        raise ModelError(
            f"device '{device}' on {platform.node() or 'this machine'}: {problem}; a GPU that torch can use is needed. "
            "Work where there is one, or choose --device cpu.",
            value=problem,
            needed="a GPU that torch can use",
            option="--device",
        )


def gpu_name(device: str) -> str:
    """Name a GPU that torch can use, as its maker does."""
    import torch

    return str(torch.cuda.get_device_name(gpu_place(device)))


def gpu_place(device: str) -> int:
    """Return the number of a GPU, counted from 0 among those that this process sees."""
    return int(device.partition(":")[2] or 0)


def is_gpu(device: str) -> bool:
    """Tell whether a device is a GPU."""
    return device.partition(":")[0] == _NAME


def _built_for() -> tuple[str, bool, bool] | None:
    """Read torch's version, and whether it was built for CUDA and for ROCm, from its file; None without torch."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    facts = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return str(facts["__version__"]), facts.get("cuda") is not None, facts.get("hip") is not None


def _has_driver() -> bool:
    """Tell whether NVIDIA's driver can be loaded; that alone starts nothing."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _unsupported(place: int, built: list[str]) -> str:
    """Say that this torch has no code for a GPU, as for one that is older than its release; empty when it has."""
    import torch

    major, minor = torch.cuda.get_device_capability(place)
    numbers = [(kind, int(digits.rstrip("af"))) for kind, _, digits in (one.partition("_") for one in built)]
    for kind, number in numbers:
        # Code runs on later GPUs of its generation; what is translated at its start (compute_) on all later ones.
        if (kind == "sm" and number // 10 == major and number % 10 <= minor) or (
            kind == "compute" and number <= 10 * major + minor
        ):
            return ""
    name = torch.cuda.get_device_name(place)
    return f"{name} has compute capability {major}.{minor}, for which torch {torch.__version__} is not built"

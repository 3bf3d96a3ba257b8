"""A cache of networks that OpenVINO compiled, so that the user's next process needs no torch.

Importing torch, tracing and conversion would take seconds in every process. A compiled network gives the same scores to
the bit each time it is loaded; OpenVINO's own file format for networks does not. The cache is a folder that this user
alone can enter, because whoever can write there can decide what a network finds. The name of an entry is a hash of all
that the network is made of, and the entry holds its own checksum. One that is damaged or does not load is made again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsipsm.errors import OutputError
from wsipsm.models.card import ModelCard
from wsipsm.models.quiet_openvino import openvino
from wsipsm.models.registry import read_weights
from wsipsm.rundir import TEMPORARY_PREFIX, digest, write_aside

if TYPE_CHECKING:
    from wsipsm.models.forms import Form

FOLDER_VARIABLE = "WSIPSM_NETWORK_CACHE"
"""Environment variable that names another folder for the cache; with 'off' nothing is kept."""
_OFF = "off"
_SUFFIX = ".network"
_N_KEPT = 32
"""Largest number of entries that are kept, of about 2 MB each; the oldest are removed first."""
_MADE_BY = ("unet.py", "forms.py", "conversion.py", "compiled.py")
"""Modules of this folder whose code decides what a compiled network is."""
_CHECKSUM_BYTES = hashlib.sha256().digest_size


def open_compiled(weights: Path, card: ModelCard, form: Form, settings: dict[str, Any]) -> openvino.CompiledModel:
    """Load a compiled network from the cache, or convert, compile and keep it.

    Parameters
    ----------
    weights, card
        The same as :func:`wsipsm.models.registry.resolve_model` returns.
    form
        Which maps it gives of an image.
    settings
        Settings of OpenVINO; networks that differ in the number of threads alone share an entry.

    Returns
    -------
    The compiled network, ready for requests on the CPU.

    Raises
    ------
    ModelError
        When the weights are unusable.
    """
    core = openvino.Core()
    read_weights(weights, card)  # damaged weights must be refused even where the cache holds their network
    folder = private_folder()
    entry = None if folder is None else folder / f"{_name(core, card, form, settings)}{_SUFFIX}"
    kept = None if entry is None else _read_entry(entry)
    if kept is not None:
        with suppress(RuntimeError):  # OpenVINO raises it for a network that it cannot load on this machine
            return core.import_model(kept, "CPU", settings)
    from wsipsm.models.conversion import convert_network

    compiled = core.compile_model(convert_network(weights, card, form), "CPU", settings)
    if entry is not None:
        # Where the disk is full or the folder is gone, the next process compiles again; this run need not fail.
        with suppress(OSError, OutputError):
            _write_entry(entry, compiled.export_model().getvalue())
    return compiled


def private_folder() -> Path | None:
    """Return the folder of the cache, made when absent; None where there is none that this user alone can enter."""
    folder, problem = find_folder()
    return None if problem else folder


def find_folder() -> tuple[Path | None, str]:
    """Find the folder of the cache, made when absent, and why it is not used.

    Returns
    -------
    The folder, None where the user wants none or none can be named; and the reason not to use it, empty where it is
    used or none is wanted.
    """
    try:
        folder = _chosen_folder()
        if folder is None:
            return None, ""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = os.lstat(folder)
    except (OSError, RuntimeError, ValueError) as error:  # no home folder, or an impossible path
        return None, f"no folder can be made: {error}"
    if not stat.S_ISDIR(facts.st_mode):
        return folder, "it is a link or a file"
    if os.name == "posix" and facts.st_uid != os.geteuid():
        return folder, "it belongs to another user"
    if os.name == "posix" and stat.S_IMODE(facts.st_mode) & 0o077:
        return folder, "other users can enter it"
    return folder, ""


def _chosen_folder() -> Path | None:
    chosen = os.environ.get(FOLDER_VARIABLE, "")
    if chosen:
        return None if chosen.lower() == _OFF else Path(chosen).expanduser()
    user = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", "")
    return (Path(user) if user else Path.home() / ".cache") / "wsipsm" / "networks"


def _name(core: openvino.Core, card: ModelCard, form: Form, settings: dict[str, Any]) -> str:
    """Compute the hash of all that decides a compiled network: network, code, libraries and processor."""
    facts = {
        "card": [card.sha256.lower(), card.architecture, card.stride, card.reach_px, card.outputs],
        "form": form,
        "settings": {name: value for name, value in settings.items() if name != "INFERENCE_NUM_THREADS"},
        "code": [hashlib.sha256(Path(__file__).with_name(name).read_bytes()).hexdigest() for name in _MADE_BY],
        "versions": [openvino.__version__, _torch_version()],
        "processor": [
            core.get_property("CPU", "FULL_DEVICE_NAME"),
            sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
            platform.machine(),
            _instruction_sets(),
        ],
    }
    return digest(facts)


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _instruction_sets(facts: Path = Path("/proc/cpuinfo")) -> str:
    """Read the processor's instruction sets, where Linux lists them; empty elsewhere.

    Machines that share a home folder may have processors of one name and different abilities.
    """
    try:
        lines = facts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(("flags", "Features"))), "")


def _read_entry(entry: Path) -> bytes | None:
    try:
        content = entry.read_bytes()
    except OSError:
        return None
    checksum, network = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
    return network if network and hashlib.sha256(network).digest() == checksum else None


def _write_entry(entry: Path, network: bytes) -> None:
    with write_aside(entry) as temporary:
        temporary.write_bytes(hashlib.sha256(network).digest() + network)
    made = [*entry.parent.glob(f"*{_SUFFIX}"), *entry.parent.glob(f"{TEMPORARY_PREFIX}*{_SUFFIX}")]
    for old in sorted(set(made), key=lambda file: file.stat().st_mtime_ns)[:-_N_KEPT]:
        old.unlink(missing_ok=True)

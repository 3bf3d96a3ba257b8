"""Checkpoints: the state of a training in a safetensors file with a JSON header, without any pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer

from wsipsm.errors import ModelError
from wsipsm.rundir import write_aside

_FACTS = "wsipsm"
_NETWORK, _AVERAGE, _OPTIMISER = "network.", "average.", "optimiser."
_MAX_BYTES = 4 << 30


def digest_arrays(arrays: Iterable[NDArray[np.generic]]) -> str:
    """Compute the SHA-256 of arrays, with their shapes and types, as hex digits."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(f"{array.dtype.str} {array.shape};".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def digest_state(state: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of weights in the order of their names, as :func:`digest_arrays` does."""
    return digest_arrays(value.detach().cpu().numpy() for _, value in sorted(state.items()))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a training."""

    identity: str
    """Hash of all that shapes the training; a checkpoint of another one is not continued."""
    step: int
    """Number of steps that were finished."""
    losses: tuple[float, ...]
    """Loss of every finished step."""
    tensors: dict[str, Tensor]
    """Weights, their average and the optimiser's state, by prefixed name."""


def load_trunk(network: nn.Module, path: Path, name: str) -> None:
    """Load weights into a network without a head, in place.

    Parameters
    ----------
    network
        Network that takes the weights.
    path
        Safetensors file with the network's own names; other tensors in it are ignored.
    name
        Name of the network, for the error.

    Raises
    ------
    ModelError
        When the file cannot be read as safetensors, or was made for another network.
    """
    try:
        stored = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); weights are needed.") from error
    own = network.state_dict()
    wrong = [key for key in own if key not in stored or stored[key].shape != own[key].shape]
    if wrong:
        raise ModelError(
            f"{path}: made for another network ({wrong[0]} and {len(wrong) - 1} more do not fit); weights of {name} "
            "are needed."
        )
    network.load_state_dict({key: stored[key] for key in own})


def save_checkpoint(
    path: Path,
    identity: str,
    losses: list[float],
    network: nn.Module,
    optimiser: Optimizer,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the state after ``len(losses)`` steps.

    Raises
    ------
    OutputError
        When the disk is full or the place is not writable; the previous checkpoint remains.
    """
    tensors = {_NETWORK + name: value for name, value in network.state_dict().items()}
    tensors |= {_AVERAGE + name: value for name, value in (average or {}).items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    facts = {"identity": identity, "step": len(losses), "losses": losses}
    content = safetensors.torch.save(plain, metadata={_FACTS: orjson.dumps(facts).decode()})
    with write_aside(path) as temporary:
        temporary.write_bytes(content)


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None when there is none.

    Raises
    ------
    ModelError
        When the file is damaged or is no checkpoint.
    """
    if not path.exists():
        return None
    needed = "a checkpoint of wsipsm is needed. Remove it to train anew"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path}: has {path.stat().st_size} bytes; {needed}.")
        content = path.read_bytes()
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        facts = orjson.loads(orjson.loads(content[8 : 8 + length])["__metadata__"][_FACTS])
        losses = tuple(float(loss) for loss in facts["losses"])
        return Checkpoint(str(facts["identity"]), int(facts["step"]), losses, tensors)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); {needed}.") from error
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: is damaged or another kind of file ({error}); {needed}.") from error


def restore(
    path: Path, checkpoint: Checkpoint, network: nn.Module, optimiser: Optimizer, average: dict[str, Tensor] | None
) -> None:
    """Put a checkpoint's state into network, optimiser and average, in place.

    Raises
    ------
    ModelError
        When the checkpoint was made for another architecture.
    """
    own = network.state_dict()
    stored = _part(checkpoint, _NETWORK)
    different = [
        name
        for name in sorted(own.keys() | stored.keys())
        if name not in own or name not in stored or own[name].shape != stored[name].shape
    ]
    if different:
        raise ModelError(
            f"{path}: made for another architecture ({different[0]} and {len(different) - 1} more differ); a "
            "checkpoint of this network is needed. Remove it to train anew, or choose the network of before."
        )
    network.load_state_dict(stored)
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(checkpoint, _OPTIMISER).items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})
    if average is not None:
        for name, value in _part(checkpoint, _AVERAGE).items():
            average[name].copy_(value)


def _part(checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in checkpoint.tensors.items() if name.startswith(prefix)}

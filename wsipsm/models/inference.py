"""The choice of library, device and number format that run a network, made once a run; workers obey it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec

from wsipsm.errors import ModelError
from wsipsm.keys import BACKENDS, DEVICE_PATTERN, PRECISIONS
from wsipsm.models.gpu import gpu_problem, is_gpu, require_gpu


@dataclass(frozen=True, slots=True)
class Inference:
    """A library, a device and a number format, by which a network is run."""

    library: str
    """``openvino`` or ``torch``."""
    device: str
    """``cpu``, ``cuda`` (the first GPU that a worker sees) or ``cuda:n``."""
    precision: str
    """Format in which the network multiplies: ``float32``, ``float16`` or ``bfloat16``."""

    @property
    def kind(self) -> Inference:
        """The same without the GPU's number, on which no result depends."""
        return replace(self, device=self.device.partition(":")[0])


def choose_inference(
    backend: str = "auto", device: str = "auto", precision: str = "auto", here: bool = True
) -> Inference:
    """Choose what runs a network.

    Parameters
    ----------
    backend
        ``openvino``, ``torch``, or ``auto``: torch on a GPU, OpenVINO on a processor, where it is installed and 3 to 4
        times faster than torch.
    device
        ``cpu``, ``cuda``, ``cuda:n``, or ``auto``: a GPU that torch can use, else the processor.
    precision
        ``float32``, ``float16``, ``bfloat16``, or ``auto``: float16 on a GPU, else float32.
    here
        Whether the work is done on this machine. Elsewhere ``auto`` takes the processor, because this process does
        not see other machines' GPUs, and it is for the workers to refuse a GPU that they lack.

    Raises
    ------
    ModelError
        When one of the three is unknown, is not there, or does not go with the others.
    """
    _check_known("backend", backend, BACKENDS)
    _check_known("precision", precision, PRECISIONS)
    if not re.fullmatch(DEVICE_PATTERN, device):
        raise _unknown("device", device, "auto, cpu, cuda, cuda:n")
    if device == "auto":
        device = "cuda" if backend != "openvino" and here and not gpu_problem("cuda") else "cpu"
    elif here and is_gpu(device) and backend != "openvino":
        require_gpu(device)
    library = backend
    if backend == "auto":
        library = "torch" if is_gpu(device) or find_spec("openvino") is None else "openvino"
    if precision == "auto":
        precision = "float16" if is_gpu(device) else "float32"
    if library == "openvino":
        _check_openvino(device, precision)
    return Inference(library, device, precision)


def _check_known(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise _unknown(option, value, ", ".join(known))


def _unknown(option: str, value: str, known: str) -> ModelError:
    return ModelError(
        f"{option} {value!r}: unknown; {known} are known. Check --{option}.",
        value=value,
        needed=known,
        option=f"--{option}",
    )


def _check_openvino(device: str, precision: str) -> None:
    """Refuse what OpenVINO lacks or is not used for."""
    if find_spec("openvino") is None:
        raise ModelError(
            "backend 'openvino': OpenVINO is not installed; it is needed for this backend. "
            "Run pip install openvino, or choose torch.",
            value="openvino",
            needed="openvino, which is not installed",
            option="--backend",
        )
    for option, value, needed in (("device", device, "cpu"), ("precision", precision, "float32")):
        if value != needed:
            raise ModelError(
                f"{option} {value!r}: OpenVINO was chosen, which is used with {needed} alone. Leave --{option} out, or "
                "choose --backend torch.",
                value=value,
                needed=needed,
                option=f"--{option}",
            )

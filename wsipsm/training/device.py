"""The device that a training runs on, which is found and not chosen by the user."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Compute:
    """Device and number format of a training, and the number of processes that share it."""

    device: torch.device
    autocast: torch.dtype | None
    """Number format of forward passes; None: float32 throughout."""
    rank: int = 0
    """Number of this process, from 0."""
    n_ranks: int = 1
    """Number of processes."""

    @property
    def description(self) -> str:
        """Description of the device in plain words, for logs."""
        kind = "float32" if self.autocast is None else str(self.autocast).removeprefix("torch.")
        many = f", {self.n_ranks} processes" if self.n_ranks > 1 else ""
        return f"{self.device.type} {kind}{many}"

    def casting(self) -> AbstractContextManager[object]:
        """Make the context in which forward passes run."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)


def find_compute() -> Compute:
    """Choose the GPU where there is one, in bf16, or in fp16 where it lacks bf16; else the processor in float32.

    With torch's own launcher (``torchrun``) every process takes a GPU of its own and a share of each batch.
    """
    rank, n_ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return Compute(torch.device("cpu"), None, rank, n_ranks)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return Compute(device, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16, rank, n_ranks)

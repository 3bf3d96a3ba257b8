"""What a training runs on: found out, not asked for."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

_BYTES_PER_PIXEL = 6_000
"""Of Res2Net-101's first stage without gradients, float32, measured on 1,000 x 1,000 px; more than other networks."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Device, number format and share of the work."""

    device: torch.device
    autocast: torch.dtype | None
    """None: float32 throughout."""
    rank: int = 0
    n_ranks: int = 1

    @property
    def told(self) -> str:
        """As logs and cards name it."""
        kind = "float32" if self.autocast is None else str(self.autocast).removeprefix("torch.")
        many = f", {self.n_ranks} processes" if self.n_ranks > 1 else ""
        return f"{self.device.type} {kind}{many}"

    def casting(self) -> AbstractContextManager[object]:
        """Context in which forward passes run."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast)

    def map_batch(self, n_pixels: int) -> int:
        """Images of a size that go through a network at once."""
        if self.device.type != "cuda":
            return 1  # a processor gains nothing from a batch
        free, _ = torch.cuda.mem_get_info(self.device)
        return max(1, min(64, int(free * 0.5) // (n_pixels * _BYTES_PER_PIXEL)))


def find_compute() -> Compute:
    """Take the GPU where there is one, in bf16, or fp16 where it lacks bf16; else the processor in float32.

    Under torch's own launcher (``torchrun``) every process takes its GPU and its share of each batch.
    """
    rank, n_ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return Compute(torch.device("cpu"), None, rank, n_ranks)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return Compute(device, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16, rank, n_ranks)

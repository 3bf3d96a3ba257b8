"""The stand-in network for a worker that says it has another torch, as one that was installed apart does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve())
TORCH = "torch 0.0.1"


async def dask_setup(worker: Any) -> None:
    import stand_in

    from wsipsm.results import provenance

    versions = provenance.library_versions()
    versions["torch"] = TORCH.split()[1]
    stand_in.install()

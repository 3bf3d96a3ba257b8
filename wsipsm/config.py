"""Options of a run, checked at birth."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class RunOptions(BaseModel):
    """What a user may choose about a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    """Name of a shipped model or path of weights; None: chosen by the stain that the slide shows."""
    mpp: float | None = None
    """Level-0 pixel size, um/px, in place of the file's. Checked where the slide is opened."""
    roi: Path | None = None
    """GeoJSON of the region to score; None: all tissue."""
    workers: int | None = Field(None, ge=0)
    """Worker processes; 0 works in this process, None takes what the machine or job grants."""
    scheduler: str | None = None
    """Address of a running Dask scheduler; None starts a local cluster."""
    overwrite: bool = False
    """Redo a finished run. Unfinished runs are continued, and other options replace old results, without it."""
    block_px: int = Field(2048, ge=64, le=16384)
    """Side of a block's core, working pixels. 2048 px read, scored and decoded stay under 1 GB a worker."""
    tile_px: int = Field(1024, ge=32, le=8192)
    """Side of the square the network sees at once without its margin, working pixels."""
    seed: int = 0
    """For the sample of tissue pixels that the stain profile is fitted on."""
    backend: str = "auto"
    """What runs the network: auto, openvino or torch."""

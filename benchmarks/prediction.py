"""The installed package as a user runs it, and what it wrote, for the scripts of this folder."""

from __future__ import annotations

from wsipsm.benchmark.bench import run_image
from wsipsm.benchmark.cells import Cells, read_run_nuclei

__all__ = ["Cells", "read_run_nuclei", "run_image"]

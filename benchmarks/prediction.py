"""The installed package as a user runs it, and what it wrote, for the scripts of this folder."""

from __future__ import annotations

from wsipsm.benchmark.bench import run_image
from wsipsm.benchmark.cells import Cells, read_cells

__all__ = ["Cells", "read_cells", "run_image"]

"""Runs the installed package as a user does and reads its results, for the scripts of this folder."""

from __future__ import annotations

from wsipsm.benchmark.bench import run_image
from wsipsm.benchmark.cells import Cells, read_run_nuclei

__all__ = ["Cells", "read_run_nuclei", "run_image"]

"""Runs a block twice in a new process, and prints the processor time of the first run and of the second.

    python -m benchmarks.speed_first_block JOB

JOB is a pickled pair of a job and a block, which ``benchmarks.speed`` wrote. The time of the first run includes the
start of Python.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from benchmarks.speed_bench import cpu_now
from wsipsm.stages.block import segment_block


def main() -> None:
    """Run the command."""
    job, block = pickle.loads(Path(sys.argv[1]).read_bytes())
    segment_block(job, block)
    first = cpu_now()
    segment_block(job, block)
    print(first, cpu_now() - first)


if __name__ == "__main__":
    main()

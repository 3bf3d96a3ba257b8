"""Workers whose blocks do nothing, for `scale.py overhead`: `dask worker --preload` loads this file.

    python benchmarks/scale_worker.py SCHEDULER N FOLDER

As a command it runs N workers in one process, to show on a small machine what many workers cost scheduler and client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from typing import Any

from distributed import Worker
from scale_pool import STAND_IN

from wsipsm.errors import WsipsmError
from wsipsm.events import BlockReport
from wsipsm.results.summary import RunSummary
from wsipsm.stages.block import SlideJob
from wsipsm.stages.prepare import PreparedSlide, prepare_slide
from wsipsm.tiling import Block

N_BLOCKS = "WSIPSM_SCALE_BLOCKS"
"""Environment variable with the number of blocks that a slide gets instead of its own."""


def prepare_many(*arguments: Any) -> PreparedSlide | RunSummary:
    """Plan a slide as usual, and replace its blocks by many."""
    prepared = prepare_slide(*arguments)
    if isinstance(prepared, RunSummary):
        return prepared
    first = prepared.plan.blocks[0]
    blocks = tuple(replace(first, index=index) for index in range(int(os.environ[N_BLOCKS])))
    return replace(prepared, plan=replace(prepared.plan, blocks=blocks))


def finish_nothing(*arguments: Any) -> RunSummary:
    """Refuse to write results, since blocks that do nothing have none."""
    raise WsipsmError("blocks that do nothing leave nothing to write.")


def report_nothing(job: SlideJob, block: Block) -> BlockReport:
    """Return the report of a real block without any work."""
    seconds = {"read": 0.1234, "predict": 1.2345, "decode": 0.1234, "write": 0.0123}
    return BlockReport(block.index, n_nuclei=1234, n_tiles=4, n_too_large=0, seconds=seconds, backend="nothing")


def install() -> None:
    """Replace the steps that a worker runs by the functions above."""
    sys.path.insert(0, str(STAND_IN.parent))
    import stand_in

    import wsipsm.cohort.flow

    stand_in.install()
    wsipsm.cohort.flow.prepare_slide = prepare_many
    wsipsm.cohort.flow.segment_block = report_nothing
    wsipsm.cohort.flow.finish_slide = finish_nothing


async def dask_setup(worker: Any) -> None:
    """Install the functions in a worker that preloads this file; Dask calls this."""
    install()


async def run_workers(address: str, n_workers: int, folder: str) -> None:
    """Run workers until the scheduler ends."""
    install()
    workers = [Worker(address, nthreads=1, dashboard=False, local_directory=folder) for _ in range(n_workers)]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


if __name__ == "__main__":
    asyncio.run(run_workers(sys.argv[1], int(sys.argv[2]), sys.argv[3]))

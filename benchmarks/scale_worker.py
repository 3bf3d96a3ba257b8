"""Workers whose blocks do nothing, for `scale.py overhead`: `dask worker --preload` loads this file.

    python benchmarks/scale_worker.py SCHEDULER N FOLDER

As a command it holds N workers in one process: what scheduler and client do for many workers shows on a small machine.
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
"""Environment variable: blocks that a slide is given in place of its own."""


def prepare_many(*arguments: Any) -> PreparedSlide | RunSummary:
    """Plan a slide as ever, and give it many blocks."""
    prepared = prepare_slide(*arguments)
    if isinstance(prepared, RunSummary):
        return prepared
    first = prepared.plan.blocks[0]
    blocks = tuple(replace(first, index=index) for index in range(int(os.environ[N_BLOCKS])))
    return replace(prepared, plan=replace(prepared.plan, blocks=blocks))


def finish_nothing(*arguments: Any) -> RunSummary:
    """Say that there is nothing to write."""
    raise WsipsmError("blocks that do nothing leave nothing to write.")


def report_nothing(job: SlideJob, block: Block) -> BlockReport:
    """Report as a real block does, and do nothing for it."""
    seconds = {"read": 0.1234, "predict": 1.2345, "decode": 0.1234, "write": 0.0123}
    return BlockReport(block.index, n_nuclei=1234, n_tiles=4, n_too_large=0, seconds=seconds, backend="nothing")


def install() -> None:
    """Put them where a worker's steps are called."""
    sys.path.insert(0, str(STAND_IN.parent))
    import stand_in

    import wsipsm.cohort.flow

    stand_in.install()
    wsipsm.cohort.flow.prepare_slide = prepare_many
    wsipsm.cohort.flow.segment_block = report_nothing
    wsipsm.cohort.flow.finish_slide = finish_nothing


async def dask_setup(worker: Any) -> None:
    """Be loaded by a worker."""
    install()


async def hold_workers(address: str, n_workers: int, folder: str) -> None:
    """Hold workers until the scheduler ends."""
    install()
    workers = [Worker(address, nthreads=1, dashboard=False, local_directory=folder) for _ in range(n_workers)]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


if __name__ == "__main__":
    asyncio.run(hold_workers(sys.argv[1], int(sys.argv[2]), sys.argv[3]))

"""Runs a cohort with the stand-in network, and is there to be disturbed: ``cohort out [--option value]``."""

from __future__ import annotations

import os
import runpy
import sys
from argparse import ArgumentParser
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import dask.config
    import distributed  # noqa: F401  its defaults must be there before one is changed
    import stand_in

    from wsipsm.cohort.run import CohortOptions, run_cohort
    from wsipsm.config import RunOptions
    from wsipsm.errors import WsipsmError
    from wsipsm.events import Event, SlideDone

    parser = ArgumentParser()
    parser.add_argument("cohort")
    parser.add_argument("out")
    parser.add_argument("--scheduler")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--retry", type=int, default=3)
    parser.add_argument("--pause-s", type=float, default=0.5)
    parser.add_argument("--preload", default=stand_in.HERE, help="file that local workers load")
    parser.add_argument("--one-cpu", action="store_true")
    given = parser.parse_args()
    if given.one_cpu:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def tell(event: Event) -> None:
        if isinstance(event, SlideDone):
            sys.stdout.write(f"done {event.slide}\n")
            sys.stdout.flush()

    stand_in.install()
    if given.workers == 0 and given.preload != stand_in.HERE:
        runpy.run_path(given.preload)["install"]()
    options = RunOptions(mpp=stand_in.MPP, scheduler=given.scheduler, workers=given.workers, block_px=256, tile_px=128)
    how = CohortOptions(retry=given.retry, pauses_s=(given.pause_s,))
    with dask.config.set({"distributed.worker.preload": [given.preload]}):
        try:
            summary = run_cohort([given.cohort], given.out, options, tell, how)
        except WsipsmError as error:
            sys.stdout.write(f"error: {error}\n")
            sys.exit(error.exit_code)
    sys.exit(summary.exit_code)


if __name__ == "__main__":
    main()

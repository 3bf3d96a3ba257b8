"""Runs a study with the stand-in network on a running scheduler, and is there to be killed."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import stand_in

    from wsipsm.config import RunOptions
    from wsipsm.engine.events import Event, SlideDone
    from wsipsm.stages.cohort import CohortOptions, run_cohort

    def tell(event: Event) -> None:
        if isinstance(event, SlideDone):
            sys.stdout.write(f"done {event.slide}\n")
            sys.stdout.flush()

    stand_in.install()
    study, out, scheduler = sys.argv[1:]
    options = RunOptions(mpp=stand_in.MPP, scheduler=scheduler, block_px=256, tile_px=128)
    summary = run_cohort([study], out, options, tell, CohortOptions(retry=3, pauses_s=(0.5,)))
    sys.exit(summary.exit_code)


if __name__ == "__main__":
    main()

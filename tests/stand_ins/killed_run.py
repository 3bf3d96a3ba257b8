"""Runs a slide with the stand-in network, tells its events, and is there to be killed."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import dask.config
    import distributed  # noqa: F401  its defaults must be there before one is changed
    import stand_in

    from wsipsm.config import RunOptions
    from wsipsm.stages.run import run_slide

    def tell(event: object) -> None:
        sys.stdout.write(f"{event}\n")
        sys.stdout.flush()

    stand_in.install()
    slide, out, workers = sys.argv[1:]
    options = RunOptions(mpp=stand_in.MPP, workers=int(workers), block_px=128, tile_px=128)
    with dask.config.set({"distributed.worker.preload": [stand_in.HERE]}):
        run_slide(slide, out, options, tell)


if __name__ == "__main__":
    main()

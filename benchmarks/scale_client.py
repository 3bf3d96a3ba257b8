"""The client of `scale.py`, in its own process: it runs a cohort on a running scheduler.

    python benchmarks/scale_client.py COHORT OUT SCHEDULER [--stand-in] [--block-px N] [--roi FILE] [--model NAME]

It prints a line at the end of every slide, and at its own end, as JSON, how long each step took.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import psutil
from scale_pool import STAND_IN, Watched

from wsipsm.cohort.run import CohortOptions, run_cohort
from wsipsm.config import RunOptions
from wsipsm.events import BlockDone, Event, SlideDone, SlideFailed


class Mark(NamedTuple):
    """Progress of a run at one moment, and what it had used until then."""

    n_blocks: int
    seconds: float
    used: list[tuple[float, int]]
    """Processor time in seconds and resident set in bytes, of the client and then of the scheduler."""


class RunRecorder:
    """A listener that records the progress of a run and what it uses."""

    def __init__(self, every: int, scheduler: psutil.Process | None) -> None:
        self.started = time.perf_counter()
        self.n_blocks = 0
        self.marks: list[Mark] = []
        self.steps: Counter[str] = Counter()
        """Seconds that workers spent, by step."""
        self.n_failed = 0
        self._every = every
        self._watched = [psutil.Process(), *([scheduler] if scheduler else [])]

    def mark(self) -> None:
        """Record the time, and the processor time and memory of this process and the scheduler."""
        used = [(sum(p.cpu_times()[:2]), p.memory_info().rss) for p in self._watched]
        self.marks.append(Mark(self.n_blocks, time.perf_counter() - self.started, used))

    def __call__(self, event: Event) -> None:
        """Take an event of the cohort."""
        match event:
            case BlockDone(_, report):
                if self.n_blocks % self._every == 0:
                    self.mark()
                self.n_blocks += 1
                self.steps.update(report.seconds)
            case SlideDone(_, summary):
                self.steps.update({"plan": summary.seconds["plan"], "results": summary.seconds["write"]})
                print("done", flush=True)
            case SlideFailed():
                self.n_failed += 1
                print("failed", flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort")
    parser.add_argument("out")
    parser.add_argument("scheduler")
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--block-px", type=int, default=2048)
    parser.add_argument("--roi", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--every", type=int, default=1, help="blocks between two marks")
    parser.add_argument("--scheduler-pid", type=int)
    args = parser.parse_args()
    mpp = None
    if args.stand_in:
        sys.path.insert(0, str(STAND_IN.parent))
        import stand_in

        stand_in.install()
        mpp = stand_in.MPP
    options = RunOptions(mpp=mpp, scheduler=args.scheduler, block_px=args.block_px, roi=args.roi, model=args.model)
    recorder = RunRecorder(args.every, psutil.Process(args.scheduler_pid) if args.scheduler_pid else None)
    run_cohort([args.cohort], args.out, options, recorder, CohortOptions(retry=0))
    recorder.mark()
    result = {
        "n_blocks": recorder.n_blocks,
        "n_failed": recorder.n_failed,
        "marks": recorder.marks,
        "steps": recorder.steps,
        "peak_bytes": Watched(psutil.Process()).kernel_peak_bytes(),
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

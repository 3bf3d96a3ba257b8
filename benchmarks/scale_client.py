"""The client of `scale.py`, in a process of its own: a cohort on a running scheduler.

    python benchmarks/scale_client.py COHORT OUT SCHEDULER [--stand-in] [--block-px N] [--roi FILE] [--model NAME]

It says a line at every slide's end, and at its own how long what took, as JSON.
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
    """How far a run was, and what it had used."""

    n_blocks: int
    seconds: float
    used: list[tuple[float, int]]
    """Seconds of the processor, and resident bytes: of the client, then of the scheduler."""


class Diary:
    """What happened, and when. A listener."""

    def __init__(self, every: int, scheduler: psutil.Process | None) -> None:
        self.started = time.perf_counter()
        self.n_blocks = 0
        self.marks: list[Mark] = []
        self.steps: Counter[str] = Counter()
        """Seconds in the workers, by step."""
        self.n_failed = 0
        self._every = every
        self._watched = [psutil.Process(), *([scheduler] if scheduler else [])]

    def mark(self) -> None:
        """Note time, and what this process and the scheduler used of processor and memory until now."""
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
    diary = Diary(args.every, psutil.Process(args.scheduler_pid) if args.scheduler_pid else None)
    run_cohort([args.cohort], args.out, options, diary, CohortOptions(retry=0))
    diary.mark()
    told = {
        "n_blocks": diary.n_blocks,
        "n_failed": diary.n_failed,
        "marks": diary.marks,
        "steps": diary.steps,
        "peak_bytes": Watched(psutil.Process()).kernel_peak_bytes(),
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()

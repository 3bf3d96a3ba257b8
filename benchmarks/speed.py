"""Measures the processor time of a run and of its parts, and compares each ratio with its target, in one table.

    python -m benchmarks.speed --he IMAGE... --ki67 IMAGE... [--rows ROW...] [--repeats 5] [--side 8192] [--blocks 4]

The images must have 0.25 um/px; they are put side by side and repeated, mirrored, on a slide that is composed here and
is scored as a whole. Seconds are processor time, user and system, of this process and those it started, in one thread
where wsipsm sets the number. The table has the median of the repeats with the least and the largest; compared
measurements are made in turn. A row that cannot be measured states the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2

from benchmarks.reading import keep_memory
from benchmarks.speed_bench import Bench, Line, Skipped
from benchmarks.speed_rows import ROWS
from benchmarks.tables import give_table
from wsipsm.benchmark.machine import describe_machine

HEAD = ("row", "what", "wsipsm, median (least..largest)", "beside", "ratio", "target", "held")


def measure(name: str, bench: Bench) -> list[Line]:
    """Measure a row; return a line with the reason when it cannot be measured."""
    try:
        return ROWS[name](name, bench)
    except Skipped as why:
        return [Line(name, "", note=str(why))]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--he", nargs="+", type=Path, default=[], metavar="IMAGE", help="dense H&E, 0.25 um/px")
    parser.add_argument("--ki67", nargs="+", type=Path, default=[], metavar="IMAGE", help="Ki-67, 0.25 um/px")
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", type=int, default=8192, help="side of the slides, level-0 pixels")
    parser.add_argument("--blocks", type=int, default=4, help="number of blocks that rows of blocks run")
    parser.add_argument("--nuclei", type=int, default=100_000, help="number of nuclei that are written")
    parser.add_argument("--out", type=Path, help="Markdown file; printed without")
    args = parser.parse_args(arguments)
    for path in (*args.he, *args.ki67):
        if not path.exists():
            parser.error(f"{path}: there is no such file; an image is needed.")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parse(arguments)
    cv2.setNumThreads(1)
    keep_memory()
    facts = describe_machine()
    load = f"{os.getloadavg()[0]:.1f} processes were running or waiting at the start"
    first = f"Date {facts['date']}. {facts['machine']}; {load}. {facts['versions']}. Repeats: {args.repeats}."
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="wsipsm-speed-") as folder:
        sources = {"he": args.he, "ki67": args.ki67}
        bench = Bench(Path(folder), sources, args.side, args.blocks, args.repeats, args.nuclei)
        for name in args.rows:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            lines += measure(name, bench)
    give_table(first, HEAD, [line.cells() for line in lines], args.out)


if __name__ == "__main__":
    main()

"""Scores the shipped models, and the floors without a network, on every labelled set, for the table of the README.

    python benchmarks/accuracy.py DATA --out DIR [--sets monuseg bcdata shidc dcis] [--model NAME_OR_PATH]
                                  [--limit N] [--no-floor]

DATA is a folder with ``monuseg/train`` and ``ki67/<set>``. For each set, the files of ``wsipsm bench`` are written into
DIR: tables of methods and of images, and a picture of the best, the median and the worst image. Every image is run by
`wsipsm.stages.run.run_slide`, as ``wsipsm run IMAGE --mpp X`` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wsipsm.benchmark.bench import open_set, run_bench
from wsipsm.benchmark.best_and_worst import write_gallery
from wsipsm.benchmark.names import BuiltIn, SetName
from wsipsm.benchmark.table import markdown, write_tables

SETS = tuple(name.value for name in SetName)
FOLDERS = {name: f"ki67/{name}" for name in SetName} | {SetName.MONUSEG: "monuseg/train"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with monuseg/ and ki67/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for tables and pictures")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--model", help="name or path of weights; default: by the stain that each image shows")
    parser.add_argument("--limit", type=int, help="only the first N images of each set")
    parser.add_argument("--no-floor", action="store_true", help="score the model alone")
    args = parser.parse_args(arguments)
    methods = [BuiltIn.WSIPSM] if args.no_floor else [BuiltIn.FLOOR, BuiltIn.WSIPSM]
    texts = []
    for name in map(SetName, args.sets):
        print(name, flush=True)
        opened = open_set(name, args.data / FOLDERS[name], limit=args.limit)
        report = run_bench(opened, methods, model=args.model, announce=lambda line: print(f"  {line}", flush=True))
        write_tables(report, args.out)
        write_gallery(opened, report, args.out, model=args.model)
        texts.append(markdown(report))
    print("\n".join(texts))


if __name__ == "__main__":
    main()

"""Score the shipped models, and the no-network floors, on the labelled sets.

    python benchmarks/accuracy.py --data DIR [--sets monuseg bcdata shidc dcis] [--model NAME_OR_PATH]
                                  [--out results.md|results.csv] [--limit N] [--no-floor]

A script on top of `wsipsm.stages.bench`: all sets at once, from a folder with ``monuseg/train`` and ``ki67/<set>``.
``wsipsm bench`` scores one set, with more methods. Every image goes through `wsipsm.stages.run.run_slide`, as
``wsipsm run IMAGE --mpp X`` does. To score another predictor, give `run_bench` a `Method` of your own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wsipsm.benchmark.names import BuiltIn, SetName
from wsipsm.benchmark.table import csv_text, markdown
from wsipsm.stages.bench import open_set, run_bench

SETS = tuple(name.value for name in SetName)
FOLDERS = {name: f"ki67/{name}" for name in SetName} | {SetName.MONUSEG: "monuseg/train"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with monuseg/ and ki67/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--model", help="name or path of weights; default: by the stain that each image shows")
    parser.add_argument("--out", type=Path, help="results.md; a CSV with a row an image lies beside it")
    parser.add_argument("--limit", type=int, help="only the first N images of each set")
    parser.add_argument("--no-floor", action="store_true", help="score the model alone")
    args = parser.parse_args(arguments)
    methods = [BuiltIn.WSIPSM] if args.no_floor else [BuiltIn.FLOOR, BuiltIn.WSIPSM]
    reports = []
    for name in map(SetName, args.sets):
        print(name, flush=True)
        opened = open_set(name, args.data / FOLDERS[name], limit=args.limit)
        reports.append(run_bench(opened, methods, model=args.model, tell=lambda line: print(f"  {line}", flush=True)))
    text = "\n".join(markdown(report) for report in reports)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.with_suffix(".md").write_text(text)
        rows = [row for report in reports for result in report.results for row in result.rows]
        args.out.with_suffix(".csv").write_text(csv_text(rows))
    print(text)


if __name__ == "__main__":
    main()

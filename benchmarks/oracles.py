"""Measures what each kind of error costs on MoNuSeg: one kind is corrected in the model's result by the truth.

    python benchmarks/oracles.py DIR [--model NAME_OR_PATH] [--out FOLDER] [--limit N]

DIR is the folder of the unpacked set. The tables are those of ``wsipsm bench``, with a row for each kind of error.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsipsm.benchmark.bench import Method, make_builtin, open_set, run_bench
from wsipsm.benchmark.images import LabelledImage
from wsipsm.benchmark.names import BuiltIn, SetName
from wsipsm.benchmark.oracles import ORACLES
from wsipsm.benchmark.table import markdown, write_tables


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--model", help="name or path of weights; default: by the stain that each image shows")
    parser.add_argument("--out", type=Path, default=Path("wsipsm-oracles"), help="where the tables are written")
    parser.add_argument("--limit", type=int, help="only the first N images")
    args = parser.parse_args(arguments)
    opened = open_set(SetName.MONUSEG, args.folder, limit=args.limit)
    installed = make_builtin(BuiltIn.WSIPSM, opened, args.model, 0)
    last: dict[str, NDArray[np.int32]] = {}

    def found(image: LabelledImage) -> NDArray[np.int32]:
        if image.name not in last:
            last.clear()  # one image at a time
            last[image.name] = installed.predict(image)
        return last[image.name]

    def undo(name: str) -> Method:
        return Method(name, lambda image: ORACLES[name](image.truth, found(image)))

    methods = [Method("as it is", found, installed.describe), *map(undo, ORACLES)]
    report = run_bench(opened, methods, announce=lambda line: print(line, flush=True))
    write_tables(report, args.out)
    print(markdown(report))


if __name__ == "__main__":
    main()

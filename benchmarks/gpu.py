"""Seconds a mm2 of the whole command on a GPU, each beside its target, in one table.

    python -m benchmarks.gpu --he IMAGE... [--side 16384] [--workers 0 4 8] [--precisions float16 float32] [--repeats 3]

The images have 0.25 um/px; they are put side by side and repeated, mirrored, on a slide that is composed here, all of
which counts as tissue. Seconds are by the clock, from the start of ``wsipsm run`` to its end, so nothing else should
run meanwhile; those of all blocks alone are given, too, since on a small slide the start weighs most. A first run of
each line is not counted. Where torch can use no GPU, the command says why and measures nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed_bench import MPP, Bench, Line, mm2, region_of
from benchmarks.speed_rows import FAST
from benchmarks.tables import give_table
from wsipsm.benchmark.machine import describe_machine
from wsipsm.models.gpu import gpu_name, gpu_problem, is_gpu
from wsipsm.results.folder_names import slide_stem
from wsipsm.results.read import read_summary
from wsipsm.results.run_record import RunRecord

HEAD = ("model", "what", "wsipsm, median (least..largest)", "beside", "ratio", "target", "held")


@dataclass(frozen=True)
class Case:
    """A model, what it shall reach, and what HoVer-NeXt takes at its pixel size."""

    model: str
    mpp: float
    target_s_mm2: float
    hovernext_s_mm2: float


CASES = (Case("nuclei-he", 0.25, 1.0, 3.2), Case(FAST, 0.5, 0.5, 1.8))


@dataclass(frozen=True)
class Way:
    """How a run is asked for."""

    device: str
    precision: str
    n_workers: int

    def __str__(self) -> str:
        return f"{self.precision}, {self.n_workers or 'no'} workers"


@dataclass(frozen=True)
class Measured:
    """One run: seconds by the clock of the command and of its blocks, its nuclei, and what ran the network."""

    command_s: float
    blocks_s: float
    n_nuclei: int
    backends: tuple[str, ...]


def run_once(bench: Bench, case: Case, way: Way) -> Measured:
    """Run the command on the composed slide."""
    slide = bench.slide("he")
    with tempfile.TemporaryDirectory(dir=bench.folder) as out:
        command = [str(Path(sys.executable).with_name("wsipsm")), "run", str(slide), "--out", out, "--quiet"]
        command += ["--roi", str(region_of(slide)), "--model", case.model, "--workers", str(way.n_workers)]
        command += ["--backend", "torch", "--device", way.device, "--precision", way.precision]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        folder = Path(out) / slide_stem(slide)
        run = RunRecord.read(folder)
        return Measured(seconds, run.seconds.stages["segment"], read_summary(folder).n_nuclei, run.model.backends)


def measure(bench: Bench, case: Case, way: Way) -> list[Line]:
    """Measure a model in one way: the lines of the table."""
    runs = [run_once(bench, case, way) for _ in range(bench.repeats + 1)][1:]
    area = mm2(bench.side**2, MPP)
    whole, blocks = [run.command_s / area for run in runs], [run.blocks_s / area for run in runs]
    beside = f"HoVer-NeXt, as published: {case.hovernext_s_mm2:g}; by {', '.join(runs[0].backends)}"
    return [
        Line(
            case.model,
            f"{case.mpp:g} um/px, whole command, {way}",
            "s/mm2",
            whole,
            at_most=case.target_s_mm2,
            note=beside,
        ),
        Line(case.model, f"of it, the blocks, {way}", "s/mm2", blocks),
        Line(case.model, f"nuclei, {way}", "", [run.n_nuclei for run in runs]),
    ]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--he", nargs="+", type=Path, required=True, metavar="IMAGE", help="dense H&E, 0.25 um/px")
    parser.add_argument("--models", nargs="+", choices=[case.model for case in CASES], default=None)
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 4, 8])
    parser.add_argument("--precisions", nargs="+", default=["float16", "float32"])
    parser.add_argument("--device", default="cuda", help="cpu tries out the command itself")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", type=int, default=16384, help="of the slide, level-0 pixels")
    parser.add_argument("--out", type=Path, help="Markdown file; printed without")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parse(arguments)
    problem = gpu_problem(args.device) if is_gpu(args.device) else ""
    if problem:
        print(f"not measured: {problem}")
        return
    facts = describe_machine()
    where = gpu_name(args.device) if is_gpu(args.device) else args.device
    first = f"Date {facts['date']}. {facts['machine']}; {where}. {facts['versions']}. Repeats: {args.repeats}."
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="wsipsm-gpu-") as folder:
        bench = Bench(Path(folder), {"he": args.he}, args.side, 0, args.repeats, 0)
        for case in (case for case in CASES if args.models is None or case.model in args.models):
            for precision in args.precisions:
                for n_workers in args.workers:
                    print(f"measuring {case.model} {precision} {n_workers}", file=sys.stderr, flush=True)
                    lines += measure(bench, case, Way(args.device, precision, n_workers))
    give_table(first, HEAD, [line.cells() for line in lines], args.out)


if __name__ == "__main__":
    main()

"""Seconds a square millimetre of ``wsipsm run``, by model.

    python benchmarks/speed.py --source SLIDE [--models nuclei-he [NAME_OR_PATH ...]] [--side 6144] [--workers 2]

A slide is composed of the source's pixels, mirrored, and run with each model in turn, so that a machine that grows
slower hits all alike. The whole command counts, start of Python included, and every square millimetre of the slide.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import describe_machine
from memory import run_command
from slides import compose_slide, read_source, write_whole_region

from wsipsm.results.folder_names import slide_stem
from wsipsm.results.run_record import RunRecord


def run_once(slide: Path, out: Path, workers: int, model: str) -> tuple[float, float]:
    """Seconds on the clock of a run, and those of the network in all workers."""
    command = [*run_command(slide, out, workers, model), "--roi", str(slide.with_suffix(".geojson"))]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    run = RunRecord.read(out / slide_stem(slide))
    return seconds, float(run.seconds.block_steps["predict"])


def report(found: dict[str, list[tuple[float, float]]], area_mm2: float) -> list[str]:
    """Markdown of the medians and of the ratio to the first model."""
    lines = ["| model | s/mm2 (each run) | of the network, all workers | times as fast |", "|---|---|---|---|"]
    medians = {name: statistics.median(seconds for seconds, _ in runs) / area_mm2 for name, runs in found.items()}
    first = next(iter(medians.values()))
    for name, runs in found.items():
        each = ", ".join(f"{seconds / area_mm2:.2f}" for seconds, _ in runs)
        network = statistics.median(predict for _, predict in runs) / area_mm2
        lines.append(f"| {name} | {medians[name]:.2f} ({each}) | {network:.2f} | {first / medians[name]:.2f} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="small slide whose pixels are repeated")
    parser.add_argument("--models", nargs="+", default=["nuclei-he"], help="names or paths")
    parser.add_argument("--side", type=int, default=6144, help="of the slide, level-0 pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="wsipsm-speed-") as name:
        folder = Path(name)
        slide = folder / "composed.svs"
        pixels, mpp = read_source(args.source)
        compose_slide(slide, pixels, args.side, mpp)
        write_whole_region(slide.with_suffix(".geojson"), args.side)
        found: dict[str, list[tuple[float, float]]] = {model: [] for model in args.models}
        for repeat in range(args.repeats):
            for n, model in enumerate(args.models):
                found[model].append(run_once(slide, folder / f"out-{n}-{repeat}", args.workers, model))
    area_mm2 = (args.side * mpp / 1000) ** 2
    facts = describe_machine()
    print(f"{args.side} x {args.side} px of {mpp} um/px, {area_mm2:.2f} mm2, {args.workers} workers.")
    print(f"Date {facts['date']}. {facts['machine']}. {facts['versions']}.\n")
    print("\n".join(report(found, area_mm2)))


if __name__ == "__main__":
    main()

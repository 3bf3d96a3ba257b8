"""Measures how large a cohort one scheduler can run: memory by slides, cost of a block, efficiency by workers.

Run as ``python benchmarks/scale.py`` with one of::

    memory [--slides 10 100 500 2000] [--plot docs/scale-memory.svg]
    overhead [--blocks 4000] [--workers 2 64]
    efficiency [--source SLIDE] [--repeats 3] [--slides 6] [--side 4096] [--block-px 1024]

Scheduler, workers and clients are separate processes. Slides of ``memory`` and ``overhead`` are tiny and use the tests'
stand-in for a network; blocks of ``overhead`` do nothing at all. ``efficiency`` runs a shipped model, with one thread
for each worker, on drawn pixels or on those of a small slide, repeated.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from machine import describe_machine
from numpy.typing import NDArray
from scale_pool import STAND_IN, ClientRun, Pool, run_client
from slides import compose_slide, read_source

from wsipsm.demo.draw import draw_array

CLIENT = str(Path(__file__).with_name("scale_client.py"))
IDLE_WORKER = Path(__file__).with_name("scale_worker.py")
SIDE_PX, N_DRAWN = 128, 8
"""Side of a tiny slide, and number of slides with different pixels."""
N_OPEN = 4
"""Number of slides to which the blocks of ``overhead`` belong."""
DRAWN_MPP = 0.25
MIB = 2**20


def lay_cohort(folder: Path, n_slides: int, seed: int) -> Path:
    """Make a cohort of tiny slides: a few are drawn, and the others are links to them with other names."""
    sys.path.insert(0, str(STAND_IN.parent))
    import stand_in

    drawn, cohort = folder / "drawn", folder / f"cohort-{n_slides}"
    drawn.mkdir(exist_ok=True)
    cohort.mkdir()
    for number in range(n_slides):
        source = drawn / f"{number % N_DRAWN}.png"
        if not source.exists():
            stand_in.draw_slide(source, SIDE_PX, SIDE_PX, seed=seed + number)
        os.link(source, cohort / f"slide-{number:05d}.png")
    return cohort


def measure_memory(n_slides: int, seed: int, folder: Path) -> ClientRun:
    """Run a cohort of this many slides on a new scheduler with two new workers."""
    cohort = lay_cohort(folder, n_slides, seed)
    with Pool(folder / f"pool-{n_slides}", 2, preload=STAND_IN) as pool:
        command = [CLIENT, str(cohort), str(folder / f"out-{n_slides}"), pool.address, "--stand-in"]
        run = run_client(pool, command)
        run.printed["scheduler_peak_bytes"] = run.scheduler.kernel_peak_bytes()
    if run.printed["n_failed"]:
        raise RuntimeError(f"{run.printed['n_failed']} slides failed.")
    return run


def report_memory(runs: dict[int, ClientRun]) -> list[str]:
    """Write a table of peaks by the number of slides, and what each slide adds."""
    lines = [
        "| slides | client, MiB sampled (kernel's peak) | scheduler, MiB | s |",
        "|---|---|---|---|",
    ]
    for n, run in runs.items():
        client = f"{run.client.peak_bytes / MIB:.1f} ({run.printed['peak_bytes'] / MIB:.1f})"
        scheduler = f"{run.scheduler.peak_bytes / MIB:.1f} ({run.printed['scheduler_peak_bytes'] / MIB:.1f})"
        lines.append(f"| {n} | {client} | {scheduler} | {run.printed['marks'][-1][1]:.0f} |")
    sizes = sorted(runs)
    for few, many in itertools.pairwise(sizes):
        a, b = runs[few], runs[many]
        grown = (b.client.peak_bytes - a.client.peak_bytes, b.scheduler.peak_bytes - a.scheduler.peak_bytes)
        by_slide = [f"{g / (many - few) / 1024:.1f} KiB" for g in grown]
        lines += ["", f"A slide from {few} to {many} adds: client {by_slide[0]}, scheduler {by_slide[1]}."]
    return lines


def plot_memory(runs: dict[int, ClientRun], path: Path, caption: str) -> None:
    """Draw peaks by the number of slides, and memory along the largest cohort."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    peaks, history = figure.subplots(1, 2, sharey=True)
    largest = max(runs)
    for name, colour in (("client", "#1f5fa8"), ("scheduler", "#c05a11")):
        watched = {n: getattr(run, name) for n, run in runs.items()}
        peaks.plot(list(watched), [w.peak_bytes / MIB for w in watched.values()], "o-", color=colour, label=name)
        samples = watched[largest].samples
        history.plot([n for n, _ in samples], [b / MIB for _, b in samples], color=colour, label=name)
    peaks.set(xscale="log", xlabel="slides of the cohort", ylabel="resident memory, MiB", title="Peak", ylim=(0, None))
    peaks.set_xticks(list(runs), [f"{n:,}" for n in runs])
    peaks.minorticks_off()
    peaks.legend(frameon=False)
    history.set(xlabel="slides done", title=f"Along the cohort of {largest:,} slides")
    for axes in (peaks, history):
        axes.grid(alpha=0.3)
    figure.suptitle(caption, fontsize=8)
    figure.savefig(path)


def measure_overhead(n_blocks: int, n_workers: int, crowd: bool, seed: int, folder: Path) -> ClientRun:
    """Run this many blocks that do nothing."""
    folder.mkdir()
    cohort, each = lay_cohort(folder, N_OPEN, seed), n_blocks // N_OPEN
    environment = {"WSIPSM_SCALE_BLOCKS": str(each)}
    with Pool(folder / "pool", n_workers, preload=IDLE_WORKER, crowd=crowd, **environment) as pool:
        watch = ["--every", str(max(1, n_blocks // 20)), "--scheduler-pid", str(pool.scheduler.pid)]
        return run_client(pool, [CLIENT, str(cohort), str(folder / "out"), pool.address, "--stand-in", *watch])


def describe_overhead(run: ClientRun) -> str:
    """Write cells of a table: blocks per second and processor time per block, after the first fifth of the blocks."""
    marks = run.printed["marks"]
    first, last = marks[len(marks) // 5], marks[-1]
    n = last[0] - first[0]
    client, scheduler = ((b[0] - a[0]) / n for a, b in zip(first[2], last[2], strict=True))
    rate = n / (last[1] - first[1])
    return f"{n} | {rate:.0f} | {1e3 * client:.2f} | {1e3 * scheduler:.2f} | {1 / max(client, scheduler):.0f}"


def report_overhead(n_blocks: int, workers: Sequence[int], repeats: int, seed: int, folder: Path) -> list[str]:
    """Measure with each number of workers; more than eight share a process, which scheduler and client do not see."""
    lines = [
        "| workers | blocks | blocks/s here | client, CPU ms a block | scheduler, CPU ms a block | most blocks/s |",
        "|---|---|---|---|---|---|",
    ]
    for repeat in range(repeats):
        for n in workers:
            run = measure_overhead(n_blocks, n, n > 8, seed, folder / f"{n}-{repeat}")
            lines.append(f"| {n} | {describe_overhead(run)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def draw_cohort(folder: Path, args: argparse.Namespace) -> tuple[Path, Path]:
    """Write a cohort of slides of the same pixels, repeated, and one of a small slide that warms workers."""
    if args.source is None:
        pixels, mpp = draw_pixels(args.seed), DRAWN_MPP
    else:
        pixels, mpp = read_source(args.source)
    cohort, warm = folder / "cohort", folder / "warm"
    for place, n_slides, side in ((cohort, args.slides, args.side), (warm, 1, args.side // 2)):
        place.mkdir()
        for number in range(n_slides):
            # Slides with the same content would count as one, so each starts at another column.
            compose_slide(place / f"{number}.svs", pixels[:, number * 64 :], side, mpp)
    return cohort, warm


def draw_pixels(seed: int) -> NDArray[np.uint8]:
    """Draw the middle of a slide, shape (1024, 1024, 3)."""
    rgb, _ = draw_array(seed=seed, size=(2048, 2048), n_nuclei=1500, mpp=DRAWN_MPP)
    return rgb[512:1536, 512:1536]


def rate_of(run: ClientRun) -> float:
    """Compute blocks per second, planning and writing included."""
    return float(run.printed["n_blocks"] / run.printed["marks"][-1][1])


def busy_share(run: ClientRun, n_workers: int) -> float:
    """Compute the share of their time in which workers worked."""
    return float(sum(run.printed["steps"].values()) / (n_workers * run.printed["marks"][-1][1]))


def report_efficiency(args: argparse.Namespace, folder: Path) -> list[str]:
    """One worker, two workers, and twice one worker at a time, in turn; each pool is warmed first."""
    cohort, warm = draw_cohort(folder, args)
    options = ["--block-px", str(args.block_px), *(["--model", args.model] if args.model else [])]
    done: dict[str, list[list[ClientRun]]] = {"one": [], "two": [], "apart": []}
    rows: list[str] = []

    def run(pool: Pool, name: str, slides: Path = cohort) -> ClientRun:
        return run_client(pool, [CLIENT, str(slides), str(folder / name), pool.address, *options])

    places = [folder / f"pool-{k}" for k in range(3)]
    with Pool(places[0], 1) as one, Pool(places[1], 1) as other, Pool(places[2], 2) as two:
        for k, pool in enumerate((one, other, two)):
            run(pool, f"warm-{k}", warm)
        for repeat in range(args.repeats):
            found = {"one": [run(one, f"one-{repeat}")], "two": [run(two, f"two-{repeat}")]}
            with ThreadPoolExecutor(2) as threads:
                jobs = [threads.submit(run, pool, f"apart-{k}-{repeat}") for k, pool in enumerate((one, other))]
                found["apart"] = [job.result() for job in jobs]
            for name, runs in found.items():
                done[name].append(runs)
                rows.append(f"| {repeat + 1} | {name} | {describe_efficiency(runs, 2 if name == 'two' else 1)} |")
                print(rows[-1], file=sys.stderr, flush=True)
    lines = [
        "| repeat | workers | blocks/s | s a block | CPU s a block in all | s of the network | workers busy, % |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    one = done.pop("one")
    for name, runs in done.items():
        wall = [sum(map(rate_of, b)) / (2 * rate_of(a[0])) for a, b in zip(one, runs, strict=True)]
        cpu = [cpu_of_block(a) / cpu_of_block(b) for a, b in zip(one, runs, strict=True)]
        lines += ["", f"{name} against one: blocks/s {ratios_text(wall)}; processor a block {ratios_text(cpu)}."]
    return lines


def ratios_text(ratios: Sequence[float]) -> str:
    """Write the median of some ratios, and all of them."""
    return f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"


def cpu_of_block(runs: Sequence[ClientRun]) -> float:
    """Compute the workers' processor time per block, planning and writing included; other programs hardly change it."""
    return sum(run.workers_cpu_s for run in runs) / sum(int(run.printed["n_blocks"]) for run in runs)


def describe_efficiency(runs: Sequence[ClientRun], n_workers: int) -> str:
    """Write cells of a table: rate, seconds per block and share of busy time, over simultaneous runs."""
    n = sum(run.printed["n_blocks"] for run in runs)
    steps: Counter[str] = Counter()
    for run in runs:
        steps.update(run.printed["steps"])
    block_s = sum(seconds for name, seconds in steps.items() if name not in ("plan", "results")) / n
    busy = statistics.mean(busy_share(run, n_workers) for run in runs)
    rate = sum(map(rate_of, runs))
    return f"{rate:.3f} | {block_s:.2f} | {cpu_of_block(runs):.2f} | {steps['predict'] / n:.2f} | {100 * busy:.0f}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    memory = commands.add_parser("memory", help="peak memory by the number of slides")
    memory.add_argument("--slides", type=int, nargs="+", default=[10, 100, 500, 2000])
    memory.add_argument("--plot", type=Path)
    overhead = commands.add_parser("overhead", help="cost of a block that does nothing")
    overhead.add_argument("--blocks", type=int, default=4000)
    overhead.add_argument("--workers", type=int, nargs="+", default=[2, 64])
    efficiency = commands.add_parser("efficiency", help="one worker against two")
    efficiency.add_argument("--source", type=Path, help="small slide whose pixels are repeated; drawn where left out")
    efficiency.add_argument("--model", help="name or path of weights")
    efficiency.add_argument("--slides", type=int, default=6)
    efficiency.add_argument("--side", type=int, default=4096, help="side of a slide, level-0 pixels")
    efficiency.add_argument("--block-px", type=int, default=1024)
    for command in (overhead, efficiency):
        command.add_argument("--repeats", type=int, default=3)
    for command in (memory, overhead, efficiency):
        command.add_argument("--seed", type=int, default=12)
        command.add_argument("--scratch", type=Path, help="folder for slides and results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    args = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left behind
    facts = describe_machine()
    with tempfile.TemporaryDirectory(prefix="wsipsm-scale-", dir=args.scratch) as name:
        folder = Path(name)
        if args.command == "memory":
            runs = {}
            for n in args.slides:
                runs[n] = measure_memory(n, args.seed, folder)
                print(*report_memory({n: runs[n]})[2:], file=sys.stderr, flush=True)
            lines = report_memory(runs)
            if args.plot:
                plot_memory(runs, args.plot, f"{facts['machine']}, {facts['date']}, seed {args.seed}")
        elif args.command == "overhead":
            lines = report_overhead(args.blocks, args.workers, args.repeats, args.seed, folder)
        else:
            lines = report_efficiency(args, folder)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"Seed {args.seed}. Date {facts['date']}. {facts['machine']}. Load {load}. {facts['versions']}.\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""The rows of ``benchmarks.speed``: each measures one thing, and gives its lines."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import speed_references as references
from benchmarks.reading import forget_tiles
from benchmarks.speed_bench import Bench, Line, Skipped, cpu_seconds, in_turn, mm2, region_of
from benchmarks.speed_writing import measure_writing
from wsipsm.results.folder_names import slide_stem
from wsipsm.results.run_record import RunRecord
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_box
from wsipsm.stages import block as block_stage
from wsipsm.stages.plan import SlidePlan
from wsipsm.tiling import Block

FAST = "nuclei-he-fast"
CASES = {"blocks-he": ("he", "nuclei-he"), "blocks-he-fast": ("he", FAST), "blocks-ki67": ("ki67", "ki67-ihc")}
"""Stain and model of each row of blocks."""
FIRST_BLOCK_PX = 2048
"""Side of the block that a new process begins with: the one that the target was set for."""


def spaced(blocks: Sequence[Block], n: int) -> list[Block]:
    """Choose at most ``n`` blocks that lie far from each other."""
    n = min(n, len(blocks))
    return [blocks[i * len(blocks) // n] for i in range(n)]


def run_blocks(plan: SlidePlan, blocks: Sequence[Block]) -> None:
    """Run blocks in this process, with no tile decoded before, and slide and network open where they were."""
    job = plan.job
    opened = block_stage._opened_slide(job.slide_path, job.mpp, job.image, job.fingerprint)
    forget_tiles(opened.slide)
    for block in blocks:
        block_stage.segment_block(job, block)


def measure_blocks(row: str, bench: Bench) -> list[Line]:
    """Measure warm blocks beside the limit, HoVer-Net and the method without a network."""
    stain, model = CASES[row]
    plan = bench.plan(stain, model)
    blocks = spaced(plan.blocks, bench.n_blocks)
    card = plan.job.card
    area = sum(mm2(block.core.area, card.mpp) for block in blocks)
    works: dict[str, references.Work] = {"blocks": (partial(run_blocks, plan, blocks), 1 / area)}
    skipped: dict[str, str] = {}
    makers: dict[str, Callable[[], references.Work]] = {
        "decode": lambda: references.decoding(bench.slide(stain)),
        "multiply": lambda: references.multiplying(card, Path(plan.job.weights)),
        "hovernet": references.hovernet,
        "classical": lambda: classical_of(plan, blocks[0], stain),
    }
    for name, make in makers.items():
        try:
            works[name] = make()
        except Skipped as why:
            skipped[name] = str(why)
    seconds = in_turn({name: work for name, (work, _) in works.items()}, bench.repeats)
    found = {name: [one * works[name][1] for one in values] for name, values in seconds.items()}
    return block_lines(row, f"{len(blocks)} x {plan.job.geometry.block_px} px of {model}, warm", found, skipped)


def classical_of(plan: SlidePlan, block: Block, stain: str) -> references.Work:
    """Prepare the method without a network for the pixels of a block."""
    grid = plan.job.geometry.grid
    with open_slide(plan.job.slide_path, identify=False) as slide:
        rgb = read_box(slide, block.core, grid.scale, grid.origin_px0)
    return references.classical(stain, rgb, grid.mpp)


def block_lines(row: str, what: str, found: dict[str, list[float]], skipped: dict[str, str]) -> list[Line]:
    """Hold the seconds of blocks against all that was measured beside them."""
    ours, unit = found["blocks"], "CPU s/mm2"
    lines = []
    if "decode" in found and "multiply" in found:
        limit = [sum(pair) for pair in zip(found["decode"], found["multiply"], strict=True)]
        lines.append(Line(row, what, unit, ours, "decoder and multiplications alone", limit, at_most=3.5))
    if "hovernet" in found:
        lines.append(Line(row, what, unit, ours, "HoVer-Net fast", found["hovernet"], faster=True, at_least=400))
    if "classical" in found:
        lines.append(Line(row, what, unit, ours, "scikit-image, no network", found["classical"], at_most=1))
    lines += [Line(row, f"{what}, beside {name}", note=why) for name, why in skipped.items()]
    return lines


def run_command(bench: Bench) -> tuple[float, RunRecord]:
    """Run the fast model on the H&E slide by the command, without workers; processor time, and what it recorded."""
    slide, out = bench.slide("he"), bench.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("wsipsm")), "run", str(slide), "--out", str(out), "--quiet"]
    command += ["--workers", "0", "--device", "cpu", "--model", FAST, "--roi", str(region_of(slide))]
    seconds = cpu_seconds(partial(subprocess.run, command, check=True))
    return seconds, RunRecord.read(out / slide_stem(slide))


def measure_run(row: str, bench: Bench) -> list[Line]:
    """Measure the whole command, start of Python included, and the shares of its parts."""
    runs = [run_command(bench) for _ in range(bench.repeats + 1)][1:]
    area = mm2(bench.side**2, 0.25)
    lines = [Line(row, f"wsipsm run, {FAST}, {area:.2f} mm2", "CPU s/mm2", [seconds / area for seconds, _ in runs])]
    reads, networks, rests = zip(*(shares(run) for _, run in runs), strict=True)
    lines.append(Line(row, "share of reading", "%", reads, note="by the clock"))
    lines.append(Line(row, "share of the network", "%", networks, note="by the clock"))
    lines.append(Line(row, "share of all else", "%", rests, note="by the clock", at_most=25))
    for stage in ("plan", "write"):
        parts = [100 * run.seconds.stages[stage] / run.seconds.stages["total"] for _, run in runs]
        lines.append(Line(row, f"of it, stage {stage}", "%", parts, note="by the clock"))
    return lines


def shares(run: RunRecord) -> tuple[float, float, float]:
    """Percent of a run's seconds for reading blocks, for the network and for all else; the start of Python aside."""
    whole = run.seconds.stages["total"]
    read, network = (100 * run.seconds.block_steps[name] / whole for name in ("read", "predict"))
    return read, network, 100 - read - network


def measure_inferred(row: str, bench: Bench) -> list[Line]:
    """Count the pixels that the network sees for each pixel that blocks own, of a slide that is all tissue."""
    lines = []
    for stain, model in CASES.values():
        try:
            plan = bench.plan(stain, model)
        except Skipped as why:
            lines.append(Line(row, f"pixels inferred, {model}", note=str(why)))
            continue
        sizes = Counter(size for block in plan.blocks for size in tile_sizes(plan, block))
        seen = sum(n * height * width for (height, width), n in sizes.items())
        owned = sum(block.core.area for block in plan.blocks)
        lines.append(Line(row, f"pixels inferred a pixel of tissue, {model}", "", [seen / owned], at_most=1.5))
        card, weights = plan.job.card, Path(plan.job.weights)
        done = sum(n * references.count_macs(card, weights, size, card.margin_px) for size, n in sizes.items())
        once = references.count_macs(card, weights) / references.COUNTED_PX**2
        multiplied = done / (once * owned)
        lines.append(Line(row, "multiplications, for one of a pixel seen once", "", [multiplied], at_most=1.2))
    return lines


def tile_sizes(plan: SlidePlan, block: Block) -> list[tuple[int, int]]:
    """List heights and widths of the tiles that the network sees for a block, with their margins."""
    geometry = plan.job.geometry
    box, tile_px = geometry.decoded_box(block.core), geometry.even_tile_px(block.core)
    rows, columns = (
        [min(tile_px, side - start) + 2 * geometry.margin_px for start in range(0, side, tile_px)]
        for side in (box.height, box.width)
    )
    return [(height, width) for height in rows for width in columns]


def measure_first_block(row: str, bench: Bench) -> list[Line]:
    """Measure a new process from its start to the end of its first block."""
    plan = bench.plan("he", "nuclei-he", FIRST_BLOCK_PX)
    path = bench.folder / "job.pickle"
    path.write_bytes(pickle.dumps((plan.job, plan.blocks[0])))
    command = [sys.executable, "-m", "benchmarks.speed_first_block", str(path)]
    pairs = []
    for _ in range(bench.repeats + 1):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        pairs.append([float(number) for number in done.stdout.split()])
    firsts, seconds = zip(*pairs[1:], strict=True)
    beyond = [first - second for first, second in pairs[1:]]
    return [
        Line(row, f"process to the end of its first block, {FIRST_BLOCK_PX} px", "CPU s", firsts, at_most=4),
        Line(row, "a second time, the same block", "CPU s", seconds),
        Line(row, "the first beyond the second", "CPU s", beyond),
    ]


def measure_other(package: str, row: str, bench: Bench) -> list[Line]:
    """Say that another program was not measured, and why."""
    if importlib.util.find_spec(package) is None:
        raise Skipped(f"{package} is not installed")
    raise Skipped(f"{package} is installed, but no measurement was written for it")


ROWS: dict[str, Callable[[str, Bench], list[Line]]] = {
    **dict.fromkeys(CASES, measure_blocks),
    "run": measure_run,
    "inferred": measure_inferred,
    "first-block": measure_first_block,
    "writing": measure_writing,
    "stardist": partial(measure_other, "stardist"),
    "instanseg": partial(measure_other, "instanseg"),
}

"""Measures the peak memory of `wsipsm run` by slide size, and while a million nuclei are written.

    python benchmarks/memory.py --source SLIDE [--sizes 15000 30000] [--workers 2] [--model NAME_OR_PATH]
    python benchmarks/memory.py --source SLIDE --export 1000000

Slides are composed of the source's pixels, mirrored, and written tile by tile. ``--export`` fills the run's folder
with shards of drawn nuclei, so that the run continues from them: it resolves seams and writes every result.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from machine import describe_machine
from numpy.typing import NDArray
from slides import compose_slide, read_source, write_whole_region
from watch import Usage, run_watched

from wsipsm.config import RunOptions
from wsipsm.errors import UsageError
from wsipsm.geometry import Box
from wsipsm.instances.shard import ShardFacts, write_shard
from wsipsm.instances.table import BORDER_PX, OWNED, SEAM, build_table, centroids_px0, shard_schema
from wsipsm.instances.trace import trace_outlines
from wsipsm.keys import Column, Stain
from wsipsm.results.folder_names import slide_stem
from wsipsm.results.summary import RunSummary
from wsipsm.rundir import RunDir
from wsipsm.slide.open import open_slide
from wsipsm.stages.plan import SlidePlan, plan_slide
from wsipsm.tiling import Block

EXPORT_SIDE_PX = 30_000
DIAMETER_PX = 20
"""Diameter of a drawn nucleus, level-0 pixels."""


def measure_sizes(
    source: Path, sizes: Sequence[int], workers: int, model: str | None, folder: Path
) -> list[tuple[str, Usage, int]]:
    """Run a composed slide of each size; return name, usage and number of nuclei."""
    pixels, mpp = read_source(source)
    rows = []
    for size_px in sizes:
        path = folder / f"composed-{size_px}.svs"
        print(f"composing {size_px} x {size_px} px", flush=True)
        compose_slide(path, pixels, size_px, mpp)
        out = folder / f"out-{size_px}"
        usage = run_watched(run_command(path, out, workers, model))
        rows.append((f"{size_px} x {size_px} px", usage, count_nuclei(out, path)))
        show_usage(*rows[-1])
        path.unlink()
        shutil.rmtree(out, ignore_errors=True)
    return rows


def measure_export(source: Path, n_nuclei: int, model: str | None, folder: Path) -> tuple[str, Usage, int]:
    """Run a slide whose shards all exist already and hold drawn nuclei."""
    pixels, mpp = read_source(source)
    path, out = folder / "export.svs", folder / "out"
    print(f"composing {EXPORT_SIDE_PX} x {EXPORT_SIDE_PX} px", flush=True)
    compose_slide(path, pixels, EXPORT_SIDE_PX, mpp)
    roi = folder / "whole.geojson"
    write_whole_region(roi, EXPORT_SIDE_PX)
    run_dir = RunDir(out / slide_stem(path))
    run_dir.create()
    with open_slide(path) as slide:
        plan = plan_slide(slide, RunOptions(model=model, roi=roi), run_dir)
    print(f"drawing {n_nuclei} nuclei into {len(plan.blocks)} shards", flush=True)
    spacing_px0 = EXPORT_SIDE_PX / math.ceil(math.sqrt(n_nuclei))
    for block in plan.blocks:
        table = draw_shard(plan, block, spacing_px0)
        n_owned = int(table.column(OWNED).to_numpy().sum())
        facts = ShardFacts(plan.job.place_of(block), n_owned, n_tiles=0, n_too_large=0)
        write_shard(run_dir.shard_path(plan.job.key, block), table, facts)
    usage = run_watched([*run_command(path, out, 0, model), "--roi", str(roi)])
    row = (f"{n_nuclei} nuclei through export", usage, count_nuclei(out, path))
    show_usage(*row)
    return row


def draw_shard(plan: SlidePlan, block: Block, spacing_px0: float) -> pa.Table:
    """Draw nuclei on a lattice, also in the strip around the core, as a block would store them."""
    job, core = plan.job, block.core
    box = core.expand(job.geometry.strip_px)
    scale = job.geometry.grid.scale
    n = round(EXPORT_SIDE_PX / spacing_px0)
    axes = []
    for start, stop in ((box.x, box.right), (box.y, box.bottom)):
        first = max(0, math.ceil(start * scale / spacing_px0 - 0.5))
        axes.append(np.arange(first, min(n, math.ceil(stop * scale / spacing_px0 - 0.5))))
    column, row = (grid.ravel() for grid in np.meshgrid(*axes))
    # Corners are whole pixels, so that all blocks draw a nucleus identically.
    corner = np.floor((np.stack([column, row], 1) + 0.5) * spacing_px0) - DIAMETER_PX / 2
    ring = disc_ring()
    polygons = np.asarray(shapely.polygons(corner[:, None, :] + ring[None]), dtype=object)
    random = np.random.default_rng(block.index)
    measured = {Column.PROBABILITY: random.random(len(polygons), np.float32)}
    measured[Column.HEMATOXYLIN_OD] = random.random(len(polygons), np.float32)
    is_ihc = job.profile.stain == Stain.IHC
    if is_ihc:
        measured[Column.DAB_OD] = random.random(len(polygons), np.float32)
    table = build_table(
        polygons,
        measured,
        mpp_px0=job.geometry.grid.slide_mpp,
        fingerprint=job.fingerprint,
        dab_cut_od=0.5 if is_ihc else None,
    )
    return with_seam_columns(table, polygons, core, scale, job.geometry.context_px)


def with_seam_columns(
    table: pa.Table, polygons: NDArray[np.object_], core: Box, scale: float, context_px: int
) -> pa.Table:
    """Add columns for the nuclei that the core owns and for those that may be at a seam."""
    x, y = (centroids_px0(table) / scale).T
    depth = np.minimum.reduce([x - core.x, core.right - x, y - core.y, core.bottom - y])
    owned = (x >= core.x) & (x < core.right) & (y >= core.y) & (y < core.bottom)
    left, top, right, bottom = shapely.bounds(polygons).reshape(-1, 4).T / scale
    deep = (left >= core.x + context_px) & (top >= core.y + context_px)
    deep &= (right <= core.right - context_px) & (bottom <= core.bottom - context_px)
    for name, values in ((OWNED, owned), (SEAM, ~owned | ~deep), (BORDER_PX, depth)):
        table = table.append_column(shard_schema().field(name), pa.array(values))
    return table


def disc_ring() -> NDArray[np.float64]:
    """Trace the outline of a disc along pixel edges, shape (n, 2), with its corner at (0, 0)."""
    y, x = np.mgrid[:DIAMETER_PX, :DIAMETER_PX] + 0.5 - DIAMETER_PX / 2
    disc = (np.hypot(x, y) < DIAMETER_PX / 2).astype(np.int32)
    ring: NDArray[np.float64] = shapely.get_coordinates(trace_outlines(disc, (0, 0), 1.0).polygons[0])
    return ring


def run_command(slide: Path, out: Path, workers: int, model: str | None) -> list[str]:
    """Make the command line of `wsipsm run` in this environment."""
    command = [str(Path(sys.executable).with_name("wsipsm")), "run", str(slide), "--out", str(out), "--quiet"]
    command += ["--workers", str(workers)]
    return [*command, "--model", model] if model else command


def count_nuclei(out: Path, slide: Path) -> int:
    """Return the number of nuclei of a finished run; -1 when there is no such run."""
    try:
        return RunSummary.read(out / slide_stem(slide)).n_nuclei
    except UsageError:
        return -1


def show_usage(name: str, usage: Usage, n_nuclei: int) -> None:
    """Print the memory, nuclei and time of a run, or why it failed."""
    print(f"{name}: peak {usage.pss_bytes / 2**20:.0f} MiB, {n_nuclei} nuclei, {usage.seconds:.0f} s", flush=True)
    if usage.exit_code:
        print(f"exit code {usage.exit_code}\n{usage.output}", file=sys.stderr)


def report(rows: Sequence[tuple[str, Usage, int]]) -> str:
    """Write the runs as Markdown; of several, also the ratio of the last to the first."""
    facts = describe_machine()
    lines = [
        f"Date {facts['date']}. {facts['machine']}. {facts['versions']}.",
        "",
        "| run | peak MiB (shared pages once) | sum of RSS, MiB | largest process, MiB | processes | nuclei | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, u, n in rows:
        peaks = " | ".join(f"{b / 2**20:.0f}" for b in (u.pss_bytes, u.rss_bytes, u.largest_rss_bytes))
        lines.append(f"| {name} | {peaks} | {u.n_processes} | {n} | {u.seconds:.0f} |")
    if len(rows) > 1:
        first, last = rows[0][1], rows[-1][1]
        ratios = (last.pss_bytes / max(1, first.pss_bytes), last.rss_bytes / max(1, first.rss_bytes))
        lines += ["", f"Last over first: {ratios[0]:.3f} (shared pages once), {ratios[1]:.3f} (sum of RSS)."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="small slide whose pixels are repeated")
    parser.add_argument("--sizes", type=int, nargs="+", default=[15_000, 30_000], help="sides of the composed slides")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", help="name or path of weights")
    parser.add_argument("--export", type=int, metavar="N", help="push N drawn nuclei through seams and export instead")
    parser.add_argument("--scratch", type=Path, help="folder for slides and results (30,000 px: about 0.5 GB)")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="wsipsm-memory-", dir=args.scratch) as name:
        if args.export:
            rows = [measure_export(args.source, args.export, args.model, Path(name))]
        else:
            rows = measure_sizes(args.source, args.sizes, args.workers, args.model, Path(name))
    print(report(rows))


if __name__ == "__main__":
    main()

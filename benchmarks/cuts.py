"""Measures whether results depend on the size of blocks and tiles, or on the number of workers.

    python benchmarks/cuts.py SLIDE... [--model NAME_OR_PATH] [--mpp X] [--blocks 2048 1024 512] [--tiles 1024 512 256]
                              [--workers 0 1 2] [--out cuts.md]

The first block size, tile size and number of workers are the reference; each is then varied on its own. Outlines are
matched one to one at IoU of at least 0.5. The table also has the largest IoU between two nuclei of one run.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agreement import largest_inner_overlap, match_polygons
from machine import describe_machine
from prediction import Cells, read_run_nuclei

from wsipsm.config import RunOptions
from wsipsm.events import ignore_events
from wsipsm.keys import Artefact
from wsipsm.stages.run import run_slide


def variants(blocks: Sequence[int], tiles: Sequence[int], workers: Sequence[int]) -> list[tuple[int, int, int]]:
    """List block size, tile size and workers of each run; the reference is first, and others differ in one value."""
    first = (blocks[0], tiles[0], workers[0])
    out = [first]
    out += [(block, first[1], first[2]) for block in blocks[1:]]
    out += [(first[0], tile, first[2]) for tile in tiles[1:]]
    out += [(first[0], first[1], n) for n in workers[1:]]
    # With many small blocks, workers finish in another order.
    out += [(blocks[-1], tiles[-1], n) for n in workers[-1:] if (blocks[-1], tiles[-1], n) not in out]
    return out


def compare_cuts(slide: Path, cuts: Sequence[tuple[int, int, int]], model: str | None, mpp: float | None) -> list[str]:
    """Run a slide with all sizes and numbers of workers; return rows of a Markdown table."""
    rows, reference, reference_hash = [], None, ""
    with tempfile.TemporaryDirectory(prefix="wsipsm-cuts-") as folder:
        for block_px, tile_px, workers in cuts:
            options = RunOptions(model=model, mpp=mpp, block_px=block_px, tile_px=tile_px, workers=workers)
            name = f"{block_px}-{tile_px}-{workers}"
            summary = run_slide(slide, folder, options, ignore_events, name=name)
            cells = read_run_nuclei(Path(summary.folder))
            digest = hashlib.sha256((Path(summary.folder) / Artefact.CELLS).read_bytes()).hexdigest()
            if reference is None:
                reference, reference_hash = cells, digest
            row = _row(slide.name, (block_px, tile_px, workers), reference, cells, digest == reference_hash)
            print(row, flush=True)
            rows.append(row)
    return rows


def _row(slide: str, cut: tuple[int, int, int], reference: Cells, cells: Cells, same_bytes: bool) -> str:
    found = match_polygons(reference.polygons, cells.polygons)
    overlap = largest_inner_overlap(cells.polygons)
    return (
        f"| {slide} | {cut[0]} | {cut[1]} | {cut[2]} | {len(cells.polygons)} | {found.matched_fraction:.3%} "
        f"| {found.count_difference:+.3%} | {found.n_identical} | {'yes' if same_bytes else 'no'} | {overlap:.3f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path, nargs="+", metavar="SLIDE")
    parser.add_argument("--model", help="name or path of weights")
    parser.add_argument("--mpp", type=float, help="pixel size, where the files state none")
    parser.add_argument("--blocks", type=int, nargs="+", default=[2048, 1024, 512])
    parser.add_argument("--tiles", type=int, nargs="+", default=[1024, 512, 256])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args(arguments)
    facts = describe_machine()
    lines = [
        f"Date {facts['date']}. {facts['machine']}. {facts['versions']}.",
        "",
        "| slide | block | tile | workers | nuclei | matched | count | same outlines | same bytes | inner IoU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for slide in args.slides:
        cuts = variants(args.blocks, args.tiles, args.workers)
        lines += compare_cuts(slide, cuts, args.model, args.mpp)
    text = "\n".join([*lines, ""])
    if args.out:
        args.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

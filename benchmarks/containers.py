"""Measures whether the same nuclei are found on the same pixels in the file formats of several scanners.

    python benchmarks/containers.py --data DIR [--model ki67-ihc] [--workers 0] [--out containers.md]

Every readable slide of ``slides/derived`` is run, its nuclei are shifted onto those of the source by one whole-pixel
offset (canvases differ), and matched one to one at IoU of at least 0.5, where the container shows them whole.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from agreement import find_offset, match_polygons
from machine import describe_machine
from numpy.typing import NDArray
from prediction import Cells, read_run_nuclei

from wsipsm.config import RunOptions
from wsipsm.errors import WsipsmError
from wsipsm.events import ignore_events
from wsipsm.export.geojson_check import check_geojson
from wsipsm.keys import Artefact
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import open_slide
from wsipsm.stages.run import run_slide

SOURCE = Path("real") / "ometiff-ihc-ki67-os2-hamamatsu-crop.ome.tif"
MPP = 0.2271
RIM_PX = 48
"""Width of the rim that is left out, wider than a nucleus, pixels."""


def run_all(slides: Path, model: str | None, workers: int) -> list[str]:
    """Run the source and its containers; return the lines of a Markdown table."""
    with tempfile.TemporaryDirectory(prefix="wsipsm-containers-") as name:
        out = Path(name)
        source, problems = run_one(slides / SOURCE, out, model, workers)
        lines = [
            "| slide | nuclei | offset (px) | matched | same outline | mean IoU | GeoJSON |",
            "|---|---|---|---|---|---|---|",
            f"| {SOURCE.name} (source) | {len(source.polygons)} | | | | | {_told(problems)} |",
        ]
        print(lines[-1], flush=True)
        for path in sorted(p for p in (slides / "derived").iterdir() if p.is_file()):
            lines.append(compare_one(path, source, out, model, workers))
            print(lines[-1], flush=True)
    return lines


def compare_one(path: Path, source: Cells, out: Path, model: str | None, workers: int) -> str:
    """Run one container; return a table row on how far it agrees with the source."""
    try:
        cells, problems = run_one(path, out, model, workers)
    except WsipsmError as error:
        return f"| {path.name} | failed: {error} | | | | | |"
    offset = find_offset(source.polygons, cells.polygons)
    moved = shapely.transform(source.polygons, lambda xy: xy + offset)
    common = _common_area(path, moved)
    inside = moved[shapely.within(moved, common)]
    found = match_polygons(inside, cells.polygons)
    return (
        f"| {path.name} | {len(cells.polygons)} | {offset[0]:g}, {offset[1]:g} | {found.n_matched} of {len(inside)}, "
        f"{found.n_matched / max(1, len(inside)):.2%} "
        f"| {found.n_identical / max(1, found.n_matched):.1%} | {found.mean_iou:.4f} | {_told(problems)} |"
    )


def _common_area(path: Path, moved: NDArray[np.object_]) -> shapely.Polygon:
    """Find the part of the source that the container shows, without a rim in which its edge cuts nuclei."""
    with open_slide(path, MPP if "nompp" in path.name or "ometiff" in path.name else None) as slide:
        shown = SlideFrame.of(slide.info).content
    left, top, right, bottom = shapely.total_bounds(moved)
    return shapely.box(
        max(left, shown.x + RIM_PX),
        max(top, shown.y + RIM_PX),
        min(right, shown.right - RIM_PX),
        min(bottom, shown.bottom - RIM_PX),
    )


def run_one(path: Path, out: Path, model: str | None, workers: int) -> tuple[Cells, list[str]]:
    """Run a slide, with the source's pixel size where the file states none; return nuclei and faults of the GeoJSON."""
    options = RunOptions(
        model=model, workers=workers, mpp=MPP if "nompp" in path.name or "ometiff" in path.name else None
    )
    summary = run_slide(path, out, options, ignore_events, name=path.name)
    folder = Path(summary.folder)
    return read_run_nuclei(folder), check_geojson(folder / Artefact.GEOJSON)


def _told(problems: Sequence[str]) -> str:
    return f"{len(problems)} faults: {problems[0]}" if problems else "valid"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with slides/")
    parser.add_argument("--model", help="name or path of weights; default: by the stain of each slide")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args(arguments)
    facts = describe_machine()
    lines = run_all(args.data / "slides", args.model, args.workers)
    text = "\n".join([f"Date {facts['date']}. {facts['machine']}. {facts['versions']}.", "", *lines, ""])
    if args.out:
        args.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

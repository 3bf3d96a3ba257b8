"""Counts the flags of the pixel-size check on images of known pixel size, stated right and stated wrong.

    python benchmarks/pixel_size.py DATA --every 4 --factors 1 2 0.5 4 0.25

DATA holds ``sizes.csv`` with the columns ``file``, ``um_per_px`` and ``set``; files are named from that folder, or by
their whole path. A factor of 2 states twice the true pixel size.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from wsipsm.errors import SlideError, UsageError
from wsipsm.quality.finding import Finding
from wsipsm.quality.picture_size import check_picture_size
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_thumbnail
from wsipsm.tissue import find_slide_tissue


def check_image(path: Path, mpp: float) -> Finding:
    """Check a pixel size as a run does."""
    with open_slide(path, mpp, identify=False) as slide:
        thumbnail, px0_per_pixel = read_thumbnail(slide, part_px0=SlideFrame.of(slide.info).content)
        tissue = find_slide_tissue(slide.info, thumbnail, px0_per_pixel)
        return check_picture_size(slide, thumbnail, tissue)[0]


def main() -> None:
    """Print a row for every set and factor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 2.0, 0.5, 4.0, 0.25])
    chosen = parser.parse_args()
    with (chosen.data / "sizes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    sets: dict[str, list[tuple[Path, float]]] = defaultdict(list)
    for row in rows:
        sets[row["set"]].append((chosen.data / row["file"], float(row["um_per_px"])))
    print(
        "| set | stated / true | n | flag | unknown | refused | fits / true: 5, 50, 95 % |",
        "|---|---|---|---|---|---|---|",
        sep="\n",
    )
    for name, images in sets.items():
        for factor in chosen.factors:
            print(_row(name, factor, images[:: chosen.every]), flush=True)


def _row(name: str, factor: float, images: list[tuple[Path, float]]) -> str:
    verdicts: list[str] = []
    octaves: list[float] = []
    for path, mpp in images:
        try:
            finding = check_image(path, mpp * factor)
        except (SlideError, UsageError):
            verdicts.append("refused")
            continue
        verdicts.append(str(finding.verdict))
        if finding.value is not None:
            octaves.append(math.log2(finding.value / mpp))
        if finding.verdict == "flag":
            print(f"  {factor:g} x: flagged {path.name}, stated {mpp * factor:g}, fits {finding.value}", flush=True)
    spread = " ".join(f"{2**value:.2f}" for value in np.quantile(octaves, [0.05, 0.5, 0.95])) if octaves else "-"
    counts = " | ".join(str(verdicts.count(verdict)) for verdict in ("flag", "unknown", "refused"))
    return f"| {name} | {factor:g} | {len(verdicts)} | {counts} | {spread} |"


if __name__ == "__main__":
    main()

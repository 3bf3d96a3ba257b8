"""Prints the figures of the stain checks for real images, and for the same images with other stains drawn.

    python benchmarks/stain_checks.py IMAGE... [--um 0.25] [--draw] [--out stain_checks.md]

Images are scaled to 0.5 um/px, at which a run samples them. With ``--draw`` every image is also drawn with other
chromogens, counterstains, pigments, strengths and glass (by `tests/drawn/virtual_stains.py`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsipsm.quality.finding import Verdict
from wsipsm.quality.hue import check_hues

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "drawn"))
import virtual_stains as drawn

_SAMPLED_UM = 0.5
NAMES = ("colour", "hematoxylin_share", "counterstain_hue", "green_share", "chromogen_red", "chromogen_dark")


def variants(rgb: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the image with every fault that can be drawn, and with changes that are no faults, by name."""
    for factor in (0.4, 0.6, 1.3, 1.6):
        yield f"DAB x {factor}", drawn.with_strength(rgb, dab=factor)
        yield f"hematoxylin x {factor}", drawn.with_strength(rgb, hematoxylin=factor)
    yield "haze 0.25", drawn.hazy(rgb, 0.25)
    yield "JPEG 30", drawn.as_jpeg(rgb, 30)
    yield from ((f"tint {tint}", drawn.tinted(rgb, tint)) for tint in drawn.TINTS)
    yield from ((f"grey x {contrast}", drawn.grey(rgb, contrast)) for contrast in (0.3, 1.0))
    for name, hue in {**drawn.CHROMOGENS, **drawn.GREENS}.items():
        yield from ((f"{name} x {factor}", drawn.with_chromogen(rgb, hue, factor)) for factor in (0.5, 1.0, 1.5))
    yield "no counterstain", drawn.with_counterstain(rgb, None)
    yield from ((name, drawn.with_counterstain(rgb, hue)) for name, hue in drawn.COUNTERSTAINS.items())
    hematoxylin, dab = drawn.unmix(rgb)
    negative = drawn.compose(hematoxylin, 0 * dab)
    yield "no DAB", negative
    for colour in (*drawn.MELANIN, *drawn.HEMOSIDERIN):
        yield f"pigment {colour}", drawn.with_pigment(negative, colour, 60, (3, 7))
        yield f"pigment {colour} beside DAB", drawn.with_pigment(rgb, colour, 60, (3, 7))


def row(name: str, rgb: NDArray[np.uint8]) -> str:
    """Write a row of a Markdown table; a flagged figure is bold, and one that withholds the index also has a star."""
    found = {finding.name: finding for finding in check_hues(rgb.reshape(-1, 3))}
    cells = []
    for key in NAMES:
        finding = found.get(key)
        cell = "" if finding is None or finding.value is None else f"{finding.value:.3f}"
        marks = {Verdict.FLAG: f"**{cell}**", Verdict.WITHHOLD: f"**{cell}** *"}
        cells.append(cell if finding is None else marks.get(finding.verdict, cell))
    return f"| {name} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--um", type=float, default=0.25, help="pixel size of the images, um")
    parser.add_argument("--draw", action="store_true", help="also draw other stains on each")
    parser.add_argument("--out", type=Path, help="Markdown file")
    args = parser.parse_args(arguments)
    lines = [f"| picture | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 1) + "|"]
    for path in args.images:
        with Image.open(path) as image:
            rgb = np.array(image.convert("RGB"))
        scale = min(1.0, args.um / _SAMPLED_UM)
        rgb = np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        lines.append(row(path.name, rgb))
        if args.draw:
            lines += [row(f"{path.name}, {name}", changed) for name, changed in variants(rgb)]
    print("\n".join(lines))
    if args.out is not None:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

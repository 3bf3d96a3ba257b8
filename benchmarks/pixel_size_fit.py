"""Fits the rulers of the pixel-size check for the shipped weights, and tells what they do on sets not fitted.

    python benchmarks/pixel_size_fit.py see DATA SEEN --every 2
    python benchmarks/pixel_size_fit.py fit SEEN

``see`` searches the images of DATA (laid out as for ``pixel_size.py``) at every step, by far the longest part, and
keeps what it found in the folder SEEN, a file an image; it goes on where it was stopped. ``fit`` prints the rows of
``wsipsm.quality.pixel_size.RULERS`` fitted on all sets, and the flags of rulers fitted on every other set on the sets
left out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import SlideError
from wsipsm.keys import Stain
from wsipsm.models.registry import DEFAULT_MODELS, resolve_model
from wsipsm.quality.pixel_size import (
    FLAG_OCTAVES,
    STEPS,
    NucleiSeen,
    Ruler,
    estimate_octaves,
    features,
)
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_thumbnail
from wsipsm.stages.picture_size import N_PATCHES, nuclei_at_every_step
from wsipsm.stain import detect_stain
from wsipsm.tissue import find_slide_tissue, sample_tissue

OFFSETS = (-2, -1, 0, 1, 2)
"""Octaves by which an image is told wrong; all of STEPS must be searched around its true size."""
RIDGE = 30.0
NOT_FITTED = ("monuseg HE-712x/713x", "ihc_not_nuclear")
"""Sets whose own pixel size is doubtful, or whose brown is no nucleus."""


@dataclass(frozen=True)
class Image:
    """An image and what was found in it at each step from its true pixel size."""

    set_name: str
    stain: Stain
    steps: dict[int, NucleiSeen]


def see(data: Path, kept: Path, every: int) -> None:
    """Search the images."""
    kept.mkdir(parents=True, exist_ok=True)
    with (data / "sizes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["set"]] += 1
        target = kept / (hashlib.sha256(row["file"].encode()).hexdigest()[:16] + ".json")
        # Small sets are taken whole.
        is_large = sum(other["set"] == row["set"] for other in rows) > 8
        if target.exists() or (is_large and counts[row["set"]] % every):
            continue
        try:
            with open_slide(data / row["file"], float(row["um_per_px"]), identify=False) as slide:
                thumbnail, px0_per_pixel = read_thumbnail(slide, part_px0=SlideFrame.of(slide.info).content)
                tissue = find_slide_tissue(slide.info, thumbnail, px0_per_pixel)
                stain = detect_stain(sample_tissue(slide, tissue, seed=0).pixels).stain
                found = nuclei_at_every_step(slide, thumbnail, tissue, stain, N_PATCHES)
        except SlideError as error:
            print(error, flush=True)
            continue
        lists = {
            step: {key: np.asarray(value).tolist() for key, value in asdict(seen).items()}
            for step, seen in found.items()
        }
        target.write_text(json.dumps({"set": row["set"], "stain": str(stain), "steps": lists}))
        print(row["set"], Path(row["file"]).name, flush=True)


def read_seen(kept: Path) -> list[Image]:
    """Read what ``see`` kept."""
    images = []
    for path in sorted(kept.glob("*.json")):
        values = json.loads(path.read_text())
        steps = {
            int(step): NucleiSeen(
                np.asarray(one["area_um2"], dtype=np.float64),
                np.asarray(one["probability"], dtype=np.float64),
                np.asarray(one["distance"], dtype=np.float64),
                float(one["searched_um2"]),
            )
            for step, one in values["steps"].items()
        }
        images.append(Image(values["set"], Stain(values["stain"]), steps))
    return images


def told_wrong(image: Image, offset: int) -> dict[int, NucleiSeen]:
    """Give what a check finds where the stated size is 2 to the power of ``offset`` times the true one."""
    return {step: image.steps[step + offset] for step in STEPS if step + offset in image.steps}


def fit_ruler(images: list[Image], stain: Stain) -> Ruler:
    """Fit by ridge regression, every set weighing as the square root of its size."""
    rows: list[NDArray[np.float64]] = []
    octaves: list[float] = []
    sets: list[str] = []
    for image in images:
        for centre in OFFSETS:
            window = [image.steps.get(centre + side) for side in (-1, 0, 1)]
            known = [seen for seen in window if seen is not None]
            counts = [len(seen.area_um2) for seen in known]
            if len(known) < 3 or sum(counts) < 12 or counts[1] < 5:
                continue
            rows.append(np.concatenate([features(seen) for seen in known]))
            octaves.append(-float(centre))
            sets.append(image.set_name)
    x, y, names = np.asarray(rows), np.asarray(octaves), np.asarray(sets)
    weight = np.array([1 / np.sqrt(np.sum(names == name)) for name in names]) * np.where(np.abs(y) <= 1, 1.0, 0.6)
    weight /= weight.mean()
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    design = np.column_stack([(x - mean) / spread, np.ones(len(x))])
    penalty = RIDGE * np.diag([1.0] * x.shape[1] + [0.0])
    solved = np.linalg.solve((design * weight[:, None]).T @ design + penalty, (design * weight[:, None]).T @ y)
    slopes = solved[:-1] / spread
    table = tuple(tuple(float(v) for v in np.round(row, 4)) for row in slopes.reshape(3, -1))
    sha256 = resolve_model(DEFAULT_MODELS[stain])[1].sha256
    return Ruler(sha256, table, round(float(solved[-1] - slopes @ mean), 4))


def flags(images: list[Image], ruler: Ruler, offset: int) -> tuple[int, int, int]:
    """Count images, flags and unknowns where each states its size 2 to the power of ``offset`` too large."""
    found = [estimate_octaves(told_wrong(image, offset), ruler) for image in images]
    known = [value for value in found if value is not None]
    return len(found), sum(abs(value) >= FLAG_OCTAVES for value in known), len(found) - len(known)


def main() -> None:
    """Search or fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    searching = commands.add_parser("see")
    searching.add_argument("data", type=Path)
    searching.add_argument("seen", type=Path)
    searching.add_argument("--every", type=int, default=1)
    fitting = commands.add_parser("fit")
    fitting.add_argument("seen", type=Path)
    chosen = parser.parse_args()
    if chosen.command == "see":
        see(chosen.data, chosen.seen, chosen.every)
        return
    everything = read_seen(chosen.seen)
    for stain in Stain:
        images = [image for image in everything if image.stain == stain]
        fitted = [image for image in images if image.set_name not in NOT_FITTED]
        print(stain, fit_ruler(fitted, stain))
        names = sorted({image.set_name for image in images})
        for half in (0, 1):
            ruler = fit_ruler([image for image in fitted if names.index(image.set_name) % 2 == half], stain)
            left_out = [image for image in images if names.index(image.set_name) % 2 != half]
            counts = {f"{2.0**offset:g} x": flags(left_out, ruler, offset) for offset in (0, 1, -1, 2, -2)}
            print(f"{stain}, half {half} fitted; of the other (images, flagged, unknown): {counts}")


if __name__ == "__main__":
    main()

"""Fits the ruler of the pixel-size check for the shipped weights, and tests it on sets that it was not fitted on.

    python benchmarks/pixel_size_fit.py see DATA SEEN --most 60
    python benchmarks/pixel_size_fit.py fit SEEN

DATA holds ``sizes.csv`` with the columns ``file``, ``um_per_px``, ``set`` and ``source``; files are named from that
folder, or by their whole path; sets of one source (the same slides, or the same laboratory) are left out together.
``see`` describes patches of the images, and of some drawn ones, at many assumed pixel sizes, and writes a file for each
image into the folder SEEN; this takes by far the longest, and continues after a stop. ``fit`` writes
``wsipsm/quality/ruler.json``, fitted on all sets, and prints the flags of rulers that were fitted without the source
of the image. No labels are needed, since only magnification is learned.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wsipsm.demo.draw import draw_array
from wsipsm.errors import SlideError
from wsipsm.geometry import Box
from wsipsm.keys import Stain
from wsipsm.models.describe import Describer, open_describer
from wsipsm.models.registry import resolve_model
from wsipsm.quality.picture_size import RULED_MODEL, choose_centres, patch_box, read_patch
from wsipsm.quality.pixel_size import (
    FARTHEST_OCTAVES,
    FLAG_OCTAVES,
    NEAR_OCTAVES,
    STEPS,
    PatchSeen,
    estimate_octaves,
)
from wsipsm.quality.ruler import RULER_PATH, Ruler, show_nuclei
from wsipsm.slide.array import ArraySlide
from wsipsm.slide.base import Slide
from wsipsm.slide.frame import SlideFrame
from wsipsm.slide.open import open_slide
from wsipsm.slide.read import read_thumbnail
from wsipsm.stain import detect_stain
from wsipsm.tissue import find_slide_tissue, sample_tissue
from wsipsm.training.augment import AugmentOptions, compress, jitter_stains

STATED_FACTORS = (1.0, 2.0, 0.5, 2.54, 1 / 2.54, 4.0, 0.25)
"""Ratios of stated to true pixel size in the table; 2.54 arises when a resolution per cm is stated as one per inch."""
_SHIFT = math.log2(2.54)
_AS_IT_IS = sorted({float(step) for step in range(-3, 4)} | {side * _SHIFT + k for side in (-1, 1) for k in (-1, 0, 1)})
"""Octaves from the true to the assumed pixel size at which three unchanged places are described."""
_N_AS_IT_IS, _N_CHANGED, _N_STEPS_CHANGED = 3, 4, 5
_COARSEST_MPP = 1.1
_CONTEXT_UM = 260.0
_MIN_PX = 64
_RIDGE = 0.3
_NOT_FITTED = ("monuseg HE-712x/713x",)
"""Images whose stated pixel size is doubtful."""
_N_DRAWN = 4


@dataclass(frozen=True)
class Image:
    """An image, and its patches as they were described."""

    name: str
    set_name: str
    source: str
    stain: Stain
    described: NDArray[np.float32]
    """Shape (patches, 3, channels)."""
    octaves: NDArray[np.float64]
    """Octaves from the true pixel size to the assumed one, shape (patches,)."""
    place: NDArray[np.int64]
    side_px: NDArray[np.int64]
    """Shorter side of each patch, pixels."""
    changed: NDArray[np.bool_]
    """Whether colours, sharpness or native pixel size were changed at random."""
    score: NDArray[np.float64]
    """Mean nucleus score."""


def see(data: Path, kept: Path, most: int) -> None:
    """Describe images, at most ``most`` of each set, spread over it."""
    kept.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    weights, card = resolve_model(RULED_MODEL)
    describer = open_describer(weights, card)
    for key, set_name, source, opened in _sources(data, most):
        target = kept / (hashlib.sha256(key.encode()).hexdigest()[:16] + ".npz")
        if target.exists():
            continue
        try:
            with opened() as slide:
                values = _describe_slide(slide, describer, int(target.stem[:8], 16))
        except SlideError as error:
            print(error, flush=True)
            continue
        part = target.with_suffix(".part")
        with part.open("wb") as stream:
            np.savez_compressed(stream, name=key, set_name=set_name, source=source, **values)
        part.rename(target)
        print(set_name, Path(key).name, flush=True)


def _sources(data: Path, most: int) -> Iterator[tuple[str, str, str, Callable[[], AbstractContextManager[Slide]]]]:
    with (data / "sizes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_set: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_set[row["set"]].append(row)
    chosen = [mine[int(i)] for mine in by_set.values() for i in np.linspace(0, len(mine) - 1, min(most, len(mine)))]
    for seed in range(_N_DRAWN):
        for stain in Stain:
            drawn, _ = draw_array(seed=seed, size=(1200, 1000), n_nuclei=400, stain=stain)
            yield f"drawn {stain} {seed}", "drawn", "drawn", lambda drawn=drawn: ArraySlide(drawn, 0.25)
    # The order is random, so that a part of the images comes from all sets.
    for row in np.random.default_rng(1).permutation(np.array(chosen, dtype=object)):
        path, mpp = data / row["file"], float(row["um_per_px"])
        yield row["file"], row["set"], row["source"], lambda path=path, mpp=mpp: open_slide(path, mpp, identify=False)


def _describe_slide(slide: Slide, describer: Describer, seed: int) -> dict[str, object]:
    thumbnail, px0_per_pixel = read_thumbnail(slide, part_px0=SlideFrame.of(slide.info).content)
    tissue = find_slide_tissue(slide.info, thumbnail, px0_per_pixel)
    stain = detect_stain(sample_tissue(slide, tissue, seed=0).pixels).stain
    centres = choose_centres(slide.info, thumbnail, tissue, seed=0).tolist()
    rng = np.random.default_rng(seed)
    rows: list[tuple[NDArray[np.float32], float, int, int, bool]] = []
    for place, centre in enumerate(centres[:_N_AS_IT_IS]):
        rows += [(*one, place, False) for one in _describe_place(slide, centre, _AS_IT_IS, describer)]
    for place in range(_N_AS_IT_IS, _N_AS_IT_IS + _N_CHANGED):
        changed, centre = _change(slide, centres[place % len(centres)], rng)
        steps = np.arange(_N_STEPS_CHANGED) - 3 + rng.random()
        rows += [(*one, place, True) for one in _describe_place(changed, centre, steps.tolist(), describer)]
    described, octaves, sides, places, are_changed = zip(*rows, strict=True)
    nucleus = describer.card.outputs.index("nucleus") - len(describer.card.outputs)
    return {
        "stain": str(stain),
        "described": np.stack(described),
        "octaves": np.array(octaves),
        "place": np.array(places),
        "side_px": np.array(sides),
        "changed": np.array(are_changed),
        "score": np.stack(described)[:, 0, nucleus],
    }


def _describe_place(
    slide: Slide, centre_px0: list[float], steps: list[float], describer: Describer
) -> Iterator[tuple[NDArray[np.float32], float, int]]:
    assert slide.info.mpp is not None
    for step in steps:
        scale = describer.card.mpp / (slide.info.mpp * 2.0**step)
        box = patch_box(slide, centre_px0, scale, describer.card.stride)
        if box is not None:
            rgb = show_nuclei(read_patch(slide, box, scale))
            yield describer.describe(rgb), step, min(box.width, box.height)


def _change(slide: Slide, centre_px0: list[float], rng: np.random.Generator) -> tuple[ArraySlide, list[float]]:
    """Cut out the surroundings of a point, and change them as another scanner and laboratory might."""
    mpp, content = slide.info.mpp, SlideFrame.of(slide.info).content
    assert mpp is not None
    side = int(min(max(content.width, content.height), _CONTEXT_UM / mpp))
    left, top = (
        int(np.clip(at - side // 2, low, max(low, high - side)))
        for at, low, high in zip(centre_px0, (content.x, content.y), (content.right, content.bottom), strict=True)
    )
    box = Box(left, top, min(side, content.right - left), min(side, content.bottom - top))
    rgb = np.ascontiguousarray(slide.read_level(0, box))
    coarser = 1.0
    coarsest = min(_COARSEST_MPP / mpp, min(box.width, box.height) / 160)
    if rng.random() < 0.6 and coarsest > 1.05:
        coarser = math.exp(rng.uniform(0, math.log(coarsest)))
        size = round(box.width / coarser), round(box.height / coarser)
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    if rng.random() < 0.85:
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
        batch = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
        changed = jitter_stains(batch, AugmentOptions(), generator)[0].permute(1, 2, 0)
        rgb = compress(np.ascontiguousarray(changed.round().numpy().astype(np.uint8)), AugmentOptions(), rng)
    centre = [(centre_px0[0] - left) / coarser, (centre_px0[1] - top) / coarser]
    return ArraySlide(np.ascontiguousarray(rgb), mpp * coarser), centre


def read_seen(kept: Path) -> list[Image]:
    """Read the files that ``see`` wrote."""
    images = []
    for path in sorted(kept.glob("*.npz")):
        with np.load(path) as values:
            texts = {name: str(values[name]) for name in ("name", "set_name", "source")}
            arrays = {name: values[name] for name in ("described", "octaves", "place", "side_px", "changed", "score")}
            images.append(Image(stain=Stain(str(values["stain"])), **texts, **arrays))
    return images


@dataclass
class Moments:
    """Weighted sums of the figures of one source; those of all others give the ruler without that source."""

    weight: float
    x: NDArray[np.float64]
    xx: NDArray[np.float64]
    y: float
    xy: NDArray[np.float64]


def moments(images: list[Image]) -> Moments:
    """Sum over images; a set weighs as the square root of its number of images."""
    counts = Counter(image.set_name for image in images)
    sums: list[Moments] = []
    for image in images:
        used = image.side_px >= _MIN_PX
        x = image.described[used].reshape(int(used.sum()), -1).astype(np.float64)
        y = -image.octaves[used]
        weight = np.where(np.abs(y) <= 1.6, 1.0, 0.6) / max(len(y), 1) / math.sqrt(counts[image.set_name])
        weighted = x * weight[:, None]
        sums.append(Moments(weight.sum(), weighted.sum(axis=0), weighted.T @ x, weight @ y, weighted.T @ y))
    return add(sums)


def add(parts: list[Moments]) -> Moments:
    """Add the sums of several sources."""
    return Moments(*(sum(getattr(one, name) for one in parts) for name in ("weight", "x", "xx", "y", "xy")))


def fit_ruler(sums: Moments, sha256: str) -> Ruler:
    """Solve the ridge regression of octaves on standardised figures."""
    mean, level = sums.x / sums.weight, sums.y / sums.weight
    covariance = sums.xx / sums.weight - np.outer(mean, mean)
    spread = np.sqrt(np.maximum(np.diag(covariance), 0)) + 1e-3
    correlation = covariance / np.outer(spread, spread)
    target = (sums.xy / sums.weight - mean * level) / spread
    slopes = np.linalg.solve(correlation + _RIDGE * np.eye(len(mean)), target)
    return Ruler(sha256, mean, spread, slopes, float(level))


def check_stated(image: Image, ruler: Ruler, factor: float) -> float | None:
    """Check, on the stored patches, a stated pixel size that is ``factor`` times the true one; return octaves."""
    stated = math.log2(factor)

    def estimate_around(centre: float) -> float | None:
        near = np.abs(image.octaves[:, None] - centre - np.array(STEPS)).min(axis=1) < 1e-6
        kept = np.flatnonzero(near & ~image.changed)
        seen = [
            PatchSeen(int(image.place[i]), float(image.octaves[i]) - stated, image.described[i], float(image.score[i]))
            for i in kept
        ]
        return estimate_octaves(seen, ruler) if seen else None

    octaves = estimate_around(stated)
    if octaves is None or abs(octaves) <= NEAR_OCTAVES:
        return octaves
    # A check estimates again around its first estimate; only whole octaves from the truth are stored.
    return estimate_around(min(max(round(stated + octaves), -FARTHEST_OCTAVES), FARTHEST_OCTAVES))


def fit(kept: Path) -> None:
    """Write the ruler, and print the flags that rulers without an image's source give for the image."""
    images = read_seen(kept)
    sha256 = resolve_model(RULED_MODEL)[1].sha256
    fitted = [image for image in images if image.set_name not in _NOT_FITTED]
    sums = {source: moments([image for image in fitted if image.source == source]) for source in _names(fitted)}
    RULER_PATH.write_bytes(fit_ruler(add(list(sums.values())), sha256).to_json())
    found: dict[str, list[float | None]] = {}
    for source in _names(images):
        ruler = fit_ruler(add([one for name, one in sums.items() if name != source]), sha256)
        for image in images:
            if image.source == source:
                found[image.name] = [check_stated(image, ruler, factor) for factor in STATED_FACTORS]
    _print_table(images, found)


def _names(images: list[Image]) -> list[str]:
    return sorted({image.source for image in images})


def _print_table(images: list[Image], found: dict[str, list[float | None]]) -> None:
    """Print a row for every set and stain, and one for all; a flag means at least ``FLAG_OCTAVES``."""
    print(
        "| set | stain | n | unknown | fits / true: least, median, most | "
        + " | ".join(f"flagged at {factor:.3g}" for factor in STATED_FACTORS)
        + " |",
        "|---" * (5 + len(STATED_FACTORS)) + "|",
        sep="\n",
    )
    groups = [(image.set_name, image.stain) for image in images]
    groups = [*sorted(set(groups)), *(("all but those not fitted", stain) for stain in Stain)]
    for name, stain in groups:
        mine = [
            found[image.name]
            for image in images
            if image.stain == stain
            and (image.set_name == name or (name.startswith("all") and image.set_name not in _NOT_FITTED))
        ]
        fits = [2 ** row[0] for row in mine if row[0] is not None]
        flags = [
            sum(row[i] is not None and abs(row[i]) >= FLAG_OCTAVES for row in mine) for i in range(len(STATED_FACTORS))
        ]
        spread = " ".join(f"{value:.2f}" for value in np.quantile(fits, (0, 0.5, 1))) if fits else "-"
        cells = [name, stain, len(mine), sum(row[0] is None for row in mine), spread, *flags]
        print("| " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    """Describe or fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    seeing = commands.add_parser("see")
    seeing.add_argument("data", type=Path)
    seeing.add_argument("seen", type=Path)
    seeing.add_argument("--most", type=int, default=60)
    fitting = commands.add_parser("fit")
    fitting.add_argument("seen", type=Path)
    chosen = parser.parse_args()
    if chosen.command == "see":
        see(chosen.data, chosen.seen, chosen.most)
    else:
        fit(chosen.seen)


if __name__ == "__main__":
    main()

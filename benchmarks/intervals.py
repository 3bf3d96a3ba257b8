"""Measures how often the Ki-67 intervals cover the truth, on drawn slides whose truth is known.

    python benchmarks/intervals.py [--slides 1000] [--each 60] [--spots 30] [--seed 12]

A slide's nuclei lie in an ellipse or a rectangle, their density varies over 150 um, and they are positive with a
probability that varies over the correlation length. As many further slides have clusters with a correlation of
exp(-distance / length), which extends further, so that the same length leaves half as many independent areas. The truth
of the global index is the expected index of the process that drew the slide, which is known exactly; the truth of a hot
spot is the mean probability of the nuclei in the chosen field.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from machine import describe_machine
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.special import ndtr, ndtri

from wsipsm.scoring.fields import lay_fields, unweighted_mean
from wsipsm.scoring.hotspot import find_hot_spot
from wsipsm.scoring.index import wilson_interval
from wsipsm.scoring.spatial import block_bootstrap_interval

CELL_UM = 25.0
DENSITY_MM2 = 3000.0
DENSITY_LENGTH_UM, DENSITY_SD = 150.0, 0.6
CLUSTER_SD = 0.7
"""Standard deviation of the probit of the probability; at an index of 10 %, nine tenths of the tissue have a
probability of 1 to 31 %."""
LENGTHS_UM = (0, 50, 200, 500)
INDICES = (0.02, 0.1, 0.2, 0.5)
SIZES = (500, 2000, 10_000, 50_000)
SPOT_KINDS = ("none", "one at twice the index", "clusters of 100 um", "clusters of 300 um")
SPOT_RADIUS_UM = 400.0


@dataclass(frozen=True, slots=True)
class DrawnSlide:
    """Nuclei of a drawn slide, and their truth."""

    xy_um: NDArray[np.float64]
    positive: NDArray[np.bool_]
    probability: NDArray[np.float64]
    truth: float
    """Expected index of the process."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An interval, and the truth that it should cover."""

    truth: float
    estimate: float
    low: float
    high: float
    flagged: bool = False

    @property
    def side(self) -> int:
        """-1 when the truth lies below the interval, 1 above, 0 inside."""
        return -1 if self.truth < self.low else int(self.truth > self.high)


def draw_waves(random: np.random.Generator, n: int, length_um: float, *, rough: bool = False) -> NDArray[np.float64]:
    """Draw a Gaussian field of n x n cells, sd 1, of correlation exp(-(d / length)^2), or exp(-d / length) if rough."""
    length = length_um / CELL_UM
    size = next_fast_len(n + math.ceil((5 if rough else 3) * length), real=True)
    step = np.minimum(np.arange(size), size - np.arange(size))
    distance = np.hypot(step[:, None], step[None, :]) / length
    power = np.maximum(rfft2(np.exp(-distance if rough else -(distance**2))).real, 0)
    field = irfft2(rfft2(random.standard_normal((size, size))) * np.sqrt(power), (size, size))
    return np.asarray(field[:n, :n], np.float64)


def draw_slide(
    random: np.random.Generator,
    n_nuclei: int,
    index: float,
    length_um: float,
    *,
    cluster_sd: float = CLUSTER_SD,
    rough: bool = False,
    spot: float | None = None,
) -> DrawnSlide:
    """Draw a slide; half of them are denser where they are more positive. ``spot`` is the index in a hot spot."""
    ellipse = random.random() < 0.5
    area_um2 = n_nuclei / DENSITY_MM2 * 1e6 / (math.pi / 4 if ellipse else 1)
    aspect = random.uniform(1, 2)
    width, height = math.sqrt(area_um2 * aspect), math.sqrt(area_um2 / aspect)
    n = math.ceil(width / CELL_UM) + 1
    y, x = (np.indices((n, n)) + 0.5) * CELL_UM
    inside = np.hypot(2 * x / width - 1, 2 * y / height - 1) < 1 if ellipse else (x < width) & (y < height)
    density = np.exp(DENSITY_SD * draw_waves(random, n, DENSITY_LENGTH_UM)) * inside
    probability, truth = np.full((n, n), index), index
    if length_um:
        spread = math.sqrt(1 + cluster_sd**2)
        tilt = random.choice([0.0, 0.4])
        waves = draw_waves(random, n, length_um, rough=rough)
        density *= np.exp(tilt * waves)
        probability = ndtr(ndtri(index) * spread + cluster_sd * waves)
        # The truth is E[density x probability] / E[density] of a Gaussian field, since dense tissue has more nuclei.
        truth = float(ndtr((ndtri(index) * spread + cluster_sd * tilt) / spread))
    if spot is not None:
        middle = random.uniform(0.3, 0.7, 2) * (width, height)
        probability[np.hypot(x - middle[0], y - middle[1]) < SPOT_RADIUS_UM] = spot
    count = random.poisson(density * n_nuclei / density.sum()).ravel()
    cell = np.repeat(np.arange(n * n), count)
    row, column = np.divmod(cell, n)
    xy_um = (np.stack([column, row], 1) + random.random((len(cell), 2))) * CELL_UM
    chance = probability.ravel()[cell]
    return DrawnSlide(xy_um, random.random(len(cell)) < chance, chance, truth)


def measure_index(slide: DrawnSlide, seed: int) -> dict[str, Outcome]:
    """Compute the intervals of the global index, wsipsm's and Wilson's, and of the mean over fields.

    The mean over fields has the same truth only where density does not depend on the probability.
    """
    n, n_positive = len(slide.positive), int(slide.positive.sum())
    found = block_bootstrap_interval(slide.xy_um, slide.positive, seed=seed)
    share = n_positive / n
    outcomes = {
        "ours": Outcome(slide.truth, share, found.low, found.high, bool(found.flags)),
        "Wilson": Outcome(slide.truth, share, *wilson_interval(n_positive, n)),
    }
    mean = unweighted_mean(lay_fields(slide.xy_um, slide.positive), seed=seed)
    if mean.value is not None and mean.low is not None and mean.high is not None:
        outcomes["fields"] = Outcome(slide.truth, mean.value, mean.low, mean.high)
    return outcomes


def measure_spot(slide: DrawnSlide, seed: int) -> dict[str, Outcome]:
    """Compute the intervals of the hot spot: Wilson's for the field, and wsipsm's, which allows for the search."""
    spot = find_hot_spot(slide.xy_um, slide.positive, seed=seed).spot
    if spot is None:
        return {}
    inside = np.abs(slide.xy_um - (spot.x_um, spot.y_um)).max(1) <= spot.side_um / 2
    truth = float(slide.probability[inside].mean())
    return {
        "Wilson": Outcome(truth, spot.index, spot.wilson_low, spot.wilson_high),
        "ours": Outcome(truth, spot.corrected, spot.low, spot.high),
    }


def summarise(outcomes: Sequence[Outcome]) -> str:
    """Write coverage, misses below and above, and median width."""
    if not outcomes:
        return "-"
    sides = np.array([o.side for o in outcomes])
    below, above = (100 * np.mean(sides == side) for side in (-1, 1))
    width = 100 * np.median([o.high - o.low for o in outcomes])
    return f"{100 - below - above:.1f} ({below:.1f} / {above:.1f}), {width:.1f}"


def report_sections(random: np.random.Generator, n_slides: int, *, rough: bool = False) -> list[str]:
    """Write the table of whole sections, with mixed sizes, clusters and indices."""
    slides: list[dict[str, Outcome]] = []
    for k in range(n_slides):
        size = round(math.exp(random.uniform(math.log(5_000), math.log(50_000))))
        length_um = float(random.choice(LENGTHS_UM[1:]))
        drawn = draw_slide(random, size, float(random.choice(INDICES)), length_um, rough=rough)
        slides.append(measure_index(drawn, k))
    plain = [s for s in slides if not s["ours"].flagged]
    lines = [
        f"**{n_slides} slides, clusters {'that fade slowly' if rough else 'with smooth edges'}**: 50, 200 or 500 um, "
        "5,000 to 50,000 nuclei, index 2 to 50 %.",
        "",
        "| slides | number | block bootstrap | Wilson | mean over fields |",
        "|---|---|---|---|---|",
    ]
    flagged = [s for s in slides if s["ours"].flagged]
    for name, chosen in (("all", slides), ("without a flag", plain), ("flagged", flagged)):
        columns = [summarise([s[m] for s in chosen if m in s]) for m in ("ours", "Wilson", "fields")]
        lines.append(f"| {name} | {len(chosen)} | " + " | ".join(columns) + " |")
    return [*lines, ""]


def report_corners(random: np.random.Generator, each: int) -> list[str]:
    """Write the table of every size with every correlation length."""
    lines = [
        f"**By size and correlation length**, {each} slides each, indices in turn.",
        "",
        "| nuclei | clusters, um | block bootstrap | flagged, % | Wilson |",
        "|---|---|---|---|---|",
    ]
    for size in SIZES:
        for length_um in LENGTHS_UM:
            slides = [
                measure_index(draw_slide(random, size, INDICES[k % len(INDICES)], length_um), k) for k in range(each)
            ]
            ours = [s["ours"] for s in slides]
            flagged = 100 * np.mean([o.flagged for o in ours])
            wilson = summarise([s["Wilson"] for s in slides])
            lines.append(f"| {size} | {length_um or 'none'} | {summarise(ours)} | {flagged:.0f} | {wilson} |")
    return [*lines, ""]


def report_spots(random: np.random.Generator, each: int) -> list[str]:
    """Write the table of slides without and with real hot spots."""
    lines = [
        f"**Hot spot**, {each} slides each; bias in points of per cent of the index, then of the corrected index.",
        "",
        "| nuclei | index, % | real hot spots | bias, counted | bias, corrected | Wilson at the place | ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in (6_000, 50_000):
        for index in (0.05, 0.2):
            for kind in SPOT_KINDS:
                length_um = {"clusters of 100 um": 100, "clusters of 300 um": 300}.get(kind, 0)
                spot = 2 * index if kind.startswith("one") else None
                outcomes = []
                for k in range(each):
                    drawn = draw_slide(random, size, index, length_um, cluster_sd=0.5, spot=spot)
                    outcomes.append(measure_spot(drawn, k))
                lines.append(f"| {size} | {100 * index:.0f} | {kind} | {_describe_spots(outcomes)} |")
    return [*lines, ""]


def _describe_spots(outcomes: Sequence[dict[str, Outcome]]) -> str:
    by_method = {m: [o[m] for o in outcomes if m in o] for m in ("Wilson", "ours")}
    biases = [f"{100 * np.mean([o.estimate - o.truth for o in some]):+.1f}" for some in by_method.values()]
    return " | ".join([*biases, *(summarise(some) for some in by_method.values())])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=1000, help="clustered slides of mixed size")
    parser.add_argument("--each", type=int, default=60, help="slides for every size and correlation length")
    parser.add_argument("--spots", type=int, default=30, help="slides for every kind of hot spot")
    parser.add_argument("--seed", type=int, default=12)
    args = parser.parse_args(arguments)
    started = time.perf_counter()
    parts = np.random.default_rng(args.seed).spawn(4)
    lines = []
    if args.slides:
        lines += report_sections(parts[0], args.slides)
        lines += report_sections(parts[3], args.slides, rough=True)
    if args.each:
        lines += report_corners(parts[1], args.each)
    if args.spots:
        lines += report_spots(parts[2], args.spots)
    facts = describe_machine()
    print(f"Seed {args.seed}. Date {facts['date']}. {facts['machine']}. {facts['versions']}.")
    print(f"{time.perf_counter() - started:.0f} s in all.")
    print("A cell reads: coverage in % (truth below / above the interval), median width in points of per cent.\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

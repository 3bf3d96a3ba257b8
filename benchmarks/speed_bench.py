"""Code that the rows of ``benchmarks.speed`` share: processor time, composed slides, plans, and lines of the table."""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.slides import compose_slide, write_whole_region
from wsipsm.config import RunOptions
from wsipsm.geometry import Box
from wsipsm.rundir import RunDir
from wsipsm.slide.open import open_slide
from wsipsm.stages.plan import SlidePlan, plan_slide

MPP = 0.25
"""Pixel size of every composed slide, um/px."""


class Skipped(Exception):
    """A row, or one of its lines, cannot be measured; the message says why."""


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    row: str
    what: str
    unit: str = ""
    ours: Sequence[float] = ()
    """Value of each repeat."""
    beside: str = ""
    """Name of the reference that it is compared with."""
    theirs: Sequence[float] = ()
    """Value of the reference in each repeat; empty where the target is a plain number."""
    faster: bool = False
    """Whether the ratio says how many times as fast wsipsm is; else it is wsipsm's value over the other."""
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    def cells(self) -> list[str]:
        """Write the cells of the line."""
        if not self.ours:
            return [self.row, self.what, "not measured", self.note, "", "", ""]
        ratio = statistics.median(self.ours)
        if self.theirs:
            ratio /= statistics.median(self.theirs)
            ratio = 1 / ratio if self.faster else ratio
        target, held = "", ""
        if self.at_most is not None:
            target, held = f"at most {self.at_most:g}", "yes" if ratio <= self.at_most else "no"
        if self.at_least is not None:
            target, held = f"at least {self.at_least:g}", "yes" if ratio >= self.at_least else "no"
        shown = f"{ratio:.3g}{' times as fast' if self.faster else ''}" if self.theirs else ""
        theirs = f"{self.beside}: {spread(self.theirs)}" if self.theirs else self.note
        return [self.row, self.what, f"{spread(self.ours)} {self.unit}".rstrip(), theirs, shown, target, held]


def spread(values: Sequence[float]) -> str:
    """Write the median of some values, and the least and the largest where they differ."""
    low, median, high = (
        f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return median if low == high else f"{median} ({low}..{high})"


def cpu_now() -> float:
    """Return the processor time in seconds, user and system, of this process and its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Measure the processor time of some work, seconds."""
    started = cpu_now()
    work()
    return cpu_now() - started


def in_turn(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Measure the processor times of several works in turn, so that a busy machine slows all equally.

    Each work runs once before, without measurement.
    """
    for work in works.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            found[name].append(cpu_seconds(work))
    return found


@dataclass
class Bench:
    """Settings of a benchmark, and the slides that were composed for it."""

    folder: Path
    sources: dict[str, list[Path]]
    """Images at 0.25 um/px whose pixels are repeated, by stain: ``he`` or ``ki67``."""
    side: int
    n_blocks: int
    repeats: int
    n_nuclei: int
    _composed: dict[str, Path] = field(default_factory=dict)
    _plans: dict[tuple[str, str, int | None], SlidePlan] = field(default_factory=dict)

    def slide(self, stain: str) -> Path:
        """Compose the slide of a stain, once; Skipped where no image was given for it."""
        if not self.sources[stain]:
            raise Skipped(f"no image was given by --{stain}")
        if stain not in self._composed:
            path = self.folder / f"{stain}.svs"
            compose_slide(path, mosaic(self.sources[stain]), self.side, MPP)
            write_whole_region(region_of(path), self.side)
            self._composed[stain] = path
        return self._composed[stain]

    def plan(self, stain: str, model: str, block_px: int | None = None) -> SlidePlan:
        """Plan a run over all of a stain's slide, with one thread for the network.

        The size of blocks is ``block_px``; None: as a run chooses it.
        """
        path, key = self.slide(stain), (stain, model, block_px)
        if key not in self._plans:
            run_dir = RunDir(self.folder / f"{stain}-{model}-{block_px}")
            run_dir.create()
            options = RunOptions(model=model, roi=region_of(path), workers=0, block_px=block_px, device="cpu")
            with open_slide(path) as slide:
                plan = plan_slide(slide, options, run_dir)
            self._plans[key] = plan.with_threads(1)
        return self._plans[key]


def region_of(slide: Path) -> Path:
    """Path of the region that is all of a composed slide."""
    return slide.with_suffix(".geojson")


def mosaic(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Put images side by side, each cut to the height of the lowest."""
    images = []
    for path in paths:
        with open_slide(path, MPP, identify=False) as slide:
            size = slide.info.size
            images.append(slide.read_level(0, Box(0, 0, size.width, size.height)))
    height = min(image.shape[0] for image in images)
    return np.concatenate([image[:height] for image in images], axis=1)


def mm2(area_px: float, mpp: float) -> float:
    """Area of some pixels, mm2."""
    return area_px * (mpp / 1000) ** 2

"""``run.json``: the facts on how the results of a slide came about."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from wsipsm.config import RunOptions
from wsipsm.facts import Facts, FrameFacts, Number, RegionRecord
from wsipsm.keys import Artefact, QuPathFrame
from wsipsm.models.card import ModelCard
from wsipsm.results.record import Record
from wsipsm.rundir import RunDir
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame
from wsipsm.stain import StainDecision, StainProfile


class MachineFacts(Facts):
    """The machine that drove the run."""

    system: str
    release: str
    processor: str
    python: str
    n_cpus: int


class StainFacts(Facts):
    """The stain that was found on the slide, and how it absorbs light."""

    decision: StainDecision
    profile: StainProfile


class ModelFacts(Facts):
    """The model that found the nuclei."""

    reason: str
    """Why this model was taken."""
    weights: str
    """Path of its weights."""
    card: ModelCard
    backends: tuple[str, ...]
    """Names of the libraries that computed the network, over all workers."""


class PictureFacts(Facts):
    """The picture of the slide that is kept for later overviews."""

    px0_per_pixel: Number
    """Level-0 pixels per pixel of the picture."""


class GridFacts(Facts):
    """The division of the slide into blocks and tiles: pixel sizes in um/px, lengths in working pixels."""

    mpp: Number
    slide_mpp: Number
    origin_px0: tuple[int, int]
    block_px: int
    tile_px: int
    halo_px: int
    margin_px: int
    strip_px: int
    blocks: tuple[int, ...]
    """Indices of the blocks that the region touches, which the run had to score."""


class Keys(Facts):
    """Digests of the request, and of everything that decides a shard and the results."""

    request: str
    shards: str
    result: str


class SeamFacts(Facts):
    """Nuclei that were left out when blocks were joined."""

    n_found_again: int
    n_outside_region: int


class AreaFacts(Facts):
    """Counts of nuclei by classes of area; the last class has no upper limit."""

    step_um2: float
    n_nuclei: tuple[int, ...]


class SecondsFacts(Facts):
    """Seconds by stage on the clock, by step of a block summed over workers, and by step of writing the results."""

    stages: dict[str, Number]
    block_steps: dict[str, Number]
    write_steps: dict[str, Number] = Field(default_factory=dict)
    """Empty in files of versions that did not time them."""


class RunRecord(Record):
    """The facts on how the results of a slide came about; ``run.json`` holds them."""

    artefact: ClassVar[Artefact] = Artefact.RUN

    options: RunOptions
    code: str
    """Version and digest of all code that decides results, and the versions of its libraries."""
    libraries: dict[str, str]
    """Version of each library, by the name of its distribution."""
    machine: MachineFacts
    slide: SlideInfo
    frame: FrameFacts
    stain: StainFacts
    model: ModelFacts
    region: RegionRecord
    picture: PictureFacts
    grid: GridFacts
    keys: Keys
    failures: dict[str, str]
    """Reason why a block failed, by the block's index."""
    seam: SeamFacts
    areas: AreaFacts
    seconds: SecondsFacts

    def slide_frame(self, qupath_frame: QuPathFrame | None = None) -> SlideFrame:
        """Return the slide's frame; ``qupath_frame`` is what QuPath shows, and None stands for the run's own choice."""
        return SlideFrame.of(self.slide, qupath_frame or self.frame.qupath_frame)


def slide_of_run(run_dir: RunDir) -> tuple[str, str] | None:
    """Read path and fingerprint of the slide that a folder was made from, by any version; None where none is given."""
    slide = (run_dir.read_json(Artefact.RUN) or {}).get("slide")
    return (str(slide.get("path")), str(slide.get("fingerprint"))) if isinstance(slide, dict) else None

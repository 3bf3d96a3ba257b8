"""The work on one block, from pixels to nuclei to a shard; executors run it here or on a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from wsipsm.events import BlockReport
from wsipsm.geometry import Box
from wsipsm.instances.decode import decode
from wsipsm.instances.shard import ShardFacts, ShardPlace, write_shard
from wsipsm.instances.table import BORDER_PX, OWNED, SEAM, build_table, centroids_px0, shard_schema
from wsipsm.instances.trace import trace_outlines
from wsipsm.keys import Stain
from wsipsm.models.card import ModelCard
from wsipsm.rundir import RunDir
from wsipsm.scoring.measure import measure_nuclei
from wsipsm.slide.open import open_slide
from wsipsm.slide.opened import OpenedSlide, changed_error
from wsipsm.slide.partial import RETRY_BOXES_PX, read_what_can_be_read, slices_of
from wsipsm.stain import StainProfile, separate
from wsipsm.tiling import Block, BlockGeometry
from wsipsm.timing import Steps

if TYPE_CHECKING:
    from wsipsm.models.inference import Inference
    from wsipsm.models.predict import Predictor


@dataclass(frozen=True, slots=True)
class SlideJob:
    """The facts about a slide's run that a worker needs; they are plain and small, since every task carries them."""

    slide_path: str
    mpp: float | None
    """Level-0 pixel size in um/px that the user gave in place of the file's; None stands for the file's."""
    image: int
    """Number of the image in the file, from 1."""
    fingerprint: str
    geometry: BlockGeometry
    """Positions of the blocks, and the margins that are read around them."""
    weights: str
    """Path of the network's weights."""
    card: ModelCard
    profile: StainProfile
    inference: Inference
    """What runs the network, on every worker alike."""
    threads: int
    timed: bool
    """Whether reports say when each step ran."""
    key: str
    """Digest of everything that decides the content of a shard."""
    folder: str
    """Folder of the slide's results."""

    def place_of(self, block: Block) -> ShardPlace:
        """Describe the shard of a block, which distinguishes it from those of other slides, settings and blocks."""
        return ShardPlace(self.key, self.fingerprint, block.row, block.column, block.core)


def load_predictor(weights: str, card: ModelCard, inference: Inference, threads: int) -> Predictor:
    """Open a network; this is the only place at which a run loads torch or OpenVINO."""
    from wsipsm.models.predict import open_inner_predictor

    return open_inner_predictor(Path(weights), card, inference, threads)


@lru_cache(maxsize=1)
def _opened_slide(path: str, mpp: float | None, image: int, fingerprint: str) -> OpenedSlide:
    slide = open_slide(path, mpp, image)
    if slide.info.fingerprint != fingerprint:
        slide.close()
        raise changed_error(path)
    return OpenedSlide(slide, Path(path))


@lru_cache(maxsize=1)
def opened_predictor(weights: str, card_json: str, inference: Inference, threads: int) -> Predictor:
    """Open the network of a card, or return the one that was opened last if it is the same."""
    return load_predictor(weights, ModelCard.model_validate_json(card_json), inference, threads)


def release_worker() -> None:
    """Close the slide and release the network that this process keeps between blocks."""
    _opened_slide.cache_clear()
    opened_predictor.cache_clear()


@contextmanager
def _limited_threads(n_threads: int) -> Iterator[None]:
    """Limit OpenCV to the job's threads, so that workers do not compete for processors, and BLAS to one thread.

    BLAS gets one, since its products are small and their last bits must not depend on the number of cores.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(n_threads)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)


def segment_block(job: SlideJob, block: Block) -> BlockReport:
    """Find the nuclei of one block and write its shard.

    Parameters
    ----------
    job
        Job of the slide.
    block
        Block to work on.

    Returns
    -------
    Counts, times and unreadable boxes of the block.

    Raises
    ------
    SlideOpenError, ModelError
        When slide or network cannot be opened.
    OutputError
        When the shard cannot be written. Unreadable pixels raise no error; the report lists them.
    """
    steps = Steps(job.timed)
    with _limited_threads(job.threads):
        with steps.timed("read"):
            rgb, failed = _read_pixels(job, block)
        table, facts = _fill_shard(job, block, rgb, failed, steps)
        with steps.timed("write"):
            write_shard(RunDir(job.folder).shard_path(job.key, block), table, facts)
    return report_of(block, facts, steps)


def _read_pixels(job: SlideJob, block: Block) -> tuple[NDArray[np.uint8] | None, list[Box]]:
    """Read the pixels that the network sees for a block, and list the boxes that could not be read.

    The pixels have shape (height, width, 3), with the slide mirrored at its edges; None when no pixel could be read.
    """
    opened = _opened_slide(job.slide_path, job.mpp, job.image, job.fingerprint)
    box, grid = job.geometry.read_box(block.core), job.geometry.grid
    rgb, failed = read_what_can_be_read(opened.slide, box, grid.scale, grid.size_px, RETRY_BOXES_PX, grid.origin_px0)
    opened.require_same()
    if rgb is None:
        return None, [block.core]
    return mirrored_outside(rgb, box, job.geometry.slide_box), failed


def _fill_shard(
    job: SlideJob, block: Block, rgb: NDArray[np.uint8] | None, failed: list[Box], steps: Steps
) -> tuple[pa.Table, ShardFacts]:
    """Make the content of a block's shard and its facts; a block without readable pixels has an empty table."""
    table, n_too_large, backend = shard_schema().empty_table(), 0, ""
    if rgb is not None:
        with steps.timed("predict"):
            maps, backend = _predict(job, block, rgb)
        table, n_too_large = find_nuclei(job, block, rgb, maps, failed, steps)
    return table, ShardFacts(
        place=job.place_of(block),
        n_owned=int(np.count_nonzero(table.column(OWNED).to_numpy())),
        n_tiles=job.geometry.count_tiles(block.core),
        n_too_large=n_too_large,
        failed=_lost_px0(job, block.core, failed),
        backend=backend,
    )


def report_of(block: Block, facts: ShardFacts, steps: Steps | None = None) -> BlockReport:
    """Make the report of a block, which events carry, from the facts of its shard."""
    return BlockReport(
        index=block.index,
        n_nuclei=facts.n_owned,
        n_tiles=facts.n_tiles,
        n_too_large=facts.n_too_large,
        failed=facts.failed,
        seconds={} if steps is None else steps.seconds,
        backend=facts.backend,
        spans=() if steps is None else tuple(steps.spans),
    )


def mirrored_outside(rgb: NDArray[np.uint8], box: Box, slide: Box) -> NDArray[np.uint8]:
    """Mirror the slide at its edges, as the training does, since readers return white pixels outside the slide.

    Parameters
    ----------
    rgb
        Pixels of a box, shape (box.height, box.width, 3).
    box, slide
        The box and the whole slide, working pixels; they overlap. A box that ends outside the slide reaches at least
        as far into the slide as the network sees beyond its edge, or holds all of the slide. So the mirrored pixels do
        not depend on how blocks are cut.

    Returns
    -------
    Pixels of the same shape; the same array where the box lies on the slide.
    """
    on_slide = slide.intersect(box)
    rims = (on_slide.y - box.y, box.bottom - on_slide.bottom), (on_slide.x - box.x, box.right - on_slide.right)
    if not any(map(any, rims)):
        return rgb
    return np.pad(rgb[slices_of(on_slide, box)], (*rims, (0, 0)), mode="reflect")


def _lost_px0(job: SlideJob, core: Box, failed: list[Box]) -> tuple[Box, ...]:
    """Convert the parts of unreadable boxes that lie in the core to level-0 boxes."""
    parts = (core.intersect(box) for box in failed)
    return tuple(job.geometry.grid.box_px0(part) for part in parts if part.area)


def _predict(job: SlideJob, block: Block, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], str]:
    from wsipsm.models.predict import predict_tiled

    predictor = opened_predictor(job.weights, job.card.model_dump_json(), job.inference, job.threads)
    return predict_tiled(
        predictor, rgb, job.geometry.margin_px, job.geometry.even_tile_px(block.core)
    ), predictor.backend


def find_nuclei(
    job: SlideJob, block: Block, rgb: NDArray[np.uint8], maps: NDArray[np.float32], failed: list[Box], steps: Steps
) -> tuple[pa.Table, int]:
    """Decode, trace and measure the nuclei that a block owns, and those near its core, which the seam step compares.

    Parameters
    ----------
    job, block
        Job of the slide, and the block of it.
    rgb
        Pixels of the decoded box and the network's margin, shape (height, width, 3).
    maps
        Scores of the decoded box, shape (outputs, height, width), float32.
    failed
        Working-pixel boxes that could not be read.
    steps
        Times decoding, tracing and measuring.

    Returns
    -------
    Table of ``shard_schema()``, sorted by centroid, and the number of instances in the core that were left out as too
    large.
    """
    box, card = job.geometry.decoded_box(block.core), job.card
    with steps.timed("decode"):
        maps = _without_unreadable(job, maps, box, failed)
        decoded = decode(maps, card.outputs, card.decode, card.mpp)
        labels = _drop_cut(job, decoded.labels, box, failed)
    with steps.timed("trace"):
        outlines = trace_outlines(labels, (box.x, box.y), job.geometry.grid.scale, job.geometry.grid.origin_px0)
    with steps.timed("measure"):
        centroids = shapely.get_coordinates(shapely.centroid(outlines.polygons)).reshape(-1, 2)
        chosen = np.flatnonzero(_depth_px(job, block.core, centroids) >= -job.geometry.strip_px)
        # Bytes of a shard must not depend on how instances were numbered.
        chosen = chosen[np.lexsort((centroids[chosen, 0], centroids[chosen, 1]))]
        renumber = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int32)
        renumber[outlines.labels[chosen]] = np.arange(1, len(chosen) + 1)
        polygons = outlines.polygons[chosen]
        table = _measured_table(job, renumber[labels], polygons, _crop(rgb, job.geometry.margin_px), maps)
        table = _with_seam_columns(job, block.core, table, polygons)
    n_too_large = int(np.count_nonzero(_inside(block.core, np.add(decoded.too_large_xy_px, [box.x, box.y]))))
    return table, n_too_large


def _crop(rgb: NDArray[np.uint8], margin_px: int) -> NDArray[np.uint8]:
    return rgb[margin_px : rgb.shape[0] - margin_px, margin_px : rgb.shape[1] - margin_px]


def _without_unreadable(job: SlideJob, maps: NDArray[np.float32], box: Box, failed: list[Box]) -> NDArray[np.float32]:
    """Set the scores to 0 outside the slide and where no pixel was read, since no nucleus may be found there."""
    if job.geometry.slide_box.intersect(box) == box and not failed:
        return maps
    masked = np.zeros_like(maps)
    on_slide = slices_of(job.geometry.slide_box, box)
    masked[(slice(None), *on_slide)] = maps[(slice(None), *on_slide)]
    for lost in failed:
        masked[(slice(None), *slices_of(lost, box))] = 0
    return masked


def _drop_cut(job: SlideJob, labels: NDArray[np.int32], box: Box, failed: list[Box]) -> NDArray[np.int32]:
    """Drop instances that the decoded box or an unreadable box may have cut; those at the slide's own edge stay."""
    slide = job.geometry.slide_box
    touching = [
        labels[:, :1] if box.x > slide.x else labels[:0],
        labels[:1] if box.y > slide.y else labels[:0],
        labels[:, -1:] if box.right < slide.right else labels[:0],
        labels[-1:] if box.bottom < slide.bottom else labels[:0],
        *(labels[slices_of(lost.expand(1), box)] for lost in failed),
    ]
    cut = np.zeros(int(labels.max(initial=0)) + 1, dtype=bool)
    cut[np.concatenate([part.ravel() for part in touching])] = True
    return np.where(cut, 0, np.arange(len(cut), dtype=np.int32))[labels] if cut[1:].any() else labels


def _inside(core: Box, xy_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    x, y = xy_px[:, 0], xy_px[:, 1]
    return (x >= core.x) & (x < core.right) & (y >= core.y) & (y < core.bottom)


def _working(job: SlideJob, xy_px0: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert level-0 points to working pixels."""
    working: NDArray[np.float64] = (xy_px0 - job.geometry.grid.origin_px0) / job.geometry.grid.scale
    return working


def _depth_px(job: SlideJob, core: Box, xy_px0: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the distance of level-0 points from the core's edge, working pixels; it is negative outside the core."""
    x, y = _working(job, xy_px0).T
    depth: NDArray[np.float64] = np.min([x - core.x, core.right - x, y - core.y, core.bottom - y], axis=0)
    return depth


def _measured_table(
    job: SlideJob,
    labels: NDArray[np.int32],
    polygons: NDArray[np.object_],
    rgb: NDArray[np.uint8],
    maps: NDArray[np.float32],
) -> pa.Table:
    is_ihc = job.profile.stain == Stain.IHC
    # Stains are separated inside nuclei alone, since most pixels belong to none.
    inside = np.flatnonzero(labels > 0)
    rows, columns = np.divmod(inside, labels.shape[1])
    hematoxylin, counterstain = separate(rgb[rows, columns][None], job.profile)
    scores = np.stack([plane.ravel()[inside][None] for plane in maps])
    owners, dab = labels.ravel()[inside][None], counterstain if is_ihc else None
    measured = measure_nuclei(owners, hematoxylin, dab, scores, job.card.outputs)
    return build_table(
        polygons,
        measured,
        mpp_px0=job.geometry.grid.slide_mpp,
        fingerprint=job.fingerprint,
        dab_cut_od=job.profile.dab_cut_od if is_ihc else None,
    )


def _with_seam_columns(job: SlideJob, core: Box, table: pa.Table, polygons: NDArray[np.object_]) -> pa.Table:
    """Add the columns of the seam step: whether a nucleus is owned or at a seam, and how deep in the core it lies."""
    centroids = centroids_px0(table)
    owned = _inside(core, _working(job, centroids))
    # Other blocks decode only this far into the core, so their nuclei cannot overlap one that lies deeper.
    left, top, right, bottom = _working(job, shapely.bounds(polygons).reshape(-1, 2)).reshape(-1, 4).T
    margin = job.geometry.context_px
    deep = (left >= core.x + margin) & (top >= core.y + margin)
    deep &= (right <= core.right - margin) & (bottom <= core.bottom - margin)
    seam = ~owned | ~deep
    columns = (pa.array(owned), pa.array(seam), pa.array(_depth_px(job, core, centroids)))
    for name, values in zip((OWNED, SEAM, BORDER_PX), columns, strict=True):
        table = table.append_column(shard_schema().field(name), values)
    return table

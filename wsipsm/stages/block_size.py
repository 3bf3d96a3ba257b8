"""The choice of the size of a slide's blocks, where the user has given none.

Around each block the network sees pixels that it also sees for the neighbouring blocks. Large blocks have fewer such
pixels. Small blocks need less memory, and keep all workers busy on a small slide. Nuclei do not depend on the size.
"""

from __future__ import annotations

from collections.abc import Sequence

from wsipsm.config import RunOptions
from wsipsm.executors.budget import Budget, available_bytes, project_budget
from wsipsm.executors.task import granted_cpus
from wsipsm.geometry import Box
from wsipsm.region import Region
from wsipsm.rundir import RunDir
from wsipsm.slide.base import SlideInfo
from wsipsm.stages.block import SlideJob
from wsipsm.tiling import LARGE_SIDES, USUAL_SIDES, BlockSides

_BLOCKS_A_WORKER = 8
"""The fewest large blocks per worker, where there are several: during the last block the other workers wait."""
_SPARE = 1.25
"""Memory that must be free, as a multiple of what large blocks need, since less may be free by the time they run."""


def wanted_sides(options: RunOptions) -> tuple[BlockSides, ...]:
    """List the sizes of blocks that a run may choose from, the preferred one first.

    The memory of the machines of a running scheduler is not known here, so their blocks are of usual size.
    """
    if options.block_px is None and options.tile_px is None and options.scheduler is None:
        return LARGE_SIDES, USUAL_SIDES
    return (BlockSides(options.block_px or USUAL_SIDES.block_px, options.tile_px or USUAL_SIDES.tile_px),)


def choose_job(
    jobs: Sequence[SlideJob], options: RunOptions, info: SlideInfo, region: Region, run_dir: RunDir
) -> SlideJob:
    """Choose among jobs that differ in the size of their blocks alone.

    Parameters
    ----------
    jobs
        The possible jobs, in the order of :func:`wanted_sides`, with their keys.
    options, info, region
        Options of the run, facts about the slide, and the region that is searched.
    run_dir
        Folder of the results. A run that was stopped continues with blocks of the size with which it began, whatever
        memory is free now.
    """
    for job in jobs:
        if run_dir.has_shards(job.key):
            return job
    return next((job for job in jobs[:-1] if _is_worth_it(job, options, info, region)), jobs[-1])


def job_budget(job: SlideJob, info: SlideInfo, area_px: int) -> Budget:
    """Project memory and disk of a job whose blocks cover so many working pixels."""
    geometry, block_px = job.geometry, job.geometry.block_px
    tile_px = geometry.even_tile_px(Box(0, 0, block_px, block_px))
    area_mm2 = area_px * geometry.grid.mpp**2 * 1e-6
    whole_px = info.size.area if info.reader == "image" else 0
    return project_budget(block_px, geometry.halo_px, tile_px, geometry.margin_px, area_mm2, whole_px)


def _is_worth_it(job: SlideJob, options: RunOptions, info: SlideInfo, region: Region) -> bool:
    """Find out whether blocks of this size keep all workers busy and leave memory free."""
    n_workers = granted_cpus() if options.workers is None else options.workers
    if n_workers > 1 and sum(1 for _ in job.geometry.blocks_in(region)) < _BLOCKS_A_WORKER * n_workers:
        return False
    return job_budget(job, info, 0).total_bytes(n_workers) * _SPARE <= available_bytes()

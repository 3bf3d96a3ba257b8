"""Memory and disk that a run will need, computed before the first pixel is read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from wsipsm.errors import BudgetError

# Fitted to peak memory measured for blocks of 1024 to 3008 px and tiles of 432 to 2304 px (OpenVINO, float32, three
# outputs), and rounded up by about a tenth.
_PROCESS_BYTES = 660 * 2**20
"""Python with numpy, OpenCV, shapely, pyarrow, OpenVINO and torch, a loaded network, and one read of a slide."""
_CLIENT_BYTES = 720 * 2**20
"""Memory of this process beside its workers: thumbnail, scheduler, one shard at a time, and the network, with which
planning checks the pixel size (640 MiB measured 2026-11-29, 365 before that check)."""
_SERIAL_BYTES = 150 * 2**20
"""Memory that this process needs besides a worker's when it has no workers and does their work itself."""
_BYTES_PER_BLOCK_PX = 65
"""Bytes per pixel of a block: pixels read, score maps, optical densities, label images and their intermediates."""
_BYTES_PER_TILE_PX = 340
"""Bytes per pixel of a tile and its margin: the network's feature maps that exist at the same time."""
_BYTES_PER_DECODED_PX = 26
"""Bytes per pixel of a plain image while it is decoded: 14 were measured of RGB and 24 with alpha (2026-11-29, PNG and
JPEG of 49 Mpx)."""
_BYTES_PER_KEPT_PX = 3
"""Bytes per pixel of a plain image that is kept after decoding."""
_NUCLEI_PER_MM2 = 10_000
"""Nuclei per mm² of a dense slide."""
_BYTES_PER_NUCLEUS = 900
"""Bytes of a nucleus in a shard, in cells.parquet and in cells.geojson.gz together."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The memory and disk that a run will need at most."""

    worker_bytes: int
    """Memory of one worker process, at its peak."""
    client_bytes: int
    """Memory of this process beside its workers."""
    disk_bytes: int
    """Disk space for shards and results."""

    def total_bytes(self, n_workers: int) -> int:
        """Sum the memory of all processes; with 0 workers this process does their work."""
        return n_workers * self.worker_bytes + self.client_bytes if n_workers else self.worker_bytes + _SERIAL_BYTES


def project_budget(
    block_px: int, halo_px: int, tile_px: int, margin_px: int, area_mm2: float, whole_px: int = 0
) -> Budget:
    """Project memory and disk of a run.

    Parameters
    ----------
    block_px, halo_px
        Side of a core and margin read around it, working pixels.
    tile_px, margin_px
        Side of a tile and margin given to the network around it, working pixels.
    area_mm2
        Area that the planned blocks cover.
    whole_px
        Pixels of an image that every process decodes whole; 0 for a slide that is read in parts.
    """
    block = (block_px + 2 * halo_px) ** 2 * _BYTES_PER_BLOCK_PX
    tile = (min(tile_px, block_px + 2 * (halo_px - margin_px)) + 2 * margin_px) ** 2 * _BYTES_PER_TILE_PX
    decoding = whole_px * _BYTES_PER_DECODED_PX
    return Budget(
        worker_bytes=_PROCESS_BYTES + max(block + tile + whole_px * _BYTES_PER_KEPT_PX, decoding),
        client_bytes=_CLIENT_BYTES + decoding,
        disk_bytes=round(area_mm2 * _NUCLEI_PER_MM2 * _BYTES_PER_NUCLEUS) + 2**20,
    )


def available_bytes() -> int:
    """Find the memory that is still free on the machine, or in the cgroup if that has a lower limit."""
    free = int(psutil.virtual_memory().available)
    limit, used = _cgroup_bytes()
    return free if limit is None else max(0, min(free, limit - used))


def _cgroup_bytes(root: Path = Path("/sys/fs/cgroup")) -> tuple[int | None, int]:
    """Read the memory limit of the cgroup, None without one, and the bytes in use that cannot be freed."""
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
        # The cgroup counts the page cache as used, yet the system frees it on demand.
        statistics = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None, 0
    return (int(limit), max(0, used - int(statistics.get("file", 0)))) if limit.isdigit() else (None, 0)


def workers_that_fit(budget: Budget, n_wanted: int, free_bytes: int) -> int:
    """Count how many of the wanted workers fit into memory, at least 1."""
    return max(1, min(n_wanted, (free_bytes - budget.client_bytes) // budget.worker_bytes))


def check_budget(budget: Budget, n_workers: int, free_bytes: int, folder: Path) -> None:
    """Refuse a run that would not fit.

    Parameters
    ----------
    budget
        Budget that :func:`project_budget` returned.
    n_workers
        Worker processes on this machine; 0 for work in this process.
    free_bytes
        Free memory that :func:`available_bytes` returned.
    folder
        Existing folder that results are written to.

    Raises
    ------
    BudgetError
        When memory or disk do not suffice; the message gives the numbers and what would help.
    """
    needed = budget.total_bytes(n_workers)
    if needed > free_bytes:
        raise BudgetError(
            f"memory: {max(1, n_workers)} worker(s) of {_mib(budget.worker_bytes)} need {_mib(needed)} in all; "
            f"{_mib(free_bytes)} are free. Use fewer --workers "
            f"({workers_that_fit(budget, max(1, n_workers), free_bytes)}, or 0 to work in this process), "
            "a smaller --block-px or a smaller --tile-px.",
            value=free_bytes,
            needed=needed,
            option="--workers",
        )
    free_disk = shutil.disk_usage(folder).free
    if budget.disk_bytes > free_disk:
        raise BudgetError(
            f"{folder}: results may take {_mib(budget.disk_bytes)}; {_mib(free_disk)} are free on that disk. "
            "Free some, or choose another disk with --out.",
            path=folder,
            value=free_disk,
            needed=budget.disk_bytes,
            option="--out",
        )


def _mib(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"

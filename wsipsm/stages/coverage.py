"""How much of a region was read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsipsm.geometry import Box
from wsipsm.region import Region


def read_coverage(region: Region, lost_px0: Sequence[Box]) -> float:
    """Share of the region whose pixels were read, 0..1.

    Parameters
    ----------
    region
        Where nuclei are scored.
    lost_px0
        Level-0 boxes that could not be read, without overlap.
    """
    total = region.area_px0()
    if not lost_px0 or total <= 0:
        return 1.0
    lost = sum(_area_in_region(region, box) for box in lost_px0)
    return float(np.clip(1.0 - lost / total, 0.0, 1.0))


def _area_in_region(region: Region, box: Box, n_side: int = 64) -> float:
    """Area of the region inside a box, level-0 px2, from a grid of points."""
    x = box.x + (np.arange(n_side) + 0.5) * box.width / n_side
    y = box.y + (np.arange(n_side) + 0.5) * box.height / n_side
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return float(np.mean(region.contains(points))) * box.area

"""The share of a region that was read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsipsm.geometry import Box
from wsipsm.region import Region


def read_coverage(region: Region, lost_px0: Sequence[Box]) -> float:
    """Compute the share of the region whose pixels were read, 0..1.

    Parameters
    ----------
    region
        Region in which nuclei are scored.
    lost_px0
        Level-0 boxes that could not be read; they do not overlap.
    """
    total = region.area_px0()
    if not lost_px0 or total <= 0:
        return 1.0
    boxes = np.array([(box.x, box.y, box.right, box.bottom) for box in lost_px0], dtype=np.float64)
    lost = float(region.areas_in(boxes).sum())
    return float(np.clip(1.0 - lost / total, 0.0, 1.0))

"""Seeds against plain loops, with plateaus, ties and peaks at the border of the array."""

from __future__ import annotations

import numpy as np
import pytest

from wsipsm.instances.decode import _KERNEL_SUM, _LEVELS, _find_seeds
from wsipsm.models.card import DecodeSettings


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(16))
def test_seeds_by_loops(radius: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = ((9, 13), (14, 6), (1, 30), (2, 25))[seed % 4]
    steps = _LEVELS * _KERNEL_SUM**2 // 8
    distance = (random.integers(0, (3, 9)[seed // 4 % 2], shape) * steps).astype(np.float32)
    foreground = (random.random(shape) < 0.85).astype(np.uint8)
    settings = DecodeSettings(min_area_um2=4.0, max_area_um2=250.0, peak_radius_px=radius, peak_min=0.25)
    pixels = list(np.ndindex(*shape))

    def is_near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        """Within the radius, or side by side, corners included."""
        down, right = abs(one[0] - other[0]), abs(one[1] - other[1])
        return down**2 + right**2 <= radius**2 or max(down, right) <= 1

    peaks = [
        one
        for one in pixels
        if foreground[one]
        and distance[one] >= 2 * steps
        and all(distance[one] >= distance[other] for other in pixels if is_near(one, other))
    ]
    group = {one: one for one in peaks}
    for _ in peaks:  # the first of all that are linked by steps within the radius stands for them
        for one in peaks:
            for other in peaks:
                if (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 <= radius**2:
                    group[one] = min(group[one], group[other])
    rows, columns = _find_seeds(foreground, distance, settings)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == sorted(set(group.values()))

"""What of a region was read: its area less that of lost boxes, as a share."""

from __future__ import annotations

import pytest
import shapely

from wsipsm.geometry import Box
from wsipsm.region import PolygonRegion
from wsipsm.region.coverage import read_coverage

REGION = PolygonRegion(shapely.box(100, 100, 300, 200), "ROI")


@pytest.mark.parametrize(
    ("lost", "share"),
    [
        ([], 1.0),
        ([Box(0, 0, 100, 100)], 1.0),
        ([Box(100, 100, 50, 100)], 0.75),
        ([Box(100, 100, 50, 100), Box(290, 0, 900, 900)], 0.7),
        ([Box(0, 0, 150, 110), Box(0, 110, 150, 40)], 0.875),
        ([Box(0, 0, 900, 900)], 0.0),
        ([Box(0, 0, 900, 900), Box(0, 0, 900, 900)], 0.0),
    ],
)
def test_the_share_that_was_read(lost: list[Box], share: float) -> None:
    assert read_coverage(REGION, lost) == pytest.approx(share)


@pytest.mark.parametrize(("ground", "share"), [(shapely.MultiPolygon(), 1.0), (shapely.box(100, 100, 100.5, 101), 0.0)])
def test_of_no_ground_nothing_is_missing(ground: shapely.Polygon, share: float) -> None:
    region = PolygonRegion(REGION.shape, "ROI", ground=ground)
    assert read_coverage(region, [Box(0, 0, 900, 900)]) == share

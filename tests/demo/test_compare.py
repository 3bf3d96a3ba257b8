from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely import affinity

from wsipsm.demo.compare import compare
from wsipsm.demo.draw import DrawnTruth, draw_array
from wsipsm.errors import UsageError
from wsipsm.geometry import Size
from wsipsm.instances.table import build_table
from wsipsm.keys import Column, NucleusClass, Stain


@pytest.fixture(scope="module")
def truth() -> DrawnTruth:
    return draw_array(seed=1, size=(700, 600), n_nuclei=60)[1]


def as_table(polygons: list[shapely.Polygon], positive: np.ndarray | None) -> pa.Table:
    n = len(polygons)
    measured = {Column.PROBABILITY: np.ones(n, np.float32), Column.HEMATOXYLIN_OD: np.ones(n, np.float32)}
    if positive is not None:
        measured[Column.DAB_OD] = positive.astype(np.float32)
    return build_table(
        np.array(polygons, dtype=object),
        measured,
        mpp_px0=0.25,
        fingerprint="x",
        dab_cut_od=None if positive is None else 0.5,
    )


def is_positive(truth: DrawnTruth) -> np.ndarray:
    return np.asarray(truth.classes == NucleusClass.POSITIVE.value)


def test_the_truth_itself_agrees_wholly(truth: DrawnTruth, tmp_path: Path) -> None:
    table = as_table(list(truth.polygons), is_positive(truth))
    result = compare(truth, table)
    assert (result.recall, result.precision, result.class_agreement) == (1.0, 1.0, 1.0)
    assert result.median_iou == pytest.approx(1)
    assert result.index_measured == result.index_drawn == truth.labelling_index
    pq.write_table(table, tmp_path / "cells.parquet")
    assert compare(truth, tmp_path / "cells.parquet") == result
    assert result.to_dict()["index_error"] == 0
    assert ("nuclei", "60", "60") in result.rows()


def test_missed_extra_and_misjudged_nuclei_are_counted(truth: DrawnTruth) -> None:
    found = list(truth.polygons)[6:] + [shapely.box(x, 2, x + 10, 12) for x in (5, 30, 60)]
    positive = np.append(is_positive(truth)[6:], [False] * 3)
    positive[0] = not positive[0]
    result = compare(truth, as_table(found, positive))
    assert (result.n_drawn, result.n_found, result.n_matched) == (60, 57, 54)
    assert result.n_same_class == 53
    assert result.recall == pytest.approx(54 / 60)
    assert result.precision == pytest.approx(54 / 57)
    assert result.index_measured == pytest.approx(positive.mean())


def test_a_nucleus_is_matched_once_and_not_from_afar(truth: DrawnTruth) -> None:
    twice = [polygon for polygon in truth.polygons for _ in range(2)]
    assert compare(truth, as_table(twice, None)).n_matched == 60
    lone = DrawnTruth(
        Size(200, 200), 0.25, Stain.IHC, 0, np.array([shapely.Point(100, 100).buffer(20)]), np.array(["Negative"])
    )
    for shift, matched in ((18, 1), (22, 0)):
        moved = affinity.translate(lone.polygons[0], shift, 0)
        assert compare(lone, as_table([moved], np.array([False]))).n_matched == matched


def test_neighbours_are_paired_so_that_most_find_a_partner() -> None:
    """The nearest pair first would leave one of two drawn nuclei alone."""
    drawn = np.array([shapely.Point(x, 50).buffer(20) for x in (50, 76)])
    truth = DrawnTruth(Size(200, 100), 0.25, Stain.IHC, 0, drawn, np.array(["Negative"] * 2))
    found = [shapely.Point(x, 50).buffer(5) for x in (64, 94)]
    assert compare(truth, as_table(found, np.array([False, False]))).n_matched == 2


def test_nothing_found_and_nothing_drawn(truth: DrawnTruth) -> None:
    nothing = as_table([], np.zeros(0, bool))
    missed = compare(truth, nothing)
    assert (missed.recall, missed.precision, missed.median_iou, missed.index_measured) == (0.0, 1.0, None, None)
    _, empty = draw_array(size=(100, 100), n_nuclei=0)
    assert compare(empty, nothing).recall == 1.0
    assert len(compare(empty, nothing).rows()) == 6


def test_a_file_that_holds_no_nuclei(tmp_path: Path, truth: DrawnTruth) -> None:
    other = tmp_path / "cells.parquet"
    other.write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match=r"cells\.parquet"):
        compare(truth, other)
    pq.write_table(pa.table({"a": [1]}), other)
    with pytest.raises(UsageError, match=r"cells\.parquet: cannot be read"):
        compare(truth, other)

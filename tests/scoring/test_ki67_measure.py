"""Means over nuclei agree with a loop; order, gaps and absent maps are as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from wsipsm.keys import Column
from wsipsm.scoring.measure import measure_nuclei


def drawn(seed: int, n_labels: int = 6):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    labels = (rng.integers(0, n_labels + 1, (17, 23)) * (rng.random((17, 23)) < 0.5)).astype(np.int32)
    fields = rng.random((4, 17, 23)).astype(np.float32)
    return labels, fields[0], fields[1], fields[2:]


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_means_agree_with_scipy(seed: int, n_labels: int) -> None:
    labels, hematoxylin, dab, maps = drawn(seed, n_labels)
    present = np.unique(labels[labels > 0])
    measured = measure_nuclei(labels, hematoxylin, dab, maps, ("nucleus", "positive"))
    expected = {
        Column.HEMATOXYLIN_OD: hematoxylin,
        Column.DAB_OD: dab,
        Column.PROBABILITY: maps[0],
        Column.POSITIVE_PROBABILITY: maps[1],
    }
    assert set(measured) == set(expected)
    for column, field in expected.items():
        assert measured[column].dtype == np.float64
        np.testing.assert_allclose(measured[column], ndimage.mean(field.astype(float), labels, present), rtol=1e-6)


def test_labels_choose_the_order_and_absent_ones_are_nan() -> None:
    labels, hematoxylin, dab, maps = drawn(0)
    labels[labels == 3] = 0
    default = measure_nuclei(labels, hematoxylin, dab, maps, ("nucleus", "positive"))
    wanted = np.array([5, 3, 1, 99])
    chosen = measure_nuclei(labels, hematoxylin, dab, maps, ("nucleus", "positive"), labels=wanted)
    present = np.unique(labels[labels > 0]).tolist()
    for column, values in chosen.items():
        np.testing.assert_array_equal(values[[0, 2]], default[column][[present.index(5), present.index(1)]])
        assert np.isnan(values[[1, 3]]).all()


def test_the_background_is_no_nucleus() -> None:
    labels, hematoxylin, dab, maps = drawn(0)
    chosen = measure_nuclei(labels, hematoxylin, dab, maps, ("nucleus", "positive"), labels=np.array([0, 1, -1]))
    for values in chosen.values():
        assert np.isnan(values).tolist() == [True, False, True]


def test_he_has_no_dab_and_unknown_maps_are_left_out() -> None:
    labels, hematoxylin, _, maps = drawn(1)
    assert set(measure_nuclei(labels, hematoxylin, None, maps, ("distance", "nucleus"))) == {
        Column.HEMATOXYLIN_OD,
        Column.PROBABILITY,
    }


def test_empty_image_has_empty_columns() -> None:
    _, hematoxylin, dab, maps = drawn(2)
    measured = measure_nuclei(np.zeros((17, 23), np.int32), hematoxylin, dab, maps, ("nucleus", "distance"))
    assert all(values.shape == (0,) for values in measured.values())


def test_a_mean_does_not_depend_on_where_the_nucleus_lies() -> None:
    labels, hematoxylin, dab, maps = drawn(3)
    frame = ((40, 3), (7, 11))
    moved = measure_nuclei(
        np.pad(labels, frame),
        np.pad(hematoxylin, frame),
        np.pad(dab, frame),
        np.pad(maps, ((0, 0), *frame)),
        ("nucleus", "positive"),
    )
    for column, values in measure_nuclei(labels, hematoxylin, dab, maps, ("nucleus", "positive")).items():
        np.testing.assert_array_equal(values, moved[column])


def test_maps_and_names_must_agree() -> None:
    labels, hematoxylin, dab, maps = drawn(4)
    with pytest.raises(ValueError, match="zip"):
        measure_nuclei(labels, hematoxylin, dab, maps, ("nucleus",))

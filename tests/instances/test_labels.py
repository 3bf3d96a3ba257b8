"""Label images: windows of instances, and those that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wsipsm.instances.labels import grow, keep_labels, label_windows, least_of_linked

images = arrays(np.int32, (7, 9), elements=st.integers(0, 6))


@given(images)
def test_windows_are_the_smallest(labels: np.ndarray) -> None:
    found = dict(label_windows(labels))
    assert list(found) == [label for label in np.unique(labels) if label]
    for label, (rows, columns) in found.items():
        y, x = np.nonzero(labels == label)
        assert (rows.start, rows.stop, columns.start, columns.stop) == (y.min(), y.max() + 1, x.min(), x.max() + 1)
        assert labels[grow((rows, columns), 2)].shape == (
            min(rows.stop + 2, 7) - max(0, rows.start - 2),
            min(columns.stop + 2, 9) - max(0, columns.start - 2),
        )


@given(images, arrays(np.bool_, 7))
def test_kept_labels_are_numbered_in_their_order(labels: np.ndarray, keep: np.ndarray) -> None:
    before = keep.copy()
    kept = keep_labels(labels, keep)
    wanted = [label for label in range(1, 7) if keep[label]]
    for number, label in enumerate(wanted, start=1):
        assert np.array_equal(kept == number, labels == label)
    assert np.array_equal(kept > 0, np.isin(labels, wanted))
    assert np.array_equal(keep, before)


@pytest.mark.parametrize("n_links", [0, 1, 60, 150, 400])
def test_least_of_linked_are_the_least_of_connected_components(n_links: int) -> None:
    one, other = np.random.default_rng(n_links).integers(0, 200, (2, n_links))
    links = coo_array((np.ones(n_links, bool), (one, other)), shape=(200, 200))
    _, group = connected_components(links, directed=False)
    _, least = np.unique(group, return_index=True)
    assert least_of_linked(200, one, other).tolist() == least[group].tolist()


def test_least_of_linked_follows_a_long_chain() -> None:
    ends = np.random.default_rng(0).permutation(1000)
    assert set(least_of_linked(1001, np.append(ends[:-1], 1000), np.append(ends[1:], 1000))[ends].tolist()) == {0}

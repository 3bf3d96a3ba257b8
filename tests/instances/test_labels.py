"""Label images: windows of instances, and those that are kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsipsm.instances.labels import grow, keep_labels, label_windows

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

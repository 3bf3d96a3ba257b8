"""Outlines of a table as flat arrays, because making a million polygon objects takes longer than writing them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_HEAD_BYTES = 13
"""Bytes before the points of a WKB polygon with one ring: byte order, kind, number of rings, number of points."""
_ONE_RING = np.frombuffer(b"\x01\x03\x00\x00\x00\x01\x00\x00\x00", np.uint8)
"""Start of a WKB polygon: little-endian byte order, the kind polygon, one ring."""
_POINT_BYTES = 16
"""Bytes of a point in WKB: two float64."""


@dataclass(frozen=True, slots=True)
class Rings:
    """Closed rings of n nuclei, one after the other."""

    xy: NDArray[np.float64]
    """Points of all rings, shape (n_points, 2); the last point of a ring is its first one again."""
    starts: NDArray[np.int64]
    """Index of the first point of each ring and, at the end, the number of all points, shape (n + 1,)."""

    def of(self, points: NDArray[np.integer]) -> NDArray[np.intp]:
        """Return the index of the ring to which each of some points belongs, given the indices of the points."""
        return np.searchsorted(self.starts, points, side="right") - 1


def read_rings(wkb: pa.Array) -> Rings | None:
    """Read outlines of one ring each, as `instances.table` writes them.

    Parameters
    ----------
    wkb
        Polygons as WKB, binary.

    Returns
    -------
    Their rings; None where an outline is anything else, such as a polygon with holes or in another byte order.
    """
    n = len(wkb)
    lengths = pc.binary_length(wkb).to_numpy(zero_copy_only=False)
    if wkb.null_count or (lengths < _HEAD_BYTES).any() or ((lengths - _HEAD_BYTES) % _POINT_BYTES).any():
        return None
    heads = _content(pc.binary_slice(wkb, 0, len(_ONE_RING))).reshape(n, len(_ONE_RING))
    if (heads != _ONE_RING).any():
        return None
    starts = np.concatenate([[0], np.cumsum((lengths - _HEAD_BYTES) // _POINT_BYTES)])
    xy = _content(pc.binary_slice(wkb, _HEAD_BYTES, int(lengths.max(initial=_HEAD_BYTES)))).view("<f8").reshape(-1, 2)
    return Rings(xy, starts)


def _content(array: pa.Array) -> NDArray[np.uint8]:
    """Return the bytes of all entries of a binary array that is not a slice of another."""
    _, offsets, content = array.buffers()
    ends = np.frombuffer(offsets, np.int32, len(array) + 1)
    return np.frombuffer(content, np.uint8)[ends[0] : ends[-1]] if content is not None else np.empty(0, np.uint8)

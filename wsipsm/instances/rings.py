"""Outlines of a table as flat arrays: a million polygon objects take longer to make than to write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_HEAD_BYTES = 13
"""Bytes before the points of a WKB polygon with one ring: byte order, kind, number of rings, number of points."""
_ONE_RING = np.frombuffer(b"\x01\x03\x00\x00\x00\x01\x00\x00\x00", np.uint8)
"""Little-endian, a polygon, one ring."""
_POINT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Rings:
    """Closed rings of n nuclei, one after the other."""

    xy: NDArray[np.float64]
    """Shape (n_points, 2), the first point of a ring again as its last."""
    starts: NDArray[np.int64]
    """First point of each ring, and the number of all points at the end, shape (n + 1,)."""

    def of(self, points: NDArray[np.integer]) -> NDArray[np.intp]:
        """Return the ring of each of some points."""
        return np.searchsorted(self.starts, points, side="right") - 1


def read_rings(wkb: pa.Array) -> Rings | None:
    """Read outlines of one ring each, as `instances.table` writes them.

    Parameters
    ----------
    wkb
        Polygons as WKB, binary.

    Returns
    -------
    Their rings; None where an outline is something else: a polygon with holes or in another byte order.
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
    """Give the bytes of all entries of a binary array that no other array shares."""
    _, offsets, content = array.buffers()
    ends = np.frombuffer(offsets, np.int32, len(array) + 1)
    return np.frombuffer(content, np.uint8)[ends[0] : ends[-1]] if content is not None else np.empty(0, np.uint8)

"""The table of nuclei: its columns, their types, and the making of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from wsipsm.instances.trace import outline_metrics
from wsipsm.keys import Column, NucleusClass

OWNED = "owned"
SEAM = "seam"
BORDER_PX = "border_px"
"""Columns that shards have beside those of the table: whether the core holds the centroid; whether a nucleus of another
block may overlap it; and the distance of the centroid from the core's border (negative outside), working pixels."""

_TYPES: dict[Column, pa.DataType] = {
    Column.NUCLEUS_ID: pa.string(),
    Column.CLASS: pa.string(),
    Column.PROBABILITY: pa.float32(),
    Column.POSITIVE_PROBABILITY: pa.float32(),
    Column.CENTROID_X_PX0: pa.float64(),
    Column.CENTROID_Y_PX0: pa.float64(),
    Column.AREA_UM2: pa.float32(),
    Column.PERIMETER_UM: pa.float32(),
    Column.CIRCULARITY: pa.float32(),
    Column.SOLIDITY: pa.float32(),
    Column.HEMATOXYLIN_OD: pa.float32(),
    Column.DAB_OD: pa.float32(),
    Column.GEOMETRY: pa.binary(),
}
_NULLABLE = frozenset({Column.POSITIVE_PROBABILITY, Column.DAB_OD})


def nuclei_schema() -> pa.Schema:
    """List the columns of cells.parquet in file order."""
    return pa.schema([pa.field(name.value, kind, nullable=name in _NULLABLE) for name, kind in _TYPES.items()])


def shard_schema() -> pa.Schema:
    """List the columns of a shard: those of the table, and those that the seam step needs."""
    extra = [
        pa.field(OWNED, pa.bool_(), nullable=False),
        pa.field(SEAM, pa.bool_(), nullable=False),
        pa.field(BORDER_PX, pa.float64(), nullable=False),
    ]
    return pa.schema([*nuclei_schema(), *extra])


def nucleus_ids(wkb: NDArray[np.object_], fingerprint: str) -> list[str]:
    """Make the identifiers of nuclei from slide and outline, so that they stay the same from run to run.

    Parameters
    ----------
    wkb
        Outlines as WKB bytes, shape (n,).
    fingerprint
        Fingerprint of the slide.

    Returns
    -------
    UUIDs of version 8, whose scheme RFC 9562 leaves to the user: here the first bytes of a SHA-256.
    """
    prefix = hashlib.sha256(fingerprint.encode())
    names = []
    for outline in wkb:
        whole = prefix.copy()
        whole.update(outline)
        raw = bytearray(whole.digest()[:16])
        raw[6] = (raw[6] & 0x0F) | 0x80
        raw[8] = (raw[8] & 0x3F) | 0x80
        digits = raw.hex()
        names.append(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")
    return names


def classify(dab_od: NDArray[np.floating] | None, n: int, dab_cut_od: float | None) -> list[str]:
    """Choose the class of each nucleus by its mean DAB OD; without a cut it is the plain class Nucleus."""
    if dab_od is None or dab_cut_od is None:
        return [NucleusClass.NUCLEUS.value] * n
    # The table holds float32, and scoring from the table must give the same class.
    is_positive = dab_od.astype(np.float32).astype(np.float64) >= dab_cut_od
    classes: list[str] = np.where(is_positive, NucleusClass.POSITIVE.value, NucleusClass.NEGATIVE.value).tolist()
    return classes


def build_table(
    polygons: NDArray[np.object_],
    measured: Mapping[Column, NDArray[np.floating]],
    *,
    mpp_px0: float,
    fingerprint: str,
    dab_cut_od: float | None,
) -> pa.Table:
    """Make the rows of nuclei.

    Parameters
    ----------
    polygons
        Outlines in level-0 pixels, shape (n,).
    measured
        Arrays of shape (n,) by column: probability and hematoxylin OD, and on IHC also DAB OD and, where the network
        gives one, the positive probability.
    mpp_px0
        Level-0 pixel size, um/px.
    fingerprint
        Fingerprint of the slide.
    dab_cut_od
        Mean DAB OD from which a nucleus is positive; None on H&E.

    Returns
    -------
    Table of :func:`nuclei_schema`, in the order of ``polygons``.
    """
    n = len(polygons)
    # Byte order and number of dimensions are fixed, because the identifiers are hashes of these bytes.
    wkb = np.asarray(shapely.to_wkb(polygons, byte_order=1, output_dimension=2), dtype=object)
    centroids = shapely.get_coordinates(shapely.centroid(polygons)).reshape(n, 2)
    shape = outline_metrics(polygons, mpp_px0)
    columns: dict[Column, object] = {
        Column.NUCLEUS_ID: nucleus_ids(wkb, fingerprint),
        Column.CLASS: classify(measured.get(Column.DAB_OD), n, dab_cut_od),
        Column.CENTROID_X_PX0: centroids[:, 0],
        Column.CENTROID_Y_PX0: centroids[:, 1],
        Column.AREA_UM2: shape.area_um2,
        Column.PERIMETER_UM: shape.perimeter_um,
        Column.CIRCULARITY: shape.circularity,
        Column.SOLIDITY: shape.solidity,
        Column.GEOMETRY: wkb,
    }
    arrays = []
    for name, kind in _TYPES.items():
        values = columns.get(name, measured.get(name))
        if values is None:
            arrays.append(pa.nulls(n, kind))
        elif isinstance(values, np.ndarray) and values.dtype != object:
            arrays.append(pa.array(values.astype(kind.to_pandas_dtype()), kind))
        else:
            arrays.append(pa.array(values, kind))
    return pa.Table.from_arrays(arrays, schema=nuclei_schema())


def centroids_px0(table: pa.Table) -> NDArray[np.float64]:
    """Return the centroids of a table's nuclei in level-0 pixels, shape (n, 2)."""
    names = (Column.CENTROID_X_PX0, Column.CENTROID_Y_PX0)
    return np.column_stack([table.column(name.value).to_numpy() for name in names])

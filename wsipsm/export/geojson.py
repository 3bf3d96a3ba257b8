"""Nuclei as GeoJSON that QuPath 0.4 and later read, written as a stream.

One Feature stands on each line, so that the file can be read, cut and checked a line at a time. QuPath builds a
tree of a whole file first, about 11 bytes of heap for a byte of text: above some 100,000 nuclei a ``.zip`` of parts
of 10,000 is lighter for it. That form is not written yet; the parts would be this writer's files under one name.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from wsipsm.keys import Column, NucleusClass
from wsipsm.slide.frame import SlideFrame
from wsipsm.text import clean_json

CLASS_COLOURS: dict[str, tuple[int, int, int]] = {
    NucleusClass.POSITIVE.value: (250, 62, 62),
    NucleusClass.NEGATIVE.value: (112, 112, 225),
    NucleusClass.NUCLEUS.value: (60, 190, 90),
}
"""QuPath's own colours for its own classes; a green that stands out from pink and purple for plain nuclei."""

MEASUREMENTS: dict[Column, tuple[str, int]] = {
    Column.PROBABILITY: ("Detection probability", 4),
    Column.POSITIVE_PROBABILITY: ("Positive probability", 4),
    Column.AREA_UM2: ("Area µm^2", 3),
    Column.PERIMETER_UM: ("Length µm", 3),
    Column.CIRCULARITY: ("Circularity", 4),
    Column.SOLIDITY: ("Solidity", 4),
    Column.HEMATOXYLIN_OD: ("Nucleus: Hematoxylin OD mean", 4),
    Column.DAB_OD: ("Nucleus: DAB OD mean", 4),
}
"""Name as QuPath writes it, and decimals kept."""

_DECIMALS = 2
"""QuPath 0.6 snaps to a hundredth of a pixel: finer coordinates would move after validity was checked."""
_MIN_AREA_PX2 = 0.01
_BATCH_ROWS = 16_384
_COMPRESSION = 4
"""Twice as fast as level 6 for a file that is a tenth larger."""


class GeoJsonWriter:
    """Streamed writer of a FeatureCollection of detections.

    The same nuclei give the same bytes. A slide without nuclei gives a collection without features, which QuPath
    reads as 0 objects.

    Parameters
    ----------
    path
        File to write; a suffix ``.gz`` compresses it. The caller sees to it that it only gets its final name whole.
    frame
        Of the slide, with what QuPath shows of it.
    run
        What the file says about its making, under the key ``wsipsm``, which QuPath passes over.

    Raises
    ------
    OSError
        When the file cannot be opened; ``add`` and ``close`` raise it when the disk is full.
    """

    def __init__(self, path: str | Path, frame: SlideFrame, run: dict[str, Any] | None = None) -> None:
        self._frame = frame
        self.n_written = 0
        self.n_repaired = 0
        """Outlines that rounding or the image's edge had made invalid and that were put right."""
        self.n_dropped = 0
        """Outlines of which nothing was left in the image."""
        self._raw = open(path, "wb")  # noqa: SIM115  closed by close()
        # Neither time nor name in the header: the same nuclei give the same bytes.
        self._file = (
            gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=self._raw, mtime=0)
            if Path(path).suffix.lower() == ".gz"
            else self._raw
        )
        about = f'"wsipsm":{json.dumps(clean_json(run), sort_keys=True, allow_nan=False)},' if run else ""
        self._file.write(f'{{"type":"FeatureCollection",{about}"features":['.encode("ascii"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, table: pa.Table) -> None:
        """Write the nuclei of a table.

        Parameters
        ----------
        table
            Columns of ``keys.Column``; geometry as WKB in level-0 pixels.
        """
        for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
            lines = list(self._lines(batch))
            if lines:
                # QuPath 0.4.0 read with the platform's character set, so the only other character is escaped.
                text = b",\n".join(lines).replace("µ".encode(), b"\\u00b5")
                self._file.write((b",\n" if self.n_written else b"\n") + text)
                self.n_written += len(lines)

    def close(self) -> None:
        """Finish the collection and close the file; a second call does nothing."""
        if self._raw.closed:
            return
        try:
            self._file.write(b"\n]}\n")
            if self._file is not self._raw:
                self._file.close()
        finally:
            self._raw.close()

    def _lines(self, batch: pa.RecordBatch) -> Iterable[bytes]:
        polygons, n_repaired = self._fit(shapely.from_wkb(batch.column(Column.GEOMETRY.value).to_numpy(False)))
        self.n_repaired += n_repaired
        kept = np.flatnonzero(~shapely.is_missing(polygons))
        self.n_dropped += len(polygons) - len(kept)
        ids = batch.column(Column.NUCLEUS_ID.value).to_pylist()
        classes = batch.column(Column.CLASS.value).to_pylist()
        columns = list(_measurement_columns(batch))
        for row, coordinates in zip(kept.tolist(), _ring_coordinates(polygons[kept]), strict=True):
            name = classes[row]
            feature = {
                "type": "Feature",
                "id": ids[row],
                "geometry": {"type": "Polygon", "coordinates": coordinates},
                "properties": {
                    "objectType": "detection",
                    "classification": {"name": name, "color": CLASS_COLOURS[name]},
                    "measurements": {label: values[row] for label, values in columns if values[row] is not None},
                },
            }
            yield orjson.dumps(feature, option=orjson.OPT_SERIALIZE_NUMPY)

    def _fit(self, polygons: NDArray[np.object_]) -> tuple[NDArray[np.object_], int]:
        """Polygons in QuPath's frame, rounded and valid; None where nothing is left. And how many were repaired."""
        to_qupath, box = self._frame.to_qupath, self._frame.content_qupath
        frame = shapely.box(box.x, box.y, box.right, box.bottom)
        fitted = np.asarray(shapely.transform(polygons, lambda xy: np.round(to_qupath(xy), _DECIMALS)), dtype=object)
        left, top, right, bottom = shapely.bounds(fitted).T
        # Written so that NaN bounds, of an empty outline, count as outside.
        inside = (left >= box.x) & (top >= box.y) & (right <= box.right) & (bottom <= box.bottom)
        sound = inside & shapely.is_valid(fitted) & (shapely.area(fitted) > _MIN_AREA_PX2)
        sound &= ~_has_repeated_points(fitted)
        for row in np.flatnonzero(~sound):
            fitted[row] = _repaired(fitted[row], frame)
        return fitted, int(np.count_nonzero(~sound & ~shapely.is_missing(fitted)))


def _has_repeated_points(polygons: NDArray[np.object_]) -> NDArray[np.bool_]:
    xy, polygon = shapely.get_coordinates(polygons, return_index=True)
    same = (polygon[1:] == polygon[:-1]) & np.all(xy[1:] == xy[:-1], axis=1)
    return np.bincount(polygon[1:][same], minlength=len(polygons)) > 0


def _repaired(polygon: shapely.Polygon, frame: shapely.Polygon) -> shapely.Polygon | None:
    """Largest valid part inside the frame, on the hundredth grid; None when nothing is left."""
    inside = shapely.intersection(shapely.make_valid(polygon), frame)
    # set_precision rounds and keeps the outcome valid.
    parts = shapely.get_parts(shapely.set_precision(inside, 10.0**-_DECIMALS))
    areas = shapely.area(parts)
    if not len(parts) or areas.max() <= _MIN_AREA_PX2:
        return None
    largest = shapely.remove_repeated_points(parts[int(areas.argmax())])
    rounded = shapely.transform(largest, lambda xy: np.round(xy, _DECIMALS))
    return rounded if shapely.is_valid(rounded) else None


def _measurement_columns(batch: pa.RecordBatch) -> Iterable[tuple[str, list[float | None]]]:
    """Name and values of each measurement, rounded; None where a value is missing or not finite."""
    for column, (label, decimals) in MEASUREMENTS.items():
        if column.value not in batch.schema.names:
            continue
        values = batch.column(column.value).to_numpy(zero_copy_only=False).astype(np.float64)
        known = np.isfinite(values)
        if known.any():
            rounded = np.round(values, decimals).tolist()
            yield label, [value if k else None for value, k in zip(rounded, known.tolist(), strict=True)]


def _ring_coordinates(polygons: NDArray[np.object_]) -> Iterable[list[NDArray[np.float64]]]:
    """Rings of each polygon, shell first, as arrays of shape (n, 2) that orjson writes directly."""
    rings, owner = shapely.get_rings(polygons, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    xy += 0.0  # turns -0.0 into 0.0
    ends = np.cumsum(np.bincount(ring, minlength=len(rings))).tolist()
    arrays = [xy[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    first = np.searchsorted(owner, np.arange(len(polygons) + 1)).tolist()
    return [arrays[start:end] for start, end in pairwise(first)]

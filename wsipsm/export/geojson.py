"""Writes nuclei, as a stream, as GeoJSON that QuPath 0.4 and later read.

Each line holds one Feature, so that the file can be read, cut and checked a line at a time. QuPath parses a whole file
into a tree first, with about 11 bytes of heap for a byte of text. Above some 100,000 nuclei it would need less memory
for a ``.zip`` of parts of 10,000; that form is not written yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import numpy as np
import orjson
import pyarrow as pa
from isal import igzip

from wsipsm.export.geojson_fit import fit_outlines
from wsipsm.export.geojson_text import join_features, number_texts
from wsipsm.export.geojson_written import OtherFeatures, WrittenFeatures
from wsipsm.facts import FileFacts
from wsipsm.keys import Column, NucleusClass
from wsipsm.slide.frame import SlideFrame
from wsipsm.text import clean_json

CLASS_COLOURS: dict[str, tuple[int, int, int]] = {
    NucleusClass.POSITIVE.value: (250, 62, 62),
    NucleusClass.NEGATIVE.value: (112, 112, 225),
    NucleusClass.NUCLEUS.value: (60, 190, 90),
}
"""Colours of classes: QuPath's own for Positive and Negative, and for Nucleus a green that differs from pink and
purple."""

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
"""Measurements that are written: by column, the name that QuPath uses and the number of decimals."""

_BATCH_ROWS = 4096
"""Number of nuclei that are written at once, as some megabytes of text."""
_SAMPLE_ROWS = 64
"""Number of nuclei whose features are made anew, to see that those of a file are of today's form."""
_COMPRESSION = 3
"""Level of igzip, 0 to 3; files are as small as those of gzip's level 4, in a third of the time."""


class GeoJsonWriter:
    """Writer that streams a FeatureCollection of detections.

    The same nuclei give the same bytes. A slide without nuclei gives a collection without features, which QuPath
    reads as 0 objects.

    Parameters
    ----------
    path
        File to write; with the suffix ``.gz`` it is compressed. The caller gives it its final name once it is closed.
    frame
        Frame of the slide, with what QuPath shows of it.
    run
        Facts about the slide and the run, written under the key ``wsipsm``, which QuPath ignores.
    written
        Features of the same nuclei in another file, which need not be made again; ``add`` raises OtherFeatures where
        they are not those that it would write.

    Raises
    ------
    OSError
        When the file cannot be opened; ``add`` and ``close`` raise it when the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        frame: SlideFrame,
        run: FileFacts | None = None,
        written: WrittenFeatures | None = None,
    ) -> None:
        self._frame = frame
        self._written = written
        self.n_written = 0
        self.n_repaired = 0
        """Number of outlines that rounding or the image's edge had made invalid and that were repaired."""
        self.n_dropped = 0
        """Number of outlines that were left out, because they lie outside the image."""
        self._raw = open(path, "wb")  # noqa: SIM115  closed by close()
        # The gzip header gets neither time nor name, so that the same nuclei give the same bytes.
        self._file: BinaryIO = self._raw
        if Path(path).suffix.lower() == ".gz":
            packed = igzip.IGzipFile("", "wb", _COMPRESSION, self._raw, mtime=0)  # type: ignore[no-untyped-call]
            self._file = cast(BinaryIO, packed)
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
            text, n = self._features(batch) if self._written is None else self._taken(batch, self._written)
            self._file.write(text if self.n_written else text[1:])
            self.n_written += n

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

    def _features(self, batch: pa.RecordBatch) -> tuple[memoryview, int]:
        """Make the text of a batch's nuclei, each after a comma; return it with their number."""
        coordinates, n_repaired = fit_outlines(batch.column(Column.GEOMETRY.value), self._frame)
        self.n_repaired += n_repaired
        if coordinates.null_count:
            self.n_dropped += coordinates.null_count
            kept = coordinates.is_valid()
            batch, coordinates = batch.filter(kept), coordinates.filter(kept)
        ids = batch.column(Column.NUCLEUS_ID.value)
        return join_features(ids, coordinates, _classifications(batch), _measurement_texts(batch)), len(ids)

    def _taken(self, batch: pa.RecordBatch, written: WrittenFeatures) -> tuple[memoryview, int]:
        """Give the same text from features that were written before."""
        names, kinds = batch.column(Column.NUCLEUS_ID.value), _classifications(batch)
        features = written.take(names.cast(pa.binary()).to_pylist(), kinds.cast(pa.binary()).to_pylist())
        if not self.n_written:
            made, n = self._features(batch.slice(0, _SAMPLE_ROWS))
            if made != _after_commas(features[:n]):
                raise OtherFeatures("another form")
        return _after_commas(features), len(features)


def _after_commas(features: Sequence[bytes]) -> memoryview:
    """Join features into a text in which a comma stands before each; they may have one behind them."""
    text = b"\n".join([b",", *features])
    return memoryview(text.removesuffix(b","))


def _classifications(batch: pa.RecordBatch) -> pa.Array:
    """Write the class of each nucleus as JSON."""
    classes = batch.column(Column.CLASS.value).dictionary_encode()
    named = [{"name": name, "color": CLASS_COLOURS[name]} for name in classes.dictionary.to_pylist()]
    texts = pa.array([orjson.dumps(value).decode() for value in named], pa.string())
    return texts.take(classes.indices)


def _measurement_texts(batch: pa.RecordBatch) -> Iterable[tuple[str, pa.Array]]:
    """Give name and rounded values of each measurement as JSON; null where a value is missing or not finite."""
    for column, (label, decimals) in MEASUREMENTS.items():
        if column.value in batch.schema.names:
            values = batch.column(column.value).to_numpy(zero_copy_only=False).astype(np.float64)
            if np.isfinite(values).any():
                yield label, number_texts(np.round(values, decimals))

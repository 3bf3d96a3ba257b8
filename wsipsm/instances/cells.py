"""Nuclei of a slide as GeoParquet 1.1: the only writer and the only reader of cells.parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wsipsm.errors import UsageError
from wsipsm.facts import FileFacts
from wsipsm.instances.table import nuclei_schema
from wsipsm.keys import Column
from wsipsm.text import JsonObject, clean_json

ROWS_PER_GROUP = 65_536
"""Nuclei in a row group of cells.parquet: about 20 MB, the most that is in memory beside one shard."""
_ABOUT = b"wsipsm"
_GEO = {
    "version": "1.1.0",
    "primary_column": Column.GEOMETRY.value,
    # Positions on a slide are no places on earth, so there is no reference system.
    "columns": {
        Column.GEOMETRY.value: {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": None, "edges": "planar"}
    },
}


class CellsWriter:
    """Writer of cells.parquet (GeoParquet 1.1), in row groups of bounded size, whatever the shards' sizes.

    Parameters
    ----------
    path
        File to write.
    about
        Origin of the file, which is stored under the key ``wsipsm`` of its metadata.
    """

    def __init__(self, path: Path, about: FileFacts) -> None:
        facts = orjson.dumps(clean_json(about), option=orjson.OPT_SORT_KEYS)
        schema = nuclei_schema().with_metadata({b"geo": orjson.dumps(_GEO), _ABOUT: facts})
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0

    def add(self, table: pa.Table) -> None:
        """Add nuclei, a table of ``nuclei_schema()``."""
        self._waiting.append(table)
        self._n_waiting += table.num_rows
        while self._n_waiting >= ROWS_PER_GROUP:
            self._write(ROWS_PER_GROUP)

    def _write(self, n_rows: int) -> None:
        whole = pa.concat_tables(self._waiting)
        self._writer.write_table(whole.slice(0, n_rows), row_group_size=ROWS_PER_GROUP)
        rest = whole.slice(n_rows)
        self._waiting = [rest] if rest.num_rows else []
        self._n_waiting = rest.num_rows

    def close(self) -> None:
        """Write the nuclei that are left, and the footer."""
        if self._n_waiting:
            self._write(self._n_waiting)
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.close()


class CellsReader:
    """An open cells.parquet, made by :func:`open_cells`; every method raises UsageError where it cannot be read."""

    def __init__(self, path: Path, file: pq.ParquetFile) -> None:
        self._path = path
        self._file = file

    @property
    def n_nuclei(self) -> int:
        """Number of nuclei."""
        return int(self._file.metadata.num_rows)

    @property
    def facts(self) -> JsonObject:
        """Origin that the file states: slide, model, region and scoring; see `results.file_facts`."""
        with _as_usage_errors(self._path):
            return dict(orjson.loads((self._file.schema_arrow.metadata or {})[_ABOUT]))

    def table(self, names: Sequence[str] | None = None) -> pa.Table:
        """Read all nuclei.

        Parameters
        ----------
        names
            Columns, in this order; None: all, in file order.
        """
        wanted = nuclei_schema().names if names is None else list(names)
        with _as_usage_errors(self._path):
            return self._file.read(columns=wanted).select(wanted)

    def columns(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Read columns of numbers, in the order of the names, shape (n_columns, n_nuclei); NaN for a missing value."""
        table = self.table(names)
        with _as_usage_errors(self._path):
            batch = pa.record_batch([table.column(name).combine_chunks() for name in names], names=list(names))
            # A column's own to_numpy imports pandas, which takes half a second.
            return np.asarray(batch.to_tensor(null_to_nan=True).to_numpy().T, dtype=np.float64)

    def batches(self, names: Sequence[str] | None = None, n_rows: int = ROWS_PER_GROUP) -> Iterator[pa.Table]:
        """Read the nuclei in file order, at most ``n_rows`` at a time.

        Parameters
        ----------
        names
            Columns, in this order; None: all, in file order.
        n_rows
            Most nuclei of a batch, which bounds the memory.
        """
        wanted = nuclei_schema().names if names is None else list(names)
        with _as_usage_errors(self._path):
            for batch in self._file.iter_batches(n_rows, columns=wanted):
                yield pa.Table.from_batches([batch]).select(wanted)


@contextmanager
def open_cells(path: Path) -> Iterator[CellsReader]:
    """Open cells.parquet.

    Parameters
    ----------
    path
        Path of the file.

    Raises
    ------
    UsageError
        When the file is absent or no Parquet file. Methods of the reader raise it where a part is damaged or a column
        is missing.
    """
    with _as_usage_errors(path):
        # pq.read_table would import a part of pyarrow that takes a quarter of a second. Without verification, two of
        # three flipped bits would silently be read as other nuclei.
        file = pq.ParquetFile(path, page_checksum_verification=True)
    with file:
        yield CellsReader(path, file)


def read_columns(path: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """Read columns of numbers of cells.parquet, shape (n_columns, n_nuclei); see `CellsReader.columns`.

    Raises
    ------
    UsageError
        When the file cannot be read or lacks a column.
    """
    with open_cells(path) as cells:
        return cells.columns(names)


@contextmanager
def _as_usage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, KeyError, orjson.JSONDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); the nuclei of a finished run are needed.") from error

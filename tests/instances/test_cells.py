"""cells.parquet: what is written is read again, and what cannot be read says so in one way."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from wsipsm.errors import UsageError
from wsipsm.facts import FileFacts
from wsipsm.instances.cells import ROWS_PER_GROUP, CellsReader, CellsWriter, open_cells, read_columns
from wsipsm.instances.table import build_table
from wsipsm.keys import Column, QuPathFrame

ABOUT = FileFacts("drawn", "f" * 64, QuPathFrame.CROPPED)
NUMBERS = [Column.CENTROID_Y_PX0.value, Column.DAB_OD.value, Column.AREA_UM2.value]


def squares(n: int, ihc: bool = True) -> pa.Table:
    """Nuclei 10 px wide in a row, 20 px apart; DAB of 0.1, 0.2, ..."""
    left = np.arange(n) * 20.0
    measured = {Column.PROBABILITY: np.full(n, 0.9), Column.HEMATOXYLIN_OD: np.full(n, 0.5)}
    if ihc:
        measured[Column.DAB_OD] = (np.arange(n) % 10 + 1) / 10
    shapes = shapely.box(left, 5.0, left + 10, 15.0)
    return build_table(shapes, measured, mpp_px0=0.5, fingerprint="f", dab_cut_od=0.25 if ihc else None)


def write(path: Path, *tables: pa.Table) -> Path:
    with CellsWriter(path, ABOUT) as cells:
        for table in tables:
            cells.add(table)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = squares(7)
    path = write(tmp_path / "cells.parquet", table.slice(0, 3), table.slice(3))
    with open_cells(path) as cells:
        assert cells.n_nuclei == 7
        assert cells.facts == asdict(ABOUT)
        assert cells.table().replace_schema_metadata(None).equals(table.combine_chunks())
        assert cells.table(NUMBERS).column_names == NUMBERS
        assert [len(batch) for batch in cells.batches(n_rows=3)] == [3, 3, 1]
        assert pa.concat_tables(cells.batches(NUMBERS, 2)).equals(table.select(NUMBERS))


def test_columns_are_numbers_with_nan_where_there_is_none(tmp_path: Path) -> None:
    values = read_columns(write(tmp_path / "ihc.parquet", squares(3)), NUMBERS)
    np.testing.assert_allclose(values, [[10, 10, 10], [0.1, 0.2, 0.3], [25, 25, 25]], rtol=1e-6)
    assert np.isnan(read_columns(write(tmp_path / "he.parquet", squares(3, ihc=False)), NUMBERS)[1]).all()


def test_row_groups_are_bounded(tmp_path: Path) -> None:
    table = squares(100)
    path = write(tmp_path / "cells.parquet", *[table] * (ROWS_PER_GROUP // 100 + 2))
    with open_cells(path) as cells:
        assert [len(batch) for batch in cells.batches([Column.CLASS.value])] == [ROWS_PER_GROUP, 164]


def test_no_nuclei_are_a_table_too(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.parquet")
    with open_cells(path) as cells:
        assert cells.n_nuclei == 0
        assert list(cells.batches()) == []
    assert read_columns(path, NUMBERS).shape == (3, 0)


@pytest.mark.parametrize("damage", ["absent", "folder", "text", "cut"])
def test_what_cannot_be_opened_names_the_file(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "cells.parquet", squares(20))
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "absent":
        path.write_bytes({"text": b"no Parquet", "cut": content[: len(content) // 2]}[damage])
    told = r"cells\.parquet: cannot be read .*nuclei of a finished run"
    with pytest.raises(UsageError, match=told), open_cells(path):
        pass


def test_a_damaged_byte_is_never_read_as_a_nucleus(tmp_path: Path) -> None:
    table = squares(300)
    path = write(tmp_path / "cells.parquet", table)
    content = path.read_bytes()
    n_footer = int.from_bytes(content[-8:-4], "little") + 8  # it alone has no checksum
    pages = np.random.default_rng(0).integers(4, len(content) - n_footer, 60)
    refused = {"table": 0, "batches": 0}
    for place in pages.tolist():
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        for name, read in (("table", CellsReader.table), ("batches", lambda cells: pa.concat_tables(cells.batches()))):
            try:
                with open_cells(path) as cells:
                    assert read(cells).replace_schema_metadata(None).equals(table)
            except UsageError as error:
                refused[name] += str(path) in str(error)
    assert min(refused.values()) > 50, refused


def test_another_table_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    for read in (lambda cells: cells.facts, lambda cells: cells.columns(NUMBERS), lambda cells: cells.table(NUMBERS)):
        with pytest.raises(UsageError, match=r"cells\.parquet: cannot be read"), open_cells(path) as cells:
            read(cells)


def test_a_missing_column_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "cells.parquet", squares(2))
    for names in (["absent"], [Column.DAB_OD.value, "absent"]):
        with open_cells(path) as cells:
            for read in (cells.table, cells.columns, lambda names: list(cells.batches(names))):
                with pytest.raises(UsageError, match=r"cells\.parquet: cannot be read .*absent"):
                    read(names)

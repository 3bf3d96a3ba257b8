"""Shards and the table of nuclei."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from wsipsm.errors import OutputError
from wsipsm.geometry import Box
from wsipsm.instances.shard import (
    ShardFacts,
    ShardPlace,
    check_shard,
    read_facts,
    read_seam_rows,
    read_shard,
    write_shard,
)
from wsipsm.instances.table import (
    BORDER_PX,
    OWNED,
    SEAM,
    build_table,
    centroids_px0,
    nuclei_schema,
    shard_schema,
)
from wsipsm.keys import Column

PLACE = ShardPlace("key", "fingerprint", 3, 4, Box(512, 384, 128, 128))
FACTS = ShardFacts(PLACE, n_owned=2, n_tiles=9, n_too_large=1, failed=(Box(1, 2, 3, 4),), backend="torch 2")


def polygons() -> np.ndarray:
    boxes = [(0, 0, 20, 20), (40.5, 8, 50, 30), (100, 100, 112, 109)]
    return np.array([shapely.box(*box) for box in boxes], dtype=object)


def table(dab_cut_od: float | None = 0.2) -> pa.Table:
    measured = {
        Column.PROBABILITY: np.array([0.9, 0.8, 0.7]),
        Column.HEMATOXYLIN_OD: np.array([0.3, 0.2, 0.1]),
    }
    if dab_cut_od is not None:
        measured[Column.DAB_OD] = np.array([0.1, 0.2, 0.6])
    return build_table(polygons(), measured, mpp_px0=0.5, fingerprint="slide", dab_cut_od=dab_cut_od)


def shard() -> pa.Table:
    whole = table()
    extra = {OWNED: [True, True, False], SEAM: [False, True, True], BORDER_PX: [30.0, 2.0, -4.0]}
    for name, values in extra.items():
        whole = whole.append_column(shard_schema().field(name), pa.array(values))
    return whole


def test_a_bit_that_turned_in_a_shard_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_shard(path, shard(), FACTS)
    whole = path.read_bytes()
    assert check_shard(path, PLACE) == FACTS
    outlines = pq.ParquetFile(path).metadata.row_group(0).column(shard_schema().names.index(Column.GEOMETRY.value))
    first = outlines.dictionary_page_offset or outlines.data_page_offset
    end = first + outlines.total_compressed_size
    # The last bytes of the column's pages; what stands in a page's header has no checksum of its own.
    for position in range(end - 8, end):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert check_shard(path, PLACE) is None
    path.write_bytes(whole)
    assert check_shard(path, PLACE) == FACTS


def test_without_a_cut_or_without_dab_nuclei_have_no_class() -> None:
    measured = {Column.PROBABILITY: np.full(3, 0.9), Column.HEMATOXYLIN_OD: np.full(3, 0.3)}
    with_dab = {**measured, Column.DAB_OD: np.array([0.1, 0.2, 0.6])}
    for columns, cut in ((measured, None), (measured, 0.2), (with_dab, None)):
        whole = build_table(polygons(), columns, mpp_px0=0.5, fingerprint="slide", dab_cut_od=cut)
        assert whole.column(Column.CLASS.value).to_pylist() == ["Nucleus"] * 3


def test_columns_and_values_of_the_table() -> None:
    whole = table()
    assert whole.schema.equals(nuclei_schema())
    assert whole.column_names == [column.value for column in Column]
    assert whole.column(Column.CLASS.value).to_pylist() == ["Negative", "Positive", "Positive"]
    assert whole.column(Column.AREA_UM2.value).to_pylist() == pytest.approx([100, 52.25, 27])
    assert whole.column(Column.POSITIVE_PROBABILITY.value).null_count == 3
    assert centroids_px0(whole).tolist() == [[10, 10], [45.25, 19], [106, 104.5]]
    outlines = shapely.from_wkb(whole.column(Column.GEOMETRY.value).to_pylist())
    assert shapely.equals(outlines, polygons()).all()


def test_no_marker_no_class() -> None:
    whole = table(dab_cut_od=None)
    assert set(whole.column(Column.CLASS.value).to_pylist()) == {"Nucleus"}
    assert whole.column(Column.DAB_OD.value).null_count == 3


def test_identifiers_name_slide_and_outline() -> None:
    def names(fingerprint: str, outlines: np.ndarray) -> list[str]:
        measured = {column: np.zeros(len(outlines)) for column in (Column.PROBABILITY, Column.HEMATOXYLIN_OD)}
        built = build_table(outlines, measured, mpp_px0=0.5, fingerprint=fingerprint, dab_cut_od=None)
        return built.column(Column.NUCLEUS_ID.value).to_pylist()

    first = names("slide", polygons())
    assert names("slide", polygons()[::-1])[::-1] == first
    assert not set(names("another", polygons())) & set(first)
    assert len(set(first)) == 3
    for name in first:
        parsed = uuid.UUID(name)
        assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)


def test_identifiers_are_the_first_bits_of_a_sha256_whatever_the_version() -> None:
    """RFC 9562, section 5.8: all but the version 8 and the variant 10 is the maker's own."""
    built = build_table(
        polygons(),
        {column: np.zeros(3) for column in (Column.PROBABILITY, Column.HEMATOXYLIN_OD)},
        mpp_px0=0.5,
        fingerprint="slide",
        dab_cut_od=None,
    )
    outlines = built.column(Column.GEOMETRY.value).to_pylist()
    for name, outline in zip(built.column(Column.NUCLEUS_ID.value).to_pylist(), outlines, strict=True):
        bits = f"{int(hashlib.sha256(b'slide' + outline).hexdigest(), 16):0256b}"[:128]
        bits = bits[:48] + "1000" + bits[52:64] + "10" + bits[66:]
        assert uuid.UUID(name).int == int(bits, 2)
    assert [outline[0] for outline in outlines] == [1, 1, 1], "little-endian on every machine"


def test_no_nuclei() -> None:
    none = np.empty(0, dtype=object)
    measured = {column: np.empty(0) for column in (Column.PROBABILITY, Column.HEMATOXYLIN_OD, Column.DAB_OD)}
    built = build_table(none, measured, mpp_px0=0.5, fingerprint="slide", dab_cut_od=0.2)
    assert (built.num_rows, built.schema.equals(nuclei_schema())) == (0, True)
    assert centroids_px0(built).shape == (0, 2)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    write_shard(path, shard(), FACTS)
    assert read_facts(path) == check_shard(path, PLACE) == FACTS
    assert read_shard(path).equals(shard())
    seams = read_seam_rows(path, [OWNED, BORDER_PX])
    assert seams.to_pydict() == {OWNED: [True, False], BORDER_PX: [2.0, -4.0], "row": [1, 2]}
    again = tmp_path / "again.parquet"
    write_shard(again, shard(), FACTS)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "no footer", "flipped", "other table"])
def test_damaged_shards_are_not_taken(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "shard.parquet"
    write_shard(path, shard(), FACTS)
    whole = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "other table":
        pa.parquet.write_table(pa.table({"a": [1]}), path)
    else:
        half = len(whole) // 4
        content = {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "no footer": whole[:-8] + bytes(8),
            # Inside a column, where the footer knows nothing of it.
            "flipped": whole[:half] + bytes([whole[half] ^ 0xFF]) + whole[half + 1 :],
        }[damage]
        path.write_bytes(content)
    assert check_shard(path, PLACE) is None


@pytest.mark.parametrize("content", [None, b"", b"PAR1"])
def test_a_shard_that_was_lost_since_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "shard.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OutputError, match="the block is done again"):
        read_shard(path)


@pytest.mark.parametrize(
    "other", [{"key": "k"}, {"fingerprint": "f"}, {"row": 4}, {"column": 3}, {"core": Box(512, 384, 128, 127)}]
)
def test_a_shard_under_the_name_of_another_is_not_taken(tmp_path: Path, other: dict[str, Any]) -> None:
    path = tmp_path / "shard.parquet"
    write_shard(path, shard(), replace(FACTS, place=replace(PLACE, **other)))
    assert check_shard(path, PLACE) is None
    assert check_shard(path, replace(PLACE, **other)) is not None


def test_of_a_shard_only_what_a_stain_or_network_may_lack_can_be_missing() -> None:
    nullable = [field.name for field in shard_schema() if field.nullable]
    assert nullable == [Column.POSITIVE_PROBABILITY.value, Column.DAB_OD.value]

"""Shards: the nuclei of one block as a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from wsipsm.errors import OutputError, one_line
from wsipsm.geometry import Box
from wsipsm.instances.table import SEAM, shard_schema
from wsipsm.rundir import write_aside

_METADATA_KEY = b"wsipsm"
_READ_ERRORS = (OSError, pa.ArrowInvalid, ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """The slide and the block of a shard, which its footer states, since files can be copied and renamed."""

    key: str
    """Hash of everything that its content depends on: slide, model, options and code."""
    fingerprint: str
    """Fingerprint of the slide."""
    row: int
    column: int
    core: Box
    """Core of the block, working pixels."""


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """The facts about a block that the footer of its shard holds."""

    place: ShardPlace
    n_owned: int
    n_tiles: int
    n_too_large: int
    failed: tuple[Box, ...] = ()
    """Level-0 boxes inside the core whose pixels could not be read."""
    backend: str = ""
    """Backend that ran the network."""


def write_shard(path: Path, table: pa.Table, facts: ShardFacts) -> None:
    """Write a shard so that it is always whole under its final name.

    Parameters
    ----------
    path
        Final name; its folder exists.
    table
        Table with the columns of ``shard_schema()``.
    facts
        Facts about the block, for the footer.

    Raises
    ------
    OutputError
        When the disk is full or the folder is not writable.
    """
    value = asdict(facts)
    value["failed"] = [astuple(box) for box in facts.failed]
    value["place"]["core"] = astuple(facts.place.core)
    text = orjson.dumps(value)
    with write_aside(path) as temporary:
        named = table.replace_schema_metadata({_METADATA_KEY: text})
        pq.write_table(named, temporary, compression="zstd", write_page_checksum=True)


def read_facts(path: Path) -> ShardFacts | None:
    """Read the facts in a shard's footer; None when the file is absent, cut off or no shard."""
    try:
        schema = pq.read_schema(path)
        if not schema.remove_metadata().equals(shard_schema()):
            return None
        value = orjson.loads(schema.metadata[_METADATA_KEY])
        place = value["place"]
        return ShardFacts(
            place=ShardPlace(**{**place, "core": Box(*place["core"])}),
            n_owned=value["n_owned"],
            n_tiles=value["n_tiles"],
            n_too_large=value["n_too_large"],
            failed=tuple(Box(*numbers) for numbers in value["failed"]),
            backend=value["backend"],
        )
    except _READ_ERRORS:
        return None


def check_shard(path: Path, place: ShardPlace) -> ShardFacts | None:
    """Read a shard of an earlier run as a check; None when it is absent, damaged anywhere, or of another place."""
    facts = read_facts(path)
    if facts is None or facts.place != place:
        return None
    try:
        pq.read_table(path, memory_map=False, page_checksum_verification=True)
    except _READ_ERRORS:
        return None
    return facts


def read_shard(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the nuclei of a shard.

    Parameters
    ----------
    path
        A shard that was written or checked by this run.
    columns
        Names of the columns to read; None reads all.

    Raises
    ------
    OutputError
        When the file has become absent or damaged.
    """
    try:
        table = pq.read_table(path, columns=None if columns is None else list(columns), memory_map=False)
    except _READ_ERRORS as error:
        raise OutputError(
            f"{path}: cannot be read ({one_line(error)}), though it was whole when it was written; a disk that works "
            "is needed. Run the same command again: the block is done again, the others are kept.",
            path=path,
            value=f"cannot be read ({one_line(error)})",
            needed="a disk that works",
        ) from error
    return table.replace_schema_metadata()


def read_seam_rows(path: Path, columns: Sequence[str]) -> pa.Table:
    """Read the nuclei of a shard that a nucleus of another block may overlap.

    Parameters
    ----------
    path
        Path of the shard.
    columns
        Names of the columns to read.

    Returns
    -------
    Table of those columns and ``row``, the position in the shard.
    """
    rows = pa.array(read_shard(path, [SEAM]).column(SEAM).to_numpy().nonzero()[0], pa.int64())
    return read_shard(path, columns).take(rows).append_column("row", rows)

"""Reading of GeoJSON files, plain or compressed, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from wsipsm.errors import RoiError
from wsipsm.text import clean_text

MAX_ROI_BYTES = 200 * 1024 * 1024
"""Largest size of the JSON, bytes, after decompression. QuPath writes some 200 bytes a vertex at most: a million
vertices fit."""


def read_documents(path: Path) -> Iterator[tuple[str, Any]]:
    """Read every GeoJSON document of a file, of ``MAX_ROI_BYTES`` together at most.

    Parameters
    ----------
    path
        ``.geojson`` or ``.json``, plain or ``.gz``, or a ``.zip`` of such.

    Yields
    ------
    The name of the document in messages, and its parsed JSON.

    Raises
    ------
    RoiError
        When the file cannot be read, is of another type, is too large, or holds no JSON.
    """
    for label, content in _read_contents(path):
        yield label, _parse(content, label)


def _read_contents(path: Path) -> Iterator[tuple[str, bytes]]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    inner = suffixes[-2] if len(suffixes) > 1 else ""
    label = clean_text(path)
    try:
        if last == ".zip":
            yield from _read_zip(path)
        elif last == ".gz" and inner in {".geojson", ".json"}:
            with gzip.open(path) as stream:
                yield label, _read_bounded(stream, label, MAX_ROI_BYTES)
        elif last in {".geojson", ".json"}:
            with path.open("rb") as stream:
                yield label, _read_bounded(stream, label, MAX_ROI_BYTES)
        else:
            raise RoiError(
                f"{label}: a file of type {clean_text(last) or 'none'!s}; .geojson, .json, either with .gz, or .zip is "
                "needed. Export the annotations from QuPath as GeoJSON and pass that with --roi."
            )
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise RoiError(f"{label}: cannot be read ({error}); a readable file is needed. Check --roi.") from error


def _read_zip(path: Path) -> Iterator[tuple[str, bytes]]:
    left = MAX_ROI_BYTES
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith((".geojson", ".json"))]
        if not entries:
            raise RoiError(
                f"{clean_text(path)}: no .geojson or .json entry in it; one at least is needed. Check --roi."
            )
        for entry in entries:
            label = f"{clean_text(path)}, entry {clean_text(entry.filename)}"
            with archive.open(entry) as stream:
                content = _read_bounded(stream, label, left)
            left -= len(content)
            yield label, content


def _read_bounded(stream: IO[bytes] | io.BufferedIOBase, label: str, limit: int) -> bytes:
    """Read to the end, but never more than ``limit`` bytes: a small archive can hold gigabytes."""
    content = stream.read(limit + 1)
    if len(content) > limit:
        raise RoiError(
            f"{label}: more than {MAX_ROI_BYTES // 2**20} MiB of GeoJSON; a region of interest is far smaller. "
            "Export the annotations only, without detections."
        )
    return content


def _parse(content: bytes, label: str) -> Any:
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        strict = error
    try:
        # QuPath up to 0.4 writes a measurement that is not a number as a bare NaN, which is not JSON.
        return json.loads(content.decode())
    except (ValueError, RecursionError):
        raise RoiError(
            f"{label}: no valid JSON ({strict}); GeoJSON as QuPath exports it is needed. Check --roi."
        ) from strict

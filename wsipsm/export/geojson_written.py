"""Reads the features of a file of nuclei, to write them again in a scoring with other nuclei and other classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip

_ID_AT = len('{"type":"Feature","id":"')
_CLASS = b'"classification":'
_AFTER_CLASS = b',"measurements":{'
_PART_BYTES = 4 * 2**20


class OtherFeatures(Exception):
    """The file lacks a nucleus, or holds features of another form than those that are written today."""


class WrittenFeatures:
    """Features of a file that `GeoJsonWriter` wrote, read in their order; see :func:`open_features`."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = chain.from_iterable(_read_parts(file))

    def take(self, ids: Iterable[bytes], classifications: Iterable[bytes]) -> list[bytes]:
        """Read the features of the next nuclei.

        Parameters
        ----------
        ids
            Ids of nuclei in the order of the file; nuclei between them are skipped.
        classifications
            Class of each nucleus, as JSON, which replaces the one in the file.

        Returns
        -------
        Text of each feature, with the comma after it where one follows in the file.

        Raises
        ------
        OtherFeatures
            When the rest of the file has no nucleus of that id.
        """
        taken, lines = [], self._lines
        for name, kind in zip(ids, classifications, strict=True):
            for line in lines:
                if line.startswith(name, _ID_AT):
                    break
            else:
                raise OtherFeatures(name.decode())
            start = line.rfind(_CLASS) + len(_CLASS)
            if line.startswith(kind, start):
                taken.append(line)
            else:
                taken.append(b"".join((line[:start], kind, line[line.rfind(_AFTER_CLASS) :])))
        return taken


@contextmanager
def open_features(path: Path) -> Iterator[WrittenFeatures]:
    """Open a file of `GeoJsonWriter`, gzip, that is known to be as it was written.

    Raises
    ------
    OSError
        When it cannot be opened or is no gzip; reading a damaged part of it raises the same.
    """
    with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
        yield WrittenFeatures(cast(BinaryIO, file))


def _read_parts(file: BinaryIO) -> Iterator[list[bytes]]:
    """Read the lines of a file, many at a time."""
    rest = b""
    while part := file.read(_PART_BYTES):
        *lines, rest = (rest + part).split(b"\n")
        yield lines

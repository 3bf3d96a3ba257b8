"""Fingerprints of slides: two slides are the same when all bytes of all their files are the same."""

from __future__ import annotations

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import SlideOpenError
from wsipsm.slide.dicom import is_dicom, largest_of, series_files, slides_in

_OLD_NS = 3_000_000_000
"""Age of a change, in ns, from which a further change would have another time. File systems count time in ticks."""
_N_CACHED = 4096
"""Digests that are kept in memory."""
_LEFT_BY_SYSTEMS = frozenset((".ds_store", "thumbs.db", "desktop.ini"))
"""Names, in lower case, of files that file managers put into folders."""


class FileStamp(NamedTuple):
    """The values that a file system keeps for a file; when two stamps differ, the file was written in between."""

    device: int
    inode: int
    n_bytes: int
    mtime_ns: int
    ctime_ns: int
    """Time of change, which no program can set: it is new in a copy that keeps the time of writing of its source."""


def fingerprint_slide(path: Path) -> str:
    """Compute the SHA-256 digest that identifies a slide.

    It is the digest of the file's bytes or, for a slide of several files, that of the list of their names and digests.
    The names of a DICOM series' files do not count, since nothing refers to them. The same files always give the same
    digest, wherever they lie.

    Returns
    -------
    Digest of 64 hexadecimal characters.

    Raises
    ------
    SlideOpenError
        When a file cannot be read or is written meanwhile, or the slide has no files.
    """
    try:
        files = slide_files(path)
        digests = [(name, _digest(file)) for name, file in files]
    except OSError as error:
        raise SlideOpenError(
            f"{path}: {error.strerror or error}; a readable file is needed. Check its rights.",
            path=path,
            value=error.strerror or str(error),
            needed="a readable file",
        ) from error
    if not digests:
        raise SlideOpenError(f"{path}: no file that belongs to the slide; its pixels are needed. Copy it again.")
    if len(digests) == 1 and digests[0][0] == "":
        return digests[0][1]
    whole = hashlib.sha256()
    for name, digest in sorted(digests):
        whole.update(os.fsencode(name) + b"\0" + digest.encode())
    return whole.hexdigest()


def fingerprint_array(pixels: NDArray[np.uint8]) -> str:
    """Compute the hexadecimal SHA-256 digest of an array's shape and bytes."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def stamp_slide(path: Path) -> tuple[FileStamp, ...] | None:
    """Read the stamps of a slide's files, which show cheaply whether one was written; None when they cannot be read.

    Of an NGFF folder, which may have a hundred thousand files, only the files at its top are stamped.
    """
    try:
        if path.suffix.lower() == ".zarr" and path.is_dir():
            return tuple(_stamp(file) for file in sorted(path.iterdir()) if file.is_file())
        return tuple(_stamp(file) for _, file in slide_files(path))
    except (OSError, SlideOpenError):
        return None


def slide_files(path: Path) -> list[tuple[str, Path]]:
    """List the files of a slide, each with the name by which another file of the slide refers to it, or an empty name.

    Raises
    ------
    OSError
        When a file or folder cannot be read.
    SlideOpenError
        When a folder holds no slide, or several.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        if suffix != ".zarr":
            return [("", file) for file in series_in_folder(path)]
        inside = sorted(file for file in path.rglob("*") if file.is_file() and not _is_left_by_system(file))
        return [(file.relative_to(path).as_posix(), file) for file in inside]
    if is_dicom(path):
        return [("", file) for file in series_files(path)]
    if suffix == ".mrxs" and (index := path.with_suffix("") / "Slidedat.ini").is_file():
        return [("", path), (index.name, index), *_named_in(index, index.parent)]
    if suffix in (".vms", ".vmu"):
        return [("", path), *_named_in(path, path.parent)]
    return [("", path)]


def series_in_folder(folder: Path) -> list[Path]:
    """List the files of the one DICOM series that a folder holds, the one of full size first.

    Raises
    ------
    OSError
        When the folder cannot be read.
    SlideOpenError
        When it holds no series, or several; the message is the reason alone.
    """
    series = list(slides_in(folder.iterdir()).values())
    if not series:
        raise SlideOpenError("a folder without DICOM files of a slide")
    if len(series) > 1:
        some = ", ".join(largest_of(files).name for files in series[:4])
        raise SlideOpenError(f"a folder with {len(series)} DICOM series; name a file of the one wanted: {some}")
    largest = largest_of(series[0])
    return [largest, *(file for file in series[0] if file != largest)]


def _named_in(index: Path, folder: Path) -> list[tuple[str, Path]]:
    """List the files of a folder that an index file names; other files there are no part of the slide."""
    text = index.read_bytes().lower()
    others = (file for file in sorted(folder.iterdir()) if file != index and file.is_file())
    return [(file.name, file) for file in others if os.fsencode(file.name).lower() in text]


def _is_left_by_system(file: Path) -> bool:
    return file.name.lower() in _LEFT_BY_SYSTEMS or file.name.startswith("._")


def _stamp(file: Path) -> FileStamp:
    found = file.stat()
    return FileStamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _digest(file: Path) -> str:
    """Compute the SHA-256 of a file; a process does not read a file again that has not changed since.

    A kept digest counts only on systems where ``st_ctime`` is the time of change (on Windows it is that of creation),
    and for a file whose change lies so far back that a further one would have another time.
    """
    stamp = _stamp(file)
    is_old = os.name == "posix" and stamp.ctime_ns < time.time_ns() - _OLD_NS
    return (_read_digest if is_old else _read_digest.__wrapped__)(file, stamp)


@lru_cache(maxsize=_N_CACHED)
def _read_digest(file: Path, stamp: FileStamp) -> str:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if _stamp(file) != stamp:
        raise SlideOpenError(
            f"{file}: it is written while it is read; a whole file is needed. Wait until its copy is complete.",
            path=file,
            value="it is written while it is read",
            needed="a whole file",
        )
    return digest

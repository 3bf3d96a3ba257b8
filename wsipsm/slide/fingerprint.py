"""Names for pixels: a digest of sampled bytes, cheap on files of many gigabytes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsipsm.errors import SlideOpenError

SAMPLE_BYTES = 1 << 16
N_INNER_SAMPLES = 8
_SERIES_TAG = b"\x20\x00\x0e\x00UI"


def fingerprint_slide(path: Path) -> str:
    """Digest of a slide file and of every file that belongs to it.

    The head, the tail and eight places in between are hashed with the size; the places depend on the size alone, so the
    same file always gives the same digest, wherever it lies and whatever it is called.

    Raises
    ------
    SlideOpenError
        When a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for name, file in slide_files(path):
            digest.update(f"{name}\0{file.stat().st_size}\0".encode())
            _update(digest, file)
    except OSError as error:
        raise SlideOpenError(
            f"{path}: {error.strerror or error}; a readable file is needed. Check its rights."
        ) from error
    return digest.hexdigest()


def fingerprint_array(pixels: NDArray[np.uint8]) -> str:
    """Digest of an array: its shape and all its bytes."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def slide_files(path: Path) -> list[tuple[str, Path]]:
    """Files that hold a slide, each with a name that does not change when the slide is moved or renamed."""
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return [(str(file.relative_to(path).as_posix()), file) for file in inside]
    suffix = path.suffix.lower()
    if suffix == ".dcm":
        return [(file.name, file) for file in dicom_series(path)]
    files = [("", path)]
    data_dir = path.with_suffix("")
    if suffix == ".mrxs" and data_dir.is_dir():
        files += [(file.name, file) for file in sorted(data_dir.iterdir()) if file.is_file()]
    return files


def dicom_series(path: Path) -> list[Path]:
    """DICOM files beside ``path`` that belong to the same series, itself included, sorted by name."""
    series = series_uid(path)
    if series is None:
        return [path]
    return sorted(file for file in path.parent.glob("*.dcm") if file.is_file() and series_uid(file) == series)


def series_uid(path: Path) -> bytes | None:
    """SeriesInstanceUID (0020,000E) of a DICOM file in explicit little-endian, or None.

    The element stands in the first kilobytes; a whole DICOM parser for one text would be a further dependency.
    """
    with path.open("rb") as stream:
        head = stream.read(SAMPLE_BYTES)
    at = head.find(_SERIES_TAG)
    if head[128:132] != b"DICM" or at < 0:
        return None
    start = at + len(_SERIES_TAG) + 2
    length = int.from_bytes(head[start - 2 : start], "little")
    return head[start : start + length].rstrip(b"\0 ")


def _update(digest: hashlib._Hash, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= SAMPLE_BYTES * (N_INNER_SAMPLES + 2):
            digest.update(stream.read())
            return
        inner = random.Random(size)
        places = [inner.randrange(SAMPLE_BYTES, size - 2 * SAMPLE_BYTES) for _ in range(N_INNER_SAMPLES)]
        for offset in (0, *sorted(places), size - SAMPLE_BYTES):
            stream.seek(offset)
            digest.update(stream.read(SAMPLE_BYTES))

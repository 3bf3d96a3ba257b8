"""Recognition of files that are no slides, by name and first bytes, before any reader opens them.

A reader can only say that a file is not what it expects: it would call a saved download page an incomplete copy.
"""

from __future__ import annotations

import string
from pathlib import Path

from wsipsm.errors import SlideOpenError
from wsipsm.paths import find_bad_name, find_no_file
from wsipsm.slide.dicom import slides_in
from wsipsm.slide.formats import NOT_READ, PARTS_NOT_READ, READ, READABLE

_UNREADABLE_SUFFIXES = {**NOT_READ, **PARTS_NOT_READ}
"""Suffixes that are refused before any reader opens the file: a VSI, for example, is a TIFF of the slide's label."""

_TEXT_SLIDES = (*READ["VMS"], *READ["VMU"])
"""Suffixes of Hamamatsu's index files, which are text."""

_HEAD_BYTES = 4096
_UNPACK = "Unpack it and name the slide that is in it."
_AGAIN = "Download the slide itself."
_MAGIC = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer in place of the file", "Fetch it: git lfs pull."),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (b"\x1f\x8b", "compressed with gzip", "Unpack it with gunzip."),
    (b"BZh", "compressed with bzip2", "Unpack it with bunzip2."),
    (b"\xfd7zXZ\0", "compressed with xz", "Unpack it with unxz."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it with unzstd."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (b"%PDF-", "a PDF file", "Name the slide that it is about."),
    (b"\x00\x05\x16\x07", "what macOS keeps beside a file (AppleDouble)", "Name the file without ._ before its name."),
    (b"\x00\x05\x16\x00", "what macOS keeps of a file (AppleSingle)", "Name the slide itself."),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Export the slide as OME-TIFF."),
    (b"PAR1", "a Parquet table", "Name the slide that it is about."),
)
_TAR_AT, _TAR = 257, b"ustar"
_TEXT = frozenset((string.printable).encode()) - {0x0B, 0x0C}


def refuse_no_slide(path: Path) -> None:
    """Refuse a path that can be no slide, with a specific reason.

    Parameters
    ----------
    path
        File or folder that is to be opened as a slide.

    Raises
    ------
    SlideOpenError
        When the path does not exist, or is no slide.
    """
    bad_name = find_bad_name(path)
    if bad_name is not None:
        raise SlideOpenError(bad_name, path=path, needed="a path in UTF-8")
    missing = find_no_file(path)
    try:
        if missing is not None and missing[0] == "a folder":
            _refuse_folder(path)
            return
        if missing is None:
            _refuse_file(path)
            return
    except OSError as error:
        if isinstance(error, SlideOpenError):
            raise
        raise SlideOpenError(
            f"{path}: {error.strerror or error}; a readable file is needed. Check its rights.",
            path=path,
            value=error.strerror or str(error),
            needed="a readable file",
        ) from error
    raise SlideOpenError(
        f"{path}: {missing[0]}; a slide is needed. {missing[1]}", path=path, value=missing[0], needed="a slide"
    )


def _refuse_folder(path: Path) -> None:
    if (path / "Slidedat.ini").is_file():
        raise SlideOpenError(
            f"{path}: the data folder of an MRXS slide; the .mrxs file is needed. Name the file beside the folder.",
            path=path,
            value="the data folder of an MRXS slide",
            needed="the .mrxs file",
        )
    if path.suffix.lower() != ".zarr" and not slides_in(path.iterdir()):
        raise SlideOpenError(
            f"{path}: a folder without DICOM files of a slide; a slide file, a DICOM folder or a .zarr folder is "
            "needed. Name one slide, or use `wsipsm cohort` for a folder of them.",
            path=path,
            value="a folder without DICOM files of a slide",
            needed="a slide file, a DICOM folder or a .zarr folder",
        )


def _refuse_file(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in _UNREADABLE_SUFFIXES:
        raise SlideOpenError(
            f"{path}: {_UNREADABLE_SUFFIXES[suffix]}, which no reader here supports; {READABLE}. "
            "Convert it to OME-TIFF, for example with QuPath or bfconvert.",
            path=path,
            value=_UNREADABLE_SUFFIXES[suffix],
            needed=READABLE,
        )
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        raise SlideOpenError(
            f"{path}: an empty file; a slide is needed. Copy it again.",
            path=path,
            value="an empty file",
            needed=READABLE,
        )
    if suffix in _TEXT_SLIDES:
        return
    found = _kind_of(head)
    if found is not None:
        raise SlideOpenError(
            f"{path}: {found[0]}; a slide is needed, {READABLE}. {found[1]}",
            path=path,
            value=found[0],
            needed=READABLE,
        )


def _kind_of(head: bytes) -> tuple[str, str] | None:
    """Describe a file by its first bytes, with the remedy; None for a file that may be a slide."""
    for magic, words, remedy in _MAGIC:
        if head.startswith(magic):
            return words, remedy
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "a tar archive", _UNPACK
    if not any(head):
        return "zeros where a header should be", "The copy has not ended or failed: copy the slide again."
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> tuple[str, str] | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head.decode("utf-16", errors="replace")
        is_text = all(char.isprintable() or char.isspace() for char in text[:200])
    else:
        text = head.decode("utf-8", errors="replace")
        # Text may hold a few letters of another encoding.
        is_text = sum(byte in _TEXT or byte >= 0x80 for byte in head) == len(head) and text.count("\ufffd") < 0.1 * len(
            text
        )
    if not is_text:
        return None
    start = text.lstrip("\ufeff \t\r\n")[:512].lower()
    if "/annex/objects/" in start:
        return "a git-annex pointer in place of the file", "Fetch it: git annex get."
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page, such as a login or download page", _AGAIN
    if start.startswith("<"):
        return "an XML file, such as annotations or metadata", "Name the slide that it is about."
    if start.startswith(("{", "[")):
        return "JSON text, such as annotations or an error of a server", "Name the slide; annotations go with --roi."
    return "a text file", "Name the slide; a table of slides goes to `wsipsm cohort` as a .csv file."

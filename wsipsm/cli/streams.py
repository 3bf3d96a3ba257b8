"""Standard input, output and error of the command, which may be closed, full, or without a reader."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

from wsipsm.errors import OutputError


class _Output(io.FileIO):
    """Standard output; the first write that fails raises an error, and later ones are dropped."""

    _failed = False

    def write(self, data: Any, /) -> int:
        """Write bytes; return how many."""
        if self._failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:  # the reader, such as head, has closed the pipe
            self._failed = True
            raise
        except OSError as error:
            self._failed = True
            raise OutputError(
                f"standard output: cannot be written ({error.strerror}); printed lines need a place. Result files are "
                "complete without them."
            ) from error


class _Errors(io.FileIO):
    """Standard error; a write that fails is ignored, since it is no reason to stop."""

    def write(self, data: Any, /) -> int:
        """Write bytes if possible; return how many."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_streams() -> None:
    """Replace standard output and error by streams that work when these are closed, full, or without a reader.

    A closed one is opened first; otherwise the next opened file would get its descriptor, and printed lines would be
    written into that file.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):  # a closed output thus still fails
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    if os.name == "posix":  # on other systems a console is not written through a file descriptor
        sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout, "strict")
        sys.stderr = _text(_Errors(2, "wb", closefd=False), sys.stderr, "backslashreplace")


def _text(raw: io.FileIO, before: TextIO | None, errors: str) -> TextIO:
    """Wrap a raw file as a text stream with the encoding of the stream that it replaces."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors=getattr(before, "errors", None) or errors,
        line_buffering=raw.isatty() or errors != "strict",
    )

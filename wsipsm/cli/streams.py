"""Standard input, output and error of the command, which may be closed, full, or without a reader."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

from wsipsm.errors import OutputError


class _Output(io.FileIO):
    """Standard output; when it cannot be written that is said once, and the rest goes nowhere."""

    _failed = False

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        if self._failed:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:  # its reader has seen enough
            self._failed = True
            raise
        except OSError as error:
            self._failed = True
            raise OutputError(
                f"standard output: cannot be written ({error.strerror}); what is printed needs a place. Results in "
                "files are whole without it."
            ) from error


class _Errors(io.FileIO):
    """Standard error; what cannot be said there is no reason to stop."""

    def write(self, data: Any, /) -> int:
        """Write bytes, if they can be."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_streams() -> None:
    """Put streams in place that hold when standard output or error are closed, full, or nobody reads them.

    A closed one is opened first: the next file would else get its number, and what is printed would land in it.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):  # output then fails as a closed one does
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    if os.name == "posix":  # elsewhere a console is no file
        sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout, "strict")
        sys.stderr = _text(_Errors(2, "wb", closefd=False), sys.stderr, "backslashreplace")


def _text(raw: io.FileIO, before: TextIO | None, errors: str) -> TextIO:
    """Decode the text of a file as the stream in its place was encoded."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors=getattr(before, "errors", None) or errors,
        line_buffering=raw.isatty() or errors != "strict",
    )

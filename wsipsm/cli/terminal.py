"""The only functions that print: all text goes through `clean_text`, so that none can control the terminal."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable
from typing import Any, TextIO

import typer

from wsipsm.text import MAX_JSON_CHARS, clean_json, clean_text


def show(line: object, err: bool = False) -> None:
    """Print one line on stdout, or on stderr."""
    typer.echo(clean_line(line), err=err)


def show_word(word: object, colour: str) -> None:
    """Print the first word of a line on stdout, in colour if stdout is a terminal."""
    typer.secho(clean_line(word), fg=colour, nl=False)


def show_on(stream: TextIO, line: object) -> None:
    """Write one line to a stream and flush it."""
    stream.write(f"{clean_line(line)}\n")
    stream.flush()


def show_lines(lines: Iterable[object]) -> None:
    """Print lines on stdout."""
    for line in lines:
        show(line)


def show_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    # Every string was cleaned, so only the indentation breaks lines.
    typer.echo(orjson.dumps(clean_json(value), option=options, default=clean_text).decode())


def show_traceback(error: BaseException) -> None:
    """Print the traceback of an error on stderr."""
    for part in traceback.format_exception(error):
        for line in part.splitlines():
            show_on(sys.stderr, line)


def clean_line(line: object) -> str:
    """Return a line as it is shown: as one line of text without control characters."""
    return clean_text(line, MAX_JSON_CHARS)


class CleanFormatter(logging.Formatter):
    """Formatter that cleans log lines, whose messages come mostly from libraries."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; each line of a traceback stays a line."""
        return "\n".join(clean_line(line) for line in super().format(record).split("\n"))

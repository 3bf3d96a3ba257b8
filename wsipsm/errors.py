"""The errors that wsipsm raises on purpose.

WsipsmError                      exit 1
├── UsageError (ValueError)      exit 2   options, configuration, ROI, manifest
│   ├── RoiError
│   └── ModelError               weights or card unusable
├── SlideError (OSError)         exit 3   a slide cannot be used
│   ├── SlideOpenError           no reader opens it
│   ├── SlideReadError           it opened, then pixels failed
│   ├── MissingMppError          no pixel size, or an implausible one
│   └── UnsupportedSlideError    opened, but of a kind that cannot be scored (fluorescence)
├── BudgetError (MemoryError)    exit 4   would not fit memory or disk
├── OutputError (OSError)        exit 6   results cannot be written
│   └── DiskFullError                     the disk is full
└── TooManyFailuresError         exit 5   more slides of a cohort failed than allowed

A cohort in which some slides failed exits with 5, a run that finished with failed tiles with 7, a command that a signal
ended with 128 + its number: 130 after Ctrl-C.
Messages read `<subject>: <what was found>; <what is needed>. <what to do>`. Programs find the same facts as attributes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from wsipsm.text import clean_text

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_SLIDE = 3
EXIT_BUDGET = 4
EXIT_COHORT_PARTIAL = 5
EXIT_OUTPUT = 6
EXIT_INCOMPLETE = 7

MAX_LINE_CHARS = 20_000
"""Most characters of an error's line; an error about a cohort names many slides."""


def one_line(said: object) -> str:
    """Format an error or another text as one line that is safe to show."""
    return clean_text(" ".join(str(said).split()), MAX_LINE_CHARS)


Fact = str | float | tuple[float, float] | None
"""A fact of an error: words, a number, a lowest and a highest number, or None where it is unknown."""


class WsipsmError(Exception):
    """Root of every error that wsipsm raises on purpose.

    Parameters
    ----------
    said
        The message, which holds all facts in words.
    path, value, needed, option
        Facts, kept as attributes.

    Attributes
    ----------
    path
        File, folder or address that the error is about.
    value
        Value that was found there.
    needed
        Value of the same kind that is needed in its place.
    option
        Option of the command line that helps, such as ``--mpp``; the argument in Python has ``_`` for ``-``.
    exit_code
        Exit status of a command that ends with the error.
    """

    exit_code = EXIT_UNEXPECTED

    def __init__(
        self,
        *said: object,
        path: str | Path | None = None,
        value: Fact = None,
        needed: Fact = None,
        option: str | None = None,
    ) -> None:
        super().__init__(*said)
        # Pickle transfers the arguments and attributes of an error to another process, but no keyword arguments.
        self.path: str | None = None if path is None else str(path)
        self.value: Fact = value
        self.needed: Fact = needed
        self.option: str | None = option


class UsageError(WsipsmError, ValueError):
    """An option, a configuration or an input file is wrong, and the user can correct it."""

    exit_code = EXIT_USAGE


class RoiError(UsageError):
    """A region of interest that cannot be read, is invalid, or misses the slide."""


class ModelError(UsageError):
    """Weights or a model card that cannot be used.

    Attributes
    ----------
    path
        The weights or the card; None for a name that no model has.
    value
        Fault of the file, or the unknown name.
    needed
        Requirement on a model; for an unknown name, the known names.
    option
        ``--model``, or ``--backend`` where the library that runs the network fails.
    """

    value: str | None
    needed: str | None


class SlideError(WsipsmError, OSError):
    """A slide that cannot be used."""

    exit_code = EXIT_SLIDE


class SlideOpenError(SlideError):
    """No reader opens the file; the message gives every reader's reason.

    Attributes
    ----------
    path
        The slide; None in the reason of a single reader.
    value
        Kind of the file, or the reasons of the readers.
    needed
        Formats of slides that are read.
    """

    value: str | None
    needed: str | None


class SlideReadError(SlideError):
    """The slide opened, but pixels could not be decoded.

    Attributes
    ----------
    path
        The slide.
    value
        Place in the slide that could not be decoded, and the reason.
    needed
        Words for sound pixels.
    """

    value: str | None
    needed: str | None


class MissingMppError(SlideError):
    """The slide states no pixel size, or one at which nuclei cannot be outlined.

    Attributes
    ----------
    path
        The slide.
    value
        The pixel size that it states, um/px; None where it states none.
    needed
        The lowest and the highest pixel size, um/px, that are possible; or the one that fits the picture.
    option
        ``--mpp``, by which a pixel size is given.
    """

    value: float | None
    needed: float | tuple[float, float] | None


class UnsupportedSlideError(SlideError):
    """The slide opens, but is of a kind that cannot be scored."""


class BudgetError(WsipsmError, MemoryError):
    """The run would not fit in memory or on disk.

    Attributes
    ----------
    path
        Folder, or slide by address, whose disk or cache is too small; None where memory is.
    value
        Bytes that are free.
    needed
        Bytes that the run needs.
    option
        Option that reduces the need or raises the limit.
    """

    value: int | None
    needed: int | None
    exit_code = EXIT_BUDGET

    def __new__(cls, *said: object, **_facts: object) -> Self:
        """Make an instance, also without arguments, as tblib does, by which Dask pickles errors."""
        # MemoryError.__new__ refuses a class that derives from another error first.
        return Exception.__new__(cls, *said)


class OutputError(WsipsmError, OSError):
    """Results cannot be written to the chosen place.

    Attributes
    ----------
    path
        File or folder that was to be written.
    value
        Reason that the operating system gave.
    needed
        Requirement on the place.
    option
        ``--out``, by which another place is chosen.
    """

    value: str | None
    needed: str | None
    exit_code = EXIT_OUTPUT


class DiskFullError(OutputError):
    """The disk of the results is full, or a limit on files is reached: no slide can be finished until there is room."""


class TooManyFailuresError(WsipsmError):
    """More slides of a cohort failed than its user allows."""

    exit_code = EXIT_COHORT_PARTIAL

"""Errors that wsipsm raises on purpose.

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
Messages read `<subject>: <what was found>; <what is needed>. <what to do>`.
"""

from __future__ import annotations

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
"""The largest length of an error's line: one about a cohort names many slides."""


def one_line(said: object) -> str:
    """Put the text of an error, or any other, on one line that is safe to show."""
    return clean_text(" ".join(str(said).split()), MAX_LINE_CHARS)


class WsipsmError(Exception):
    """Root of every error that wsipsm raises on purpose."""

    exit_code = EXIT_UNEXPECTED


class UsageError(WsipsmError, ValueError):
    """An option, a configuration or an input file that the user can put right."""

    exit_code = EXIT_USAGE


class RoiError(UsageError):
    """A region of interest that cannot be read, is invalid, or misses the slide."""


class ModelError(UsageError):
    """Weights or a model card that cannot be used."""


class SlideError(WsipsmError, OSError):
    """A slide that cannot be used."""

    exit_code = EXIT_SLIDE


class SlideOpenError(SlideError):
    """No reader opens the file; the message gives every reader's reason."""


class SlideReadError(SlideError):
    """The slide opened, but pixels could not be decoded."""


class MissingMppError(SlideError):
    """The slide states no pixel size, or one that cannot show nuclei."""


class UnsupportedSlideError(SlideError):
    """The slide opens, but is of a kind that cannot be scored."""


class BudgetError(WsipsmError, MemoryError):
    """The run would not fit in memory or on disk."""

    exit_code = EXIT_BUDGET


class OutputError(WsipsmError, OSError):
    """Results cannot be written where they were asked for."""

    exit_code = EXIT_OUTPUT


class DiskFullError(OutputError):
    """The disk of the results is full, or a limit on files is met: no slide can be finished until there is room."""


class TooManyFailuresError(WsipsmError):
    """More slides of a cohort failed than its user allows."""

    exit_code = EXIT_COHORT_PARTIAL

"""Signals that end a command: the same way out for all, with nothing left behind, and 128 + the signal as exit code.

Imports next to nothing, since a command can be stopped while it still loads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_PATIENT = 1
"""Further signals that only say that the command is ending already; the next one ends it on the spot."""


class StoppedError(KeyboardInterrupt):
    """A signal asks the command to end; what it holds is let go on the way out, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def stop_on_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into :class:`StoppedError`; those that the caller ignores stay ignored."""
    again: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if not _is_stopping(sys.exception()):
            raise StoppedError(number)
        again.append(number)
        if len(again) > _PATIENT:
            os._exit(exit_code_of(number))
        with suppress(OSError):
            os.write(2, b"stopping: workers end and temporary files go; once more ends it at once\n")

    _install(stop)


def leave_on_signals() -> None:
    """Have further signals end the process at once, since only the interpreter is left to end; SIGINT is ignored.

    Ending itself, Python makes the handlers of a program those of the system, so that a second Ctrl-C would change how
    the command ended.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        os._exit(exit_code_of(number))

    _install(leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def exit_code_of(number: int) -> int:
    """Exit code of a command that a signal ended."""
    return 128 + number


def said_of(stop: BaseException) -> tuple[str, int]:
    """Give how a stop is called in the last line, and the exit code."""
    number = stop.number if isinstance(stop, StoppedError) else int(signal.SIGINT)
    called = "stopped" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    return called, exit_code_of(number)


def _is_stopping(error: BaseException | None) -> bool:
    """Tell whether the exception that is handled now, or one that it came from, is a stop."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def _install(handler: Callable[[int, FrameType | None], None]) -> None:
    for name in _NAMES:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # Not what was ignored on purpose: nohup, or a shell that starts something in the background.
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, handler)

"""Signals that end a command: each raises the same error, which cleans up, and the exit code is 128 + the signal.

This module imports almost nothing, since a command can be stopped while it still loads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_N_WARNINGS = 1
"""Number of further signals that only print that the command is ending; the next one ends it at once."""


class StoppedError(KeyboardInterrupt):
    """A signal ends the command; resources are released while it propagates, as after Ctrl-C."""

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
        if len(again) > _N_WARNINGS:
            os._exit(exit_code_of(number))
        with suppress(OSError):
            os.write(2, b"stopping: workers end and temporary files are removed; stop once more to end it at once\n")

    _install(stop)


def leave_on_signals() -> None:
    """Let further signals end the process at once, since only the interpreter still has to exit; ignore SIGINT.

    At exit, Python restores the system's signal handlers, so a second Ctrl-C would change the exit code of the command.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        os._exit(exit_code_of(number))

    _install(leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def exit_code_of(number: int) -> int:
    """Compute the exit code of a command that a signal ended."""
    return 128 + number


def describe_stop(stop: BaseException) -> tuple[str, int]:
    """Return the words for the command's last line, such as "stopped by SIGTERM", and the exit code."""
    number = stop.number if isinstance(stop, StoppedError) else int(signal.SIGINT)
    reason = "stopped" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    return reason, exit_code_of(number)


def _is_stopping(error: BaseException | None) -> bool:
    """Tell whether an exception, or one during whose handling it was raised, is an interrupt."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def _install(handler: Callable[[int, FrameType | None], None]) -> None:
    for name in _NAMES:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # A signal that is ignored on purpose stays so, as under nohup or for a shell's background job.
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, handler)

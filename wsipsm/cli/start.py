"""The start of the ``wsipsm`` command: a signal while modules still load ends it as a later one does."""

from __future__ import annotations

import sys

from wsipsm.cli.signals import describe_stop, stop_on_signals


def main() -> None:
    """Start the ``wsipsm`` command; this is its entry point."""
    try:
        stop_on_signals()
        from wsipsm.cli.main import main as run
    except KeyboardInterrupt as stop:
        reason, code = describe_stop(stop)
        if sys.stderr is not None:
            sys.stderr.write(f"{reason}: Nothing was begun.\n")
        raise SystemExit(code) from None
    run()

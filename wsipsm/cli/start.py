"""The start of the ``wsipsm`` command: a signal while it still loads ends it as one later does."""

from __future__ import annotations

import sys

from wsipsm.cli.signals import said_of, stop_on_signals


def main() -> None:
    """Start the ``wsipsm`` command; this is its entry point."""
    try:
        stop_on_signals()
        from wsipsm.cli.main import main as run
    except KeyboardInterrupt as stop:
        called, code = said_of(stop)
        if sys.stderr is not None:
            sys.stderr.write(f"{called}: Nothing was begun.\n")
        raise SystemExit(code) from None
    run()

"""What a table of results has to say about how it was made."""

from __future__ import annotations

from wsipsm.benchmark.machine import describe_machine

__all__ = ["describe_machine"]

"""The facts about machine and software that a table of results states, for the scripts of this folder."""

from __future__ import annotations

from wsipsm.benchmark.machine import describe_machine

__all__ = ["describe_machine"]

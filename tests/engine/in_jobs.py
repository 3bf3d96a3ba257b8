"""What jobs do in tests: of a module of its own, since workers import it in a thread."""

from __future__ import annotations

import os


def where(number: int) -> tuple[int, str | None]:
    return number * number, os.environ.get("SAID_BY_PROLOGUE")


def code() -> str:
    return "the same"

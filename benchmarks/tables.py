"""Writes the tables of the benchmarks as Markdown into a file, or prints them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def give_table(first: str, head: Sequence[str], rows: Iterable[Sequence[str]], out: Path | None) -> None:
    """Write a line and a table below it into the file ``out``; print them when it is None."""
    body = ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join([first, "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]) + "\n"
    if out:
        out.write_text(text)
    else:
        print(text, end="")

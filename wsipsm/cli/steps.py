"""Listeners that show the progress of a training on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from wsipsm.cli.terminal import clean_line, show_on

PLAIN_PERIOD_S = 15.0
StepListener = Callable[[str, int, int, float], None]
"""A function that is called with the name of the training, the step, the number of steps and the loss."""


@contextmanager
def open_steps(silent: bool) -> Iterator[StepListener]:
    """Give a listener that draws bars where stderr is a terminal, and writes plain lines elsewhere.

    Parameters
    ----------
    silent
        Whether nothing is shown, as for ``--quiet`` and ``--json``.
    """
    if silent:
        yield lambda part, step, steps, loss: None
    elif not sys.stderr.isatty():
        yield PlainSteps(sys.stderr)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4g}", markup=False),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            tasks = {}

            def show(part: str, step: int, steps: int, loss: float) -> None:
                if part not in tasks:
                    tasks[part] = progress.add_task(clean_line(part), total=steps, loss=loss)
                progress.update(tasks[part], completed=step + 1, loss=loss)

            yield show


class PlainSteps:
    """Writes a line every few seconds, and one at the end of each training."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._shown_s = float("-inf")

    def __call__(self, part: str, step: int, steps: int, loss: float) -> None:
        """Take a step."""
        now = self._clock()
        if step + 1 < steps and now - self._shown_s < PLAIN_PERIOD_S:
            return
        self._shown_s = now
        show_on(self._stream, f"{part}: step {step + 1} of {steps}, loss {loss:.4g}")

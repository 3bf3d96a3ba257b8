"""Draws the loss of trainings: the loss of every step, and its running mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wsipsm.rundir import write_aside

_WINDOW_SHARE = 0.05
"""Window of the running mean, as a share of the steps."""


def draw_losses(path: Path, losses: Mapping[str, Sequence[float]]) -> None:
    """Draw a panel for each training.

    Parameters
    ----------
    path
        PNG to be written; an existing file is replaced.
    losses
        Loss of every step, by the training's name.

    Raises
    ------
    OutputError
        When the disk is full or the place is not writable.
    """
    figure = Figure(figsize=(4.6 * max(1, len(losses)), 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (name, values) in enumerate(losses.items(), start=1):
        axes = figure.add_subplot(1, len(losses), number)
        axes.plot(values, color="#9fb7d6", linewidth=0.8)
        window = max(1, round(_WINDOW_SHARE * len(values)))
        if len(values) >= window:
            running = np.convolve(values, np.ones(window) / window, mode="valid")
            axes.plot(np.arange(window - 1, len(values)), running, color="#1f5fa8", linewidth=1.6)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
    with write_aside(path) as temporary:
        figure.savefig(temporary, format="png")

"""Figures that a marker scores beside the share of positive nuclei, such as the H-score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads markers for its help, and starts faster without arrays
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FigureKind:
    """Definition of a figure that is scored beside the share of positive nuclei, such as the H-score."""

    key: str
    """Name of the figure in files."""
    name: str
    """Name of the figure in reports."""
    measure: Callable[[NDArray[np.floating], float], float]
    """Function that computes the figure from the mean DAB optical densities of nuclei, shape (n,) with n > 0, and the
    DAB cut."""
    decimals: int
    """Number of decimals in reports."""
    method: str
    """How the figure is computed and who introduced it, in plain words."""

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
    """A figure that is scored beside the share of positive nuclei, such as the H-score."""

    key: str
    """Names it in files."""
    name: str
    """Names it for a reader."""
    measure: Callable[[NDArray[np.floating], float], float]
    """Function of mean DAB optical densities of nuclei, shape (n,) with n > 0, and of the cut from which one is
    positive."""
    decimals: int
    """Digits behind the point that a reader is shown."""
    method: str
    """How it is made and whose it is, in plain words."""

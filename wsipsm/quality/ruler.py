"""The ruler of the pixel-size check: how far a patch's true pixel size lies from the one at which it is read.

Ridge regression (Hoerl and Kennard 1970) on what the shipped H&E network's maps are like. Nobody labels anything: any
picture whose pixel size is known, read as if it were another, is an example. ``benchmarks/pixel_size_fit.py`` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from wsipsm.stain import REFERENCE_HEMATOXYLIN

RULER_PATH = Path(__file__).with_name("ruler.json")
_MAX_DEVIATIONS = 6.0
"""What is farther from the mean of the fit counts as being this far: no channel may decide alone."""
_RED_OD_OF_NUCLEI = 0.9
_RED_QUANTILE = 0.97
_GAINS = (0.5, 4.0)
_MAX_OD = 2.4
_HEMATOXYLIN_OVER_RED = np.array(REFERENCE_HEMATOXYLIN, np.float32) / np.float32(REFERENCE_HEMATOXYLIN[0])


@dataclass(frozen=True, slots=True)
class Ruler:
    """A linear estimate of octaves between the true pixel size of a patch and the one at which it is read."""

    sha256: str
    """SHA-256 of the weights that the ruler is fitted for."""
    mean: NDArray[np.float64]
    """Mean of the descriptions that the ruler was fitted on, shape (figures,)."""
    spread: NDArray[np.float64]
    """Standard deviations of these descriptions, shape (figures,), above 0."""
    slopes: NDArray[np.float64]
    """Octaves a standard deviation, shape (figures,)."""
    intercept: float

    def octaves(self, described: NDArray[np.floating]) -> NDArray[np.float64]:
        """Estimate the base-2 logarithm of true over assumed pixel size.

        Parameters
        ----------
        described
            Descriptions of n patches, as :meth:`wsipsm.models.describe.Describer.describe` gives them: shape (n, 3,
            channels).

        Returns
        -------
        Shape (n,).
        """
        figures = np.asarray(described, np.float64).reshape(len(described), -1)
        deviations = np.clip((figures - self.mean) / self.spread, -_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        return np.asarray(deviations @ self.slopes + self.intercept, np.float64)

    def to_json(self) -> bytes:
        """Write it as :func:`read_ruler` reads it."""
        arrays = {
            name: [float(f"{value:.5g}") for value in getattr(self, name)] for name in ("mean", "spread", "slopes")
        }
        return orjson.dumps({"sha256": self.sha256, "intercept": round(self.intercept, 5), **arrays}) + b"\n"


@cache
def read_ruler(path: Path = RULER_PATH) -> Ruler:
    """Read the ruler of the package."""
    values = orjson.loads(path.read_bytes())
    arrays = {name: np.asarray(values[name], np.float64) for name in ("mean", "spread", "slopes")}
    return Ruler(sha256=values["sha256"], intercept=values["intercept"], **arrays)


def show_nuclei(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw what absorbs red light as hematoxylin of a usual strength.

    Blue and brown nuclei absorb red, eosin hardly does. So H&E and Ki-67, pale and dark, come to look alike, and one
    ruler fits them all, with many more laboratories to be fitted on.

    Parameters
    ----------
    rgb
        Shape (h, w, 3), uint8.

    Returns
    -------
    Shape (h, w, 3), uint8.
    """
    density = -np.log10(np.maximum(rgb[..., 0].astype(np.float32), 1) / 255)
    darkest = max(float(np.quantile(density, _RED_QUANTILE)), 1e-3)
    density = density * np.float32(np.clip(_RED_OD_OF_NUCLEI / darkest, *_GAINS))
    shown = np.minimum(density[..., None] * _HEMATOXYLIN_OVER_RED, _MAX_OD)
    return np.asarray((255 * 10**-shown).round(), np.uint8)

"""The ruler of the pixel-size check: it estimates how far a patch's true pixel size lies from the assumed one.

It is a ridge regression (Hoerl and Kennard 1970) on statistics of the shipped H&E network's maps. Its fit needs no
labels: any picture of known pixel size is an example when it is read at another. It is made by
``benchmarks/pixel_size_fit.py``.
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
"""Standard deviations at which a figure is cut off, so that no channel decides alone."""
_RED_OD_OF_NUCLEI = 0.9
"""Red optical density that the darkest pixels of a patch are scaled to."""
_RED_QUANTILE = 0.97
"""Quantile of red density that counts as that of the darkest pixels."""
_GAINS = (0.5, 4.0)
"""Smallest and largest factor of that scaling."""
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
        """Write the ruler as JSON, in the form that :func:`read_ruler` reads."""
        arrays = {
            name: [float(f"{value:.5g}") for value in getattr(self, name)] for name in ("mean", "spread", "slopes")
        }
        return orjson.dumps({"sha256": self.sha256, "intercept": round(self.intercept, 5), **arrays}) + b"\n"


@cache
def read_ruler(path: Path = RULER_PATH) -> Ruler:
    """Read a ruler from its JSON file; by default the one that comes with the package."""
    values = orjson.loads(path.read_bytes())
    arrays = {name: np.asarray(values[name], np.float64) for name in ("mean", "spread", "slopes")}
    return Ruler(sha256=values["sha256"], intercept=values["intercept"], **arrays)


def show_nuclei(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour what absorbs red light as hematoxylin of a usual strength.

    Blue and brown nuclei absorb red light, and eosin hardly does. So H&E and Ki-67 slides, pale and dark, look alike
    after this, and one ruler serves them all and can be fitted on images of many more laboratories.

    Parameters
    ----------
    rgb
        RGB image of shape (h, w, 3), uint8.

    Returns
    -------
    RGB image of the same shape, uint8.
    """
    density = -np.log10(np.maximum(rgb[..., 0].astype(np.float32), 1) / 255)
    darkest = max(float(np.quantile(density, _RED_QUANTILE)), 1e-3)
    density = density * np.float32(np.clip(_RED_OD_OF_NUCLEI / darkest, *_GAINS))
    shown = np.minimum(density[..., None] * _HEMATOXYLIN_OVER_RED, _MAX_OD)
    return np.asarray((255 * 10**-shown).round(), np.uint8)

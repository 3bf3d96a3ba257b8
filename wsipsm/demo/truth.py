"""The truth of a demo slide: outline, centre and class of every nucleus that was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from wsipsm.errors import UsageError
from wsipsm.geometry import Size
from wsipsm.keys import NucleusClass, Stain

TRUTH_SUFFIX = ".truth.json"


@dataclass(frozen=True, slots=True)
class DrawnTruth:
    """Nuclei of a drawn slide, in level-0 pixels, corner convention."""

    size: Size
    mpp: float
    stain: Stain
    seed: int
    polygons: NDArray[np.object_]
    """Shapely polygons, shape (n,); no two overlap."""
    classes: NDArray[np.str_]
    """Values of ``NucleusClass``, shape (n,)."""

    @property
    def centroids_px0(self) -> NDArray[np.float64]:
        """Centroids x, y, shape (n, 2)."""
        return shapely.get_coordinates(shapely.centroid(self.polygons)).reshape(-1, 2)

    @property
    def n_positive(self) -> int:
        """Nuclei drawn with DAB."""
        return int(np.count_nonzero(self.classes == NucleusClass.POSITIVE.value))

    @property
    def labelling_index(self) -> float | None:
        """Share of nuclei drawn with DAB; None on H&E and without nuclei."""
        if self.stain is Stain.HE or not len(self.polygons):
            return None
        return self.n_positive / len(self.polygons)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, coordinates with two decimals."""
        outlines = (shapely.get_coordinates(polygon).round(2).tolist() for polygon in self.polygons)
        return {
            "width": self.size.width,
            "height": self.size.height,
            "mpp": self.mpp,
            "stain": self.stain.value,
            "seed": self.seed,
            "nuclei": [
                {"class": str(name), "outline": outline} for name, outline in zip(self.classes, outlines, strict=True)
            ],
        }

    def save(self, path: Path) -> None:
        """Write as JSON; an OSError is left to the caller, who knows the final name."""
        path.write_bytes(orjson.dumps(self.to_dict()))

    @classmethod
    def load(cls, path: Path) -> DrawnTruth:
        """Read what :meth:`save` wrote.

        Raises
        ------
        UsageError
            When the file is missing or is something else.
        """
        try:
            data = orjson.loads(path.read_bytes())
            nuclei = data["nuclei"]
            polygons = np.array([shapely.Polygon(nucleus["outline"]) for nucleus in nuclei], dtype=object)
            return cls(
                size=Size(data["width"], data["height"]),
                mpp=data["mpp"],
                stain=Stain(data["stain"]),
                seed=data["seed"],
                polygons=polygons,
                classes=np.array([nucleus["class"] for nucleus in nuclei], dtype=np.str_),
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path}: not the truth of a drawn slide ({error}); the JSON beside the slide is needed. "
                "Draw the slide again."
            ) from error

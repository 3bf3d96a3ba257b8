"""The truth of a drawn slide: outline, centroid and class of every nucleus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, Field, ValidationError

from wsipsm.errors import UsageError
from wsipsm.geometry import Size
from wsipsm.keys import NucleusClass, Stain
from wsipsm.results.record import first_problem

TRUTH_SUFFIX = ".truth.json"


class DrawnNucleus(BaseModel):
    """One nucleus in the file of the truth."""

    kind: str = Field(validation_alias=AliasChoices("class", "kind"), serialization_alias="class")
    outline: list[tuple[float, float]]
    """Vertices x, y in level-0 pixels."""


class TruthFile(BaseModel):
    """The content of the JSON file beside a drawn slide."""

    width: int
    height: int
    mpp: float
    stain: Stain
    seed: int
    nuclei: tuple[DrawnNucleus, ...]


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
        """Centroids x, y in level-0 pixels, shape (n, 2)."""
        return shapely.get_coordinates(shapely.centroid(self.polygons)).reshape(-1, 2)

    @property
    def n_positive(self) -> int:
        """Number of nuclei drawn with DAB."""
        return int(np.count_nonzero(self.classes == NucleusClass.POSITIVE.value))

    @property
    def labelling_index(self) -> float | None:
        """Share of nuclei drawn with DAB; None on H&E and without nuclei."""
        if self.stain is Stain.HE or not len(self.polygons):
            return None
        return self.n_positive / len(self.polygons)

    def save(self, path: Path) -> None:
        """Write the truth as JSON with two decimals; the caller handles an OSError, since it knows the final name."""
        outlines = (shapely.get_coordinates(polygon).round(2).tolist() for polygon in self.polygons)
        stored = TruthFile(
            width=self.size.width,
            height=self.size.height,
            mpp=self.mpp,
            stain=self.stain,
            seed=self.seed,
            nuclei=tuple(
                DrawnNucleus(kind=str(kind), outline=outline)
                for kind, outline in zip(self.classes, outlines, strict=True)
            ),
        )
        path.write_bytes(orjson.dumps(stored.model_dump(mode="json", by_alias=True)))

    @classmethod
    def load(cls, path: Path) -> DrawnTruth:
        """Read what :meth:`save` wrote.

        Raises
        ------
        UsageError
            When the file is missing or holds no such truth.
        """
        try:
            stored = TruthFile.model_validate_json(path.read_bytes())
            polygons = np.array([shapely.Polygon(nucleus.outline) for nucleus in stored.nuclei], dtype=object)
        except (OSError, ValueError) as error:  # a ValidationError is a ValueError
            what = first_problem(error) if isinstance(error, ValidationError) else str(error)
            raise UsageError(
                f"{path}: not the truth of a drawn slide ({what}); the JSON beside the slide is needed. "
                "Draw the slide again."
            ) from error
        return cls(
            size=Size(stored.width, stored.height),
            mpp=stored.mpp,
            stain=stored.stain,
            seed=stored.seed,
            polygons=polygons,
            classes=np.array([nucleus.kind for nucleus in stored.nuclei], dtype=np.str_),
        )

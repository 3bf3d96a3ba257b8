"""The definition of a nuclear marker: its names, what is scored of it, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wsipsm.markers.bands import BandSet, ComparedBands
from wsipsm.markers.figures import FigureKind

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,23}$"
"""Regular expression that the name of a marker matches."""


class Place(StrEnum):
    """The part of a cell in which a marker's brown belongs."""

    NUCLEI = "nuclei"
    UNSTATED = "unstated"
    """Nothing but its name is known of the marker."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A nuclear marker that DAB shows.

    Each marker that wsipsm knows is one module of `wsipsm.markers.known`. Any other marker is scored as well, with the
    share of positive nuclei and its intervals, and without bands.
    """

    key: str
    """Key as a user writes it: lower case letters and digits."""
    name: str
    """Name as reports spell it."""
    aliases: frozenset[str] = frozenset()
    """Other names and clones of antibodies, as lower case letters and digits."""
    place: Place = Place.UNSTATED
    """Where its brown belongs; a slide on which it lies elsewhere gets no index."""
    index_name: str = "labelling index"
    """Name of the share of positive nuclei in reports."""
    min_nuclei: int = 500
    """Fewest nuclei of a score that may be reported, and of a hot spot."""
    min_nuclei_reference: str = ""
    """Publication that asks for this number; empty where none is known, and the usual number is kept."""
    bands: tuple[BandSet, ...] = ()
    """Bands of an index, one set for each question that it answers."""
    compared_by: tuple[ComparedBands, ...] = ()
    """Bands by which the agreement of two indices of a slide is judged."""
    figures: tuple[FigureKind, ...] = ()
    """Figures that are scored beside the share of positive nuclei."""
    index_columns: tuple[str, ...] = ()
    """Names that the column of its index may have in tables of human readers."""

    @property
    def spellings(self) -> frozenset[str]:
        """Every name of the marker, as lower case letters and digits."""
        return self.aliases | {self.key}

    @property
    def belief(self) -> str:
        """Words for where its brown is assumed to lie; they are the reason to withhold an index where it does not."""
        return "an index counts stained nuclei" if self.place is Place.UNSTATED else f"{self.name} stains {self.place}"

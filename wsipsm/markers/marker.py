"""The definition of a nuclear marker: its names, what is scored of it, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wsipsm.markers.bands import BandSet, ComparedBands
from wsipsm.markers.figures import FigureKind

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._/+-]{0,23}$"
"""What the name of a marker may be."""


class Place(StrEnum):
    """The part of a cell in which a marker's brown belongs."""

    NUCLEI = "nuclei"
    UNSTATED = "unstated"
    """The marker is known by its name alone."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A nuclear marker that DAB shows.

    A marker that wsipsm knows is one module of `wsipsm.markers.known`; every other has its name, its share of positive
    nuclei and intervals, and no bands.
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
    """What the share of positive nuclei is called."""
    min_nuclei: int = 500
    """Fewest nuclei of a score that may be reported, and of its hot spot."""
    min_nuclei_reference: str = ""
    """Publication that asks for so many; empty where none is known, and the usual number is kept."""
    bands: tuple[BandSet, ...] = ()
    """How an index is read, one set a question."""
    compared_by: tuple[ComparedBands, ...] = ()
    """How two indices of a slide are read where their agreement is asked."""
    figures: tuple[FigureKind, ...] = ()
    """What is scored beside the share of positive nuclei."""
    index_columns: tuple[str, ...] = ()
    """Names under which readers' tables keep its index."""

    @property
    def spellings(self) -> frozenset[str]:
        """Every name it is known by, as lower case letters and digits."""
        return self.aliases | {self.key}

    @property
    def belief(self) -> str:
        """What is taken for granted about its brown, as the reason to withhold an index where it is not so."""
        return "an index counts stained nuclei" if self.place is Place.UNSTATED else f"{self.name} stains {self.place}"

"""``score.json``: all figures of a scoring."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from wsipsm.keys import Artefact
from wsipsm.region import Use
from wsipsm.results.record import Facts, Number, Record
from wsipsm.results.run_record import FrameFacts, RegionRecord
from wsipsm.results.shown_scoring import Scoring
from wsipsm.scoring.fields import FieldMean
from wsipsm.scoring.hotspot import HotSpotSearch
from wsipsm.scoring.index import LabellingIndex
from wsipsm.scoring.score import Figure
from wsipsm.scoring.spatial import SpatialInterval


class AnnotationFacts(Facts):
    """The use of a drawn annotation; see `region.annotation_rows`."""

    annotation: str
    """Name of the annotation, or how many there are."""
    classification: str = Field(alias="class")
    use: Use
    area_mm2: Number
    n_nuclei: int | None
    """None where a part of it was never searched."""


class BandFacts(Facts):
    """The place of an index among limits; see `markers.bands.BandCall`."""

    name: str
    band: str
    meaning: str
    limits: tuple[Number, ...]
    straddled: tuple[Number, ...]
    """Limits inside the interval."""
    reference: str
    certain: bool
    """Whether the whole interval lies in the band."""


class CutFacts(Facts):
    """The DAB cut of a scoring."""

    dab_od: Number
    """Optical density from which a nucleus is positive."""
    cut_from: str = Field(alias="from")
    share_near: Number | None = Field(alias="share_within_0.05_od")
    """Share of nuclei within 0.05 OD of the cut; None without nuclei."""


class CurveFacts(Facts):
    """The index at each of some cuts; empty without nuclei."""

    dab_od: tuple[Number, ...]
    index: tuple[Number, ...]


class FiguresIfAny(Facts):
    """A part of a file in which figures stand only where the marker has some."""

    @model_serializer(mode="wrap")
    def _without_no_figures(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = write(self)
        return {name: value for name, value in values.items() if name != "figures" or value != []}


class ScoreRecord(FiguresIfAny, Record):
    """Scores of a marker in a region; ``score.json`` holds it.

    Where the index is withheld, so is all that gives it away.
    """

    artefact: ClassVar[Artefact] = Artefact.SCORE

    slide: str
    """Name of its file."""
    fingerprint: str
    frame: FrameFacts
    region: RegionRecord
    version: str
    scoring: Scoring
    """Which nuclei count and from which cut."""
    index_withheld: str | None
    """Why no index may be given."""
    notes: tuple[str, ...]
    """Notes on the region."""
    annotations: tuple[AnnotationFacts, ...]
    index: LabellingIndex | None
    """The headline; None where it is withheld."""
    interval: SpatialInterval | None
    """Interval of the same index, with neighbours allowed to be alike; None without nuclei too."""
    unweighted_mean: FieldMean | None
    area_weighted_mean: FieldMean | None
    hot_spot: HotSpotSearch | None
    bands: tuple[BandFacts, ...] | None
    cut: CutFacts
    threshold_curve: CurveFacts | None
    figures: tuple[Figure, ...] | None = ()
    """Figures beside the share of positive nuclei, for markers that have such; None where they are withheld."""
    flags: tuple[str, ...]
    """What the checks of the picture say, and what limits the figures."""

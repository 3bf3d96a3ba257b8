"""``score.json``: all figures of a scoring."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AliasChoices, Field

from wsipsm.facts import Facts, FrameFacts, Number, RegionRecord
from wsipsm.keys import Artefact
from wsipsm.markers.bands import BandCall
from wsipsm.region import AnnotationFacts
from wsipsm.results.record import Record
from wsipsm.results.scoring_key import Scoring
from wsipsm.scoring.fields import FieldMean
from wsipsm.scoring.hotspot import HotSpotSearch
from wsipsm.scoring.index import LabellingIndex
from wsipsm.scoring.score import Figure, MarkerScore
from wsipsm.scoring.spatial import SpatialInterval


class CutFacts(Facts):
    """The DAB cut of a scoring."""

    dab_od: Number
    """Optical density from which a nucleus is positive."""
    cut_from: str = Field(validation_alias=AliasChoices("from", "cut_from"), serialization_alias="from")
    share_near: Number | None = Field(
        validation_alias=AliasChoices("share_within_0.05_od", "share_near"), serialization_alias="share_within_0.05_od"
    )
    """Share of nuclei within 0.05 OD of the cut; None without nuclei."""

    @classmethod
    def of(cls, score: MarkerScore) -> CutFacts:
        """Collect the facts from a score."""
        return cls(dab_od=score.cut_od, cut_from=score.cut_from, share_near=score.share_near_cut)


class CurveFacts(Facts):
    """The index at each cut from 0 to 1; empty without nuclei."""

    dab_od: tuple[Number, ...]
    index: tuple[Number, ...]


class ScoreRecord(Record):
    """Scores of a marker in a region; ``score.json`` holds it.

    Where the index is withheld, so is all that gives it away.
    """

    artefact: ClassVar[Artefact] = Artefact.SCORE
    only_if_any: ClassVar[frozenset[str]] = frozenset({"figures"})

    slide: str
    """Name of the slide's file."""
    fingerprint: str
    frame: FrameFacts
    region: RegionRecord
    version: str
    scoring: Scoring
    """The nuclei that count, and the cut from which they are positive."""
    index_withheld: str | None
    """Why the index is withheld; None where it is not."""
    notes: tuple[str, ...]
    """Notes on the region."""
    annotations: tuple[AnnotationFacts, ...]
    index: LabellingIndex | None
    """The main figure, the labelling index; None where it is withheld."""
    interval: SpatialInterval | None
    """Interval of the index that allows for neighbours being alike; None where it is withheld or without nuclei."""
    unweighted_mean: FieldMean | None
    area_weighted_mean: FieldMean | None
    hot_spot: HotSpotSearch | None
    bands: tuple[BandCall, ...] | None
    cut: CutFacts
    threshold_curve: CurveFacts | None
    figures: tuple[Figure, ...] | None = ()
    """Figures beside the share of positive nuclei, for markers that have such; None where they are withheld."""
    flags: tuple[str, ...]
    """Sentences of the picture's checks that are not ok, and on what limits the figures."""

    def figures_only(self) -> dict[str, object]:
        """Return plain values for ``--json``: all but slide, frame, region and version."""
        origin = {"slide", "fingerprint", "frame", "region", "version"}
        return self.model_dump(mode="json", by_alias=True, exclude=origin)

"""``summary.json``: the facts about a finished slide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, InstanceOf, SerializerFunctionWrapHandler, model_serializer

from wsipsm.errors import EXIT_INCOMPLETE, EXIT_OK
from wsipsm.facts import Facts, Number, PolygonFacts, TissueFacts
from wsipsm.keys import Artefact
from wsipsm.markers.bands import BandCall
from wsipsm.quality.finding import Finding
from wsipsm.region import AnnotationFacts, Region
from wsipsm.results.record import Record
from wsipsm.results.score_record import CutFacts
from wsipsm.results.shown_scoring import Scoring
from wsipsm.rundir import RunDir
from wsipsm.scoring.drift import StainStatistics
from wsipsm.scoring.fields import FieldMean
from wsipsm.scoring.hotspot import HotSpotSearch
from wsipsm.scoring.index import LabellingIndex
from wsipsm.scoring.score import Figure, MarkerScore
from wsipsm.scoring.spatial import SpatialInterval
from wsipsm.text import JsonObject

RESULTS = (
    Artefact.CELLS,
    Artefact.GEOJSON,
    Artefact.OVERVIEW,
    Artefact.RUN,
    Artefact.SUMMARY,
    Artefact.PICTURE,
)
"""Files of a finished slide."""
RESEARCH_USE = "Research use, not for diagnosis"
"""The notice that stands on everything that a person reads."""


class ScoreFacts(Facts):
    """The scores beside the index, as in ``score.json``; see `results.score_record.ScoreRecord`."""

    only_if_any: ClassVar[frozenset[str]] = frozenset({"figures"})

    interval: SpatialInterval | None
    """Interval of the index, with neighbours allowed to be alike; None without nuclei."""
    unweighted_mean: FieldMean
    area_weighted_mean: FieldMean
    hot_spot: HotSpotSearch
    bands: tuple[BandCall, ...]
    cut: CutFacts
    figures: tuple[Figure, ...] = ()
    """Figures beside the share of positive nuclei, for markers that have such."""
    flags: tuple[str, ...]

    @classmethod
    def of(cls, score: MarkerScore) -> ScoreFacts:
        """Take them from a score."""
        return cls(
            interval=score.interval,
            unweighted_mean=score.unweighted,
            area_weighted_mean=score.area_weighted,
            hot_spot=score.hot_spot,
            bands=score.bands,
            cut=CutFacts.of(score),
            figures=score.figures,
            flags=score.flags,
        )


class _NameFirst(Facts):
    """The name stands first in ``summary.json``, before the kind."""

    annotations: tuple[AnnotationFacts, ...]
    """What each drawn annotation was taken for."""

    @model_serializer(mode="wrap")
    def _name_first(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = write(self)
        annotations = values.pop("annotations")
        return {"name": values.pop("name"), **values, "annotations": annotations}


class ScoredTissue(TissueFacts, _NameFirst):
    """The tissue that was found and scored."""


class ScoredPolygon(PolygonFacts, _NameFirst):
    """The region that was drawn and scored."""


def scored_region(region: Region, annotations: Sequence[AnnotationFacts]) -> ScoredTissue | ScoredPolygon:
    """Say what was scored, and what each drawn annotation was taken for."""
    facts = region.facts()
    kind = ScoredTissue if isinstance(facts, TissueFacts) else ScoredPolygon
    return kind.model_validate({**dict(facts), "annotations": annotations})


class RunSummary(Record):
    """Result of one slide; ``summary.json`` holds the same, and the sizes of the run's files."""

    artefact: ClassVar[Artefact] = Artefact.SUMMARY
    only_if_any: ClassVar[frozenset[str]] = frozenset({"restored"})
    as_they_are: ClassVar[frozenset[str]] = frozenset({"slide", "folder"})

    slide: InstanceOf[str]
    """Path it was opened from."""
    folder: InstanceOf[str]
    """Where the results lie."""
    model: str
    model_reason: str
    stain: str
    """What was scored: 'he' or 'ihc'."""
    stain_reason: str
    n_nuclei: int
    n_positive: int
    n_negative: int
    labelling_index: LabellingIndex | None
    """Value, interval, method, region and flags; None on H&E, and where it is withheld."""
    labelling_index_note: str | None
    """Why there is no index: an H&E slide, or a picture that cannot carry one."""
    scores: ScoreFacts | None
    """Spatial interval, means over fields, hot spot, bands and cut, as in ``score.json``; None without an index."""
    stain_statistics: StainStatistics
    """Medians over nuclei and the glass, by which slides of a cohort are compared."""
    region: Annotated[ScoredTissue | ScoredPolygon, Field(discriminator="kind")]
    """Name, kind and area of what was scored, and what each drawn annotation was taken for."""
    scoring: Scoring
    """Which nuclei count and from which cut; every file of the folder says the same."""
    region_area_mm2: Number
    coverage: Number
    """Share of the region whose pixels were read and scored, 0..1."""
    n_blocks: int
    n_failed_blocks: int
    n_tiles: int
    failed_boxes_px0: list[list[int]]
    """x, y, width, height of what could not be read, level-0 pixels."""
    n_too_large: int
    """Instances refused because they were above the model's largest area."""
    mean_area_um2: Number | None
    nuclei_per_mm2: Number | None
    tissue_fraction: Number
    checks: list[Finding]
    """Figures that were checked of the picture, each with its bound."""
    flags: list[str]
    """Sentences of the checks that are not ok, the gravest first: they stand beside the number."""
    notes: list[str]
    seconds: dict[str, Number]
    files: dict[str, str]
    """Artefact to file name in the folder."""
    request_key: str
    """Names slide, options and code; a run with the same one has nothing to do."""
    result_key: str
    version: str
    n_unread_in_plan: int = 0
    """Parts of the overview and patches of the stain sample that could not be read; such a result is not finished."""
    file_bytes: dict[str, int] = Field(default_factory=dict, exclude=True)
    """Size of each file of the run's own scoring; in the file alone, and of a later scoring empty."""
    was_done: bool = Field(default=False, exclude=True)
    """An earlier run made these results; never stored."""
    restored: str = ""
    """The scoring that the folder showed before it showed the run's own again; empty where it did so all along."""

    @property
    def exit_code(self) -> int:
        """0, or 7 when part of the region was not scored."""
        return EXIT_OK if self.is_complete else EXIT_INCOMPLETE

    @property
    def is_complete(self) -> bool:
        """Whether every block was scored and every pixel read."""
        return not self.failed_boxes_px0 and not self.n_failed_blocks

    @property
    def is_finished(self) -> bool:
        """Whether no part must be read again; a part that could not be read may have been absent for a moment only."""
        return self.is_complete and self.coverage == 1 and not self.n_unread_in_plan

    def path(self, artefact: str) -> Path:
        """Tell where an artefact lies."""
        return Path(self.folder) / self.files[artefact]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``summary.json`` and ``--json``."""
        return {**super().to_dict(), "exit_code": self.exit_code}

    def write(self, run_dir: RunDir) -> None:
        """Write the file into a folder, with the sizes where there are some; OutputError when it cannot be written."""
        sizes = {"file_bytes": self.file_bytes} if self.file_bytes else {}
        run_dir.write_json(self.artefact, {**self.to_dict(), **sizes})

    def replaced(self, **values: Any) -> Self:
        """Make the same summary with other values, which are checked like any."""
        return type(self).model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **values})

    @classmethod
    def from_dict(cls, values: JsonObject, folder: Path | str) -> Self:
        """Read the summary from a file that lies in ``folder``, perhaps moved there.

        Raises
        ------
        UsageError
            When values are missing or of another kind; the message names the file.
        """
        found = {**values, "folder": str(folder), "was_done": True, "restored": ""}
        return cls.parse(found, Path(folder) / cls.artefact.value)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; ``path`` is the file or its folder, which is then the folder of the results."""
        read = super().read(path)
        folder = path.parent if path.name == cls.artefact.value else path
        return read.model_copy(update={"folder": str(folder), "was_done": True, "restored": ""})

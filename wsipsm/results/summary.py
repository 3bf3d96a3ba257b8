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
from wsipsm.results.scoring_key import Scoring
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
"""The notice on every page, picture and report that a person reads."""


class ScoreFacts(Facts):
    """The scores beside the index, as in ``score.json``; see `results.score_record.ScoreRecord`."""

    only_if_any: ClassVar[frozenset[str]] = frozenset({"figures"})

    interval: SpatialInterval | None
    """Interval of the index that allows for neighbours being alike; None without nuclei."""
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
        """Collect the facts from a score."""
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
    """A region in ``summary.json``, where its name stands before its kind."""

    annotations: tuple[AnnotationFacts, ...]
    """How each drawn annotation was used."""

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
    """Describe the region that was scored, and how each drawn annotation was used."""
    facts = region.facts()
    kind = ScoredTissue if isinstance(facts, TissueFacts) else ScoredPolygon
    return kind.model_validate({**dict(facts), "annotations": annotations})


class RunSummary(Record):
    """The result of one slide; ``summary.json`` holds the same, and the sizes and digests of the run's files."""

    artefact: ClassVar[Artefact] = Artefact.SUMMARY
    only_if_any: ClassVar[frozenset[str]] = frozenset({"restored"})
    as_they_are: ClassVar[frozenset[str]] = frozenset({"slide", "folder"})

    slide: InstanceOf[str]
    """Path that the slide was opened from."""
    folder: InstanceOf[str]
    """Path of the folder with the results."""
    model: str
    model_reason: str
    stain: str
    """Stain that was scored, 'he' or 'ihc'."""
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
    """Medians of the nuclei's densities, and the grey level of glass, by which slides of a cohort are compared."""
    region: Annotated[ScoredTissue | ScoredPolygon, Field(discriminator="kind")]
    """Name, kind and area of the region that was scored, and how each drawn annotation was used."""
    scoring: Scoring
    """The nuclei that count, and the cut from which they are positive; every file of the folder names the same."""
    region_area_mm2: Number
    coverage: Number
    """Share of the region whose pixels were read and scored, 0..1."""
    n_blocks: int
    n_failed_blocks: int
    n_tiles: int
    failed_boxes_px0: list[list[int]]
    """x, y, width, height of each box that was not read or not scored, level-0 pixels."""
    n_too_large: int
    """Number of instances that were left out because they exceed the model's largest area."""
    mean_area_um2: Number | None
    nuclei_per_mm2: Number | None
    tissue_fraction: Number
    checks: list[Finding]
    """Figures of the picture's checks, each with its bound."""
    flags: list[str]
    """Sentences of the checks that are not ok, the most serious first; reports show them beside the index."""
    notes: list[str]
    seconds: dict[str, Number]
    files: dict[str, str]
    """Name of each file in the folder, by artefact."""
    request_key: str
    """Digest of slide, options and code; a run with the same one has nothing to do."""
    result_key: str
    version: str
    n_unread_in_plan: int = 0
    """Number of parts of the overview and patches of the stain sample that could not be read; where there are some,
    the result is not finished."""
    file_bytes: dict[str, int] = Field(default_factory=dict, exclude=True)
    """Size in bytes of each file of the run's own scoring; empty for a later scoring, and not part of ``--json``."""
    nuclei_sha256: dict[str, str] = Field(default_factory=dict, exclude=True)
    """SHA-256 of the files of nuclei, which tells whether somebody edited them; stored where ``file_bytes`` is."""
    was_done: bool = Field(default=False, exclude=True)
    """Whether an earlier run made these results; never stored."""
    restored: str = ""
    """The other scoring that the folder showed until this run restored its own; empty where it showed its own."""

    @property
    def exit_code(self) -> int:
        """Exit code: 7 when part of the region was not scored, else 0."""
        return EXIT_OK if self.is_complete else EXIT_INCOMPLETE

    @property
    def is_complete(self) -> bool:
        """Whether every block was scored and every pixel of it read."""
        return not self.failed_boxes_px0 and not self.n_failed_blocks

    @property
    def is_finished(self) -> bool:
        """Whether no part must be read again, since a part that could not be read may be readable in the next run."""
        return self.is_complete and self.coverage == 1 and not self.n_unread_in_plan

    def path(self, artefact: str) -> Path:
        """Return the path of an artefact, which is named as in ``files``."""
        return Path(self.folder) / self.files[artefact]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``summary.json`` and ``--json``."""
        return {**super().to_dict(), "exit_code": self.exit_code}

    def write(self, run_dir: RunDir) -> None:
        """Write the file into a folder, with the sizes and digests of the run's files where there are some.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        checks = {"file_bytes": self.file_bytes, "nuclei_sha256": self.nuclei_sha256}
        known = {name: values for name, values in checks.items() if values}
        run_dir.write_json(self.artefact, {**self.to_dict(), **known})

    def replaced(self, **values: Any) -> Self:
        """Make a copy of the summary with other values, which are checked as in a new one."""
        return type(self).model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **values})

    @classmethod
    def from_dict(cls, values: JsonObject, folder: Path | str) -> Self:
        """Read the summary from values of a file; ``folder`` is where the results lie now.

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

"""What a finished slide says about itself: summary.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from wsipsm.errors import EXIT_INCOMPLETE, EXIT_OK
from wsipsm.keys import Artefact

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
"""Stands on everything that a person reads."""


@dataclass(frozen=True)
class RunSummary:
    """Result of one slide; ``summary.json`` holds the same, and the sizes of the run's files."""

    slide: str
    """Path it was opened from."""
    folder: str
    """Where the results lie."""
    model: str
    model_reason: str
    stain: str
    """What was scored: 'he' or 'ihc'."""
    stain_reason: str
    n_nuclei: int
    n_positive: int
    n_negative: int
    labelling_index: dict[str, Any] | None
    """Value, interval, method, region and flags; None on H&E."""
    labelling_index_note: str | None
    """Why there is no index: an H&E slide, or a picture that cannot carry one."""
    scores: dict[str, Any] | None
    """Spatial interval, means over fields, hot spot, bands and cut, as in ``score.json``; None without an index."""
    stain_statistics: dict[str, Any]
    """Medians over nuclei and the glass, by which slides of a study are compared; see `ki67.drift.StainStatistics`."""
    region: dict[str, Any]
    """Name, kind and area of what was scored, and what each drawn annotation was taken for."""
    scoring: dict[str, Any]
    """Which nuclei count and from which cut; every file of the folder says the same. See `results.scoring.Scoring`."""
    region_area_mm2: float
    coverage: float
    """Share of the region whose pixels were read and scored, 0..1."""
    n_blocks: int
    n_failed_blocks: int
    n_tiles: int
    failed_boxes_px0: list[list[int]]
    """x, y, width, height of what could not be read, level-0 pixels."""
    n_too_large: int
    """Instances refused because they were above the model's largest area."""
    mean_area_um2: float | None
    nuclei_per_mm2: float | None
    tissue_fraction: float
    checks: list[dict[str, Any]]
    """Figures that were checked of the picture, each with its bound; see `quality.finding.Finding`."""
    flags: list[str]
    """Sentences of the checks that are not ok, the gravest first: they stand beside the number."""
    notes: list[str]
    seconds: dict[str, float]
    files: dict[str, str]
    """Artefact to file name in the folder."""
    request_key: str
    """Names slide, options and code; a run with the same one has nothing to do."""
    result_key: str
    version: str
    n_unread_in_plan: int = 0
    """Parts of the overview and patches of the stain sample that could not be read; such a result is not finished."""
    was_done: bool = field(default=False)
    """An earlier run made these results; never stored."""
    restored: str = field(default="")
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
        """Whether nothing is left to be read again; what is, may have been away for a moment only."""
        return self.is_complete and self.coverage == 1 and not self.n_unread_in_plan

    def path(self, artefact: str) -> Path:
        """Where an artefact lies."""
        return Path(self.folder) / self.files[artefact]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``summary.json`` and ``--json``."""
        values = asdict(self)
        del values["was_done"]
        if not self.restored:
            del values["restored"]
        return {**values, "exit_code": self.exit_code}

    @classmethod
    def from_dict(cls, values: dict[str, Any], folder: Path) -> Self:
        """Summary from a file that lies in ``folder``, perhaps moved there; KeyError when values are missing."""
        names = [item.name for item in fields(cls) if item.name not in ("was_done", "restored")]
        return cls(**{**{name: values[name] for name in names}, "folder": str(folder)}, was_done=True)

"""One checked figure about a slide's picture, its bound, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class Verdict(StrEnum):
    """The meaning of a figure for the numbers of the slide, from best to worst."""

    OK = "ok"
    """The figure lies within its bound."""
    UNKNOWN = "unknown"
    """The picture shows too little to judge the figure; the text gives the reason."""
    FLAG = "flag"
    """The numbers are given, and a sentence beside them says what is doubtful."""
    WITHHOLD = "withhold"
    """No labelling index is given; counts are given, with a flag."""


class Finding(BaseModel):
    """A figure that was checked; ``summary.json`` lists all of them under ``checks``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """What was checked, in snake case, e.g. ``nuclear_size_um``."""
    value: float | None
    """The figure; None where it could not be measured."""
    unit: str = ""
    """Unit of value and bounds; empty for a share or a ratio."""
    low: float | None = None
    """Lowest value that is ok; None: no such bound."""
    high: float | None = None
    """Highest value that is ok; None: no such bound."""
    verdict: Verdict
    text: str
    """One sentence for a pathologist: what was found, what it means, and what to do."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.name}: low {self.low} is above high {self.high}")
        return self


def flags_of(findings: Iterable[Finding]) -> list[str]:
    """List the sentences that a reader must see beside the number; those that withhold the index come first."""
    doubtful = [finding for finding in findings if finding.verdict in (Verdict.FLAG, Verdict.WITHHOLD)]
    return [finding.text for finding in sorted(doubtful, key=lambda finding: finding.verdict != Verdict.WITHHOLD)]


def reason_to_withhold(findings: Iterable[Finding]) -> str | None:
    """Join the reasons for which no index may be given; None when there is none."""
    reasons = [finding.text for finding in findings if finding.verdict == Verdict.WITHHOLD]
    return " ".join(reasons) or None

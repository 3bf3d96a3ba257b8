"""The facts on their origin that the files of a scoring hold; the same input gives the same facts."""

from __future__ import annotations

from dataclasses import dataclass

from wsipsm.facts import FileFacts
from wsipsm.results.provenance import package_version
from wsipsm.results.scoring_key import Scoring
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame


@dataclass(frozen=True)
class ScoringFileFacts(FileFacts):
    """The origin of a file of areas, such as region or fields."""

    scoring: Scoring

    @classmethod
    def of(cls, info: SlideInfo, frame: SlideFrame, scoring: Scoring) -> ScoringFileFacts:
        """Collect the facts from a slide and its scoring."""
        return cls(f"wsipsm {package_version()}", info.fingerprint, frame.qupath, scoring)


@dataclass(frozen=True)
class NucleiFileFacts(ScoringFileFacts):
    """The origin of a file of nuclei."""

    model: str
    weights_sha256: str
    region: str
    """Name of the region."""


def nuclei_facts(info: SlideInfo, frame: SlideFrame, model: tuple[str, str], scoring: Scoring) -> NucleiFileFacts:
    """Collect the facts of files of nuclei.

    Parameters
    ----------
    info, frame
        Size and fingerprint of the slide, and what QuPath shows of it.
    model
        Name, and SHA-256 of the weights.
    scoring
        Scoring that the files belong to.
    """
    own = ScoringFileFacts.of(info, frame, scoring)
    return NucleiFileFacts(own.software, own.slide_fingerprint, own.qupath_frame, scoring, *model, scoring.region)

"""The key of a scoring: the nuclei that count, and the cut from which they are positive."""

from __future__ import annotations

from dataclasses import dataclass

from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.region import Region
from wsipsm.results.provenance import package_version
from wsipsm.rundir import digest
from wsipsm.slide.base import SlideInfo
from wsipsm.slide.frame import SlideFrame


@dataclass(frozen=True, slots=True)
class Scoring:
    """The nuclei that count and the cut from which they are positive; every file of a scoring carries it."""

    key: str
    """Digest of slide, model, region, cut, marker and version."""
    made_by: str
    """Command that made the scoring, 'run' or 'score'."""
    region: str
    """Name of the region."""
    region_hash: str
    dab_cut_od: float | None
    """DAB optical density from which a nucleus is positive; None on H&E."""
    cut_from: str
    """How the cut was found."""
    marker: str = DEFAULT_MARKER.name
    """Name of the marker, as reports spell it."""

    @classmethod
    def of(
        cls,
        made_by: str,
        slide: tuple[SlideInfo, SlideFrame],
        weights_sha256: str,
        region: Region,
        cut: tuple[float | None, str],
        marker: str = DEFAULT_MARKER.name,
    ) -> Scoring:
        """Make a scoring, with a key from everything that decides it.

        Parameters
        ----------
        made_by
            ``"run"`` or ``"score"``.
        slide
            Facts and frame of the slide.
        weights_sha256
            SHA-256 of the model's weights.
        region
            Region that is scored.
        cut
            DAB optical density from which a nucleus is positive, None on H&E, and how it was found.
        marker
            Name of the marker, as reports spell it.
        """
        info, frame = slide
        outline = region.facts().hash
        place = frame.facts().to_dict()
        key = digest([info.fingerprint, place, weights_sha256, outline, *cut, marker, package_version()])
        return cls(key, made_by, region.name, outline, *cut, marker)

    @property
    def text(self) -> str:
        """Region and cut, in words for the user."""
        cut = "" if self.dab_cut_od is None else f", DAB cut {self.dab_cut_od:.3f} OD"
        return f"{self.region}{cut}"

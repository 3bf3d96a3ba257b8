"""Parts of JSON files that several rooms make or read, and their base class, which checks and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from wsipsm.keys import QuPathFrame
from wsipsm.text import clean_json

Number = int | float
"""A number that stays an integer or a float when it is written to JSON and read again."""


class Facts(BaseModel):
    """A part of a JSON file. Its strings are cleaned when it is made, since a file name may not be valid Unicode."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())
    as_they_are: ClassVar[frozenset[str]] = frozenset()
    """Names of fields whose strings are cleaned only when they are written: paths by which files are opened."""

    only_if_any: ClassVar[frozenset[str]] = frozenset()
    """Names of fields that are left out of the file where they have their default value."""

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value if name in cls.as_they_are else clean_json(value) for name, value in values.items()}

    @model_serializer(mode="wrap")
    def _leave_out(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = write(self)
        kinds = type(self).model_fields
        return {
            name: value
            for name, value in values.items()
            if name not in self.only_if_any or getattr(self, name) != kinds[name].default
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values as the file stores them."""
        return self.model_dump(mode="json", by_alias=True)


class FrameFacts(Facts):
    """The slide's canvas and its parts; see `slide.frame.SlideFrame`."""

    canvas_px0: tuple[int, int]
    """Width and height, level-0 pixels."""
    content_px0: tuple[int, int, int, int]
    """x, y, width, height of the part that holds pixels, level-0 pixels."""
    qupath_frame: QuPathFrame
    qupath_shows_px0: tuple[int, int, int, int]
    """x, y, width, height of the part that QuPath shows, level-0 pixels."""


class TissueFacts(Facts):
    """A region that was found: the tissue; see `tissue.TissueMask`."""

    kind: Literal["tissue"]
    name: str
    area_px0: Number
    """Area of the outline of the tissue, level-0 pixels."""
    n_parts: int
    fraction: Number
    """Share of the thumbnail that is tissue, 0..1."""
    ink_fraction: Number
    """Share of the tissue that is covered by ink, 0..1."""
    px0_per_pixel: Number
    """Level-0 pixels of a pixel of the mask."""
    origin_px0: tuple[int, int]
    note: str | None
    hash: str
    """Hash that identifies the masks."""


class PolygonFacts(Facts):
    """A region that was drawn; see `region.PolygonRegion`."""

    kind: Literal["polygon"]
    name: str
    area_px0: Number
    n_parts: int
    bounds_px0: tuple[Number, ...]
    """Left, top, right, bottom, level-0 pixels."""
    notes: tuple[str, ...]
    hash: str
    """Hash that identifies outline and ground."""


RegionRecord = Annotated[TissueFacts | PolygonFacts, Field(discriminator="kind")]
"""A region as JSON files store it: the tissue that was found, or a region that was drawn."""


@dataclass(frozen=True)
class FileFacts:
    """The origin of a file of nuclei or areas: the software, the slide, and the frame of QuPath."""

    software: str
    slide_fingerprint: str
    qupath_frame: QuPathFrame

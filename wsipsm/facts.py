"""Parts of JSON files that several rooms make or read: how they are checked and written, and those that many share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from wsipsm.keys import QuPathFrame
from wsipsm.text import clean_json

Number = int | float
"""A number that stays what it was, whole or not, on its way through JSON."""


class Facts(BaseModel):
    """A part of a JSON file. Strings are cleaned when it is made, since a file name may be no Unicode at all."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())
    as_they_are: ClassVar[frozenset[str]] = frozenset()
    """Strings that are cleaned when they are written only: paths by which something is opened."""

    only_if_any: ClassVar[frozenset[str]] = frozenset()
    """Fields that the file does not hold where they are what they are by default."""

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
        """Return plain values, as the file holds them."""
        return self.model_dump(mode="json", by_alias=True)


class FrameFacts(Facts):
    """The slide's canvas and its parts; see `slide.frame.SlideFrame`."""

    canvas_px0: tuple[int, int]
    """Width and height, level-0 pixels."""
    content_px0: tuple[int, int, int, int]
    """x, y, width, height of the part that holds pixels, level-0 pixels."""
    qupath_frame: QuPathFrame
    qupath_shows_px0: tuple[int, int, int, int]
    """The same of the part that QuPath shows."""


class TissueFacts(Facts):
    """A region that was found: the tissue; see `tissue.TissueMask`."""

    kind: Literal["tissue"]
    name: str
    area_px0: Number
    """Area of the tissue's own outline, level-0 pixels."""
    n_parts: int
    fraction: Number
    """Share of the slide that is searched, 0..1."""
    ink_fraction: Number
    px0_per_pixel: Number
    """Level-0 pixels of a pixel of the mask."""
    origin_px0: tuple[int, int]
    note: str | None
    hash: str
    """Names the masks."""


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
    """Names outline and ground."""


RegionRecord = Annotated[TissueFacts | PolygonFacts, Field(discriminator="kind")]
"""A region as files hold it: one that was found, or one that was drawn."""


@dataclass(frozen=True)
class FileFacts:
    """The origin of a file of nuclei or areas: by whom, of which slide, in which of QuPath's frames."""

    software: str
    slide_fingerprint: str
    qupath_frame: QuPathFrame

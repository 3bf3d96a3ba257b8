"""Kinds of numbers that the settings of trainings are made of, so that each is checked where it is given."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

CHECKED = ConfigDict(extra="forbid")
"""Configuration of settings: an unknown name is an error."""

_Pair = TypeVar("_Pair", tuple[float, float], tuple[int, int])


def _rising(span: _Pair) -> _Pair:
    if not span[0] <= span[1]:  # written so that not-a-number is met too
        raise ValueError(f"the lower end {span[0]:g} is not below the upper end {span[1]:g}")
    return span


Share = Annotated[float, Field(ge=0, le=1)]
"""A part of the whole, 0..1."""
Score = Annotated[float, Field(ge=0, lt=1)]
"""A network's score that something must reach, 0..1."""
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Sigma = Annotated[float, Field(ge=0, le=3)]
"""Smoothing of a network's input, working pixels; as far as a model card allows."""
OpeningShare = Annotated[float, Field(ge=0, le=0.5)]
"""A share of openings, as in a model card."""
Steps = Annotated[int, Field(ge=1)]
Batch = Annotated[int, Field(ge=1, le=256)]
CropPx = Annotated[int, Field(ge=32, le=2048, multiple_of=16)]
"""Side of a square crop; the network's stride divides it."""
Shrink = Annotated[int, Field(ge=1, le=8)]
_Percent = Annotated[int, Field(ge=1, le=100)]
Span = Annotated[tuple[float, float], AfterValidator(_rising)]
"""Lower and upper end that a number is drawn between."""
PositiveSpan = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
NotNegativeSpan = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_rising)]
Quality = Annotated[tuple[_Percent, _Percent], AfterValidator(_rising)]
"""Lowest and highest JPEG quality."""
ViewGains = Annotated[tuple[Positive, ...], Field(min_length=1)]
"""Gain of the optical density in each test-time augmentation view."""
Scales = Annotated[tuple[Annotated[float, Field(gt=0, le=4)], ...], Field(min_length=1)]
"""Sizes that a network sees an image at."""
Cuts = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
"""Scores that a map is cut at."""

"""Types of numbers in the settings of trainings; each has its bounds, which are checked when the settings are made."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

CHECKED = ConfigDict(extra="forbid")
"""Configuration of settings: an unknown name is an error."""

_Pair = TypeVar("_Pair", tuple[float, float], tuple[int, int])


def _rising(span: _Pair) -> _Pair:
    if not span[0] <= span[1]:  # in this form the comparison also refuses NaN
        raise ValueError(f"the lower end {span[0]:g} is not below the upper end {span[1]:g}")
    return span


Share = Annotated[float, Field(ge=0, le=1)]
"""A share of a whole, 0..1."""
Score = Annotated[float, Field(ge=0, lt=1)]
"""A smallest score of a network, 0..1."""
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Sigma = Annotated[float, Field(ge=0, le=3)]
"""A sigma of the smoothing of a network's input, working pixels, with the bounds of a model card."""
OpeningShare = Annotated[float, Field(ge=0, le=0.5)]
"""The ``opening_share`` of a model card."""
Steps = Annotated[int, Field(ge=1)]
Batch = Annotated[int, Field(ge=1, le=256)]
CropPx = Annotated[int, Field(ge=32, le=2048, multiple_of=16)]
"""Side of a square crop, pixels, a multiple of the network's stride."""
Shrink = Annotated[int, Field(ge=1, le=8)]
_Percent = Annotated[int, Field(ge=1, le=100)]
Span = Annotated[tuple[float, float], AfterValidator(_rising)]
"""Range of a random number: its lower and upper end."""
PositiveSpan = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
NotNegativeSpan = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_rising)]
Quality = Annotated[tuple[_Percent, _Percent], AfterValidator(_rising)]
"""Lowest and highest JPEG quality."""
ViewGains = Annotated[tuple[Positive, ...], Field(min_length=1)]
"""Gain of the optical density in each test-time augmentation view."""
Scales = Annotated[tuple[Annotated[float, Field(gt=0, le=4)], ...], Field(min_length=1)]
"""Factors by which an image is resized for a network."""
Cuts = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
"""Thresholds of a score map."""

"""The model card: what a set of weights is, and what must be known to use it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from wsipsm.geometry import round_up
from wsipsm.keys import Stain

OUTPUTS = {Stain.HE: ("nucleus", "distance"), Stain.IHC: ("nucleus", "distance", "positive")}
"""Names of a network's output channels, in order, by the stain that it is made for."""


class DecodeSettings(BaseModel):
    """Settings of decoding score maps into instances; the card has them because they were chosen with the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    foreground: float = Field(0.5, gt=0, lt=1)
    """Nucleus probability from which a pixel belongs to a nucleus."""
    distance_sigma_px: float = Field(2.0, ge=0)
    """Gaussian smoothing of the distance map before peaks are sought, working pixels."""
    peak_radius_px: int = Field(6, ge=1)
    """A seed is a pixel with the highest distance within this radius, working pixels."""
    peak_min: float = Field(0.25, ge=0, lt=1)
    """Smallest smoothed distance at a seed; the map is 1 at a nucleus' centre."""
    saddle_share: float = Field(0.85, gt=0, le=1)
    """Neighbours stay apart when the smoothed distance on their border is below this share of the lower peak."""
    opening_share: float = Field(0.0, ge=0, le=0.5)
    """Radius of the disc that each instance is opened by, as a part of the square root of its area; 0: none."""
    min_area_um2: float = Field(4.0, gt=0)
    """Smaller instances are dropped, um2."""
    max_area_um2: float = Field(400.0, gt=0)
    """Larger instances are dropped and counted, um2. The size of the halo follows from it too."""
    min_mean_probability: float = Field(0.0, ge=0, lt=1)
    """Instances whose mean nucleus probability is lower are dropped."""
    min_distance: float = Field(0.0, ge=0, lt=1)
    """Instances whose highest distance, not smoothed, is lower are dropped: the network saw no whole nucleus there."""


class DataSource(BaseModel):
    """A set of images that a model was trained on, and its terms of use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    n_images: int
    terms: str


class ModelCard(BaseModel):
    """Everything about a model but its weights; stored as JSON beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    architecture: Literal["nucleus-unet", "nucleus-unet-fine"] = "nucleus-unet"
    """Name of the network; the fine one has a second head, for coarse pixel sizes."""
    stain: Stain
    mpp: float = Field(gt=0)
    """Working pixel size, um/px."""
    stride: int = Field(ge=1)
    """Stride of the network, working pixels; results are independent of position where tile origins are multiples of
    it."""
    reach_px: int = Field(ge=0)
    """Largest distance from an output pixel to an input pixel that changes it, measured, with smoothing, working
    pixels."""
    input_sigma_px: float = Field(0.0, ge=0, le=3)
    """Sigma of the Gaussian smoothing of the image before the network, working pixels. With it, scans of one glass
    slide that were compressed differently give the same nuclei."""
    outputs: tuple[str, ...]
    """Output channels: 'nucleus' and 'distance', then 'positive' where the model scores a marker."""
    decode: DecodeSettings = DecodeSettings()
    sha256: str
    """SHA-256 of the safetensors file."""
    licence: str = "BSD-3-Clause"
    data: tuple[DataSource, ...] = ()
    training: dict[str, str | int | float | bool] = {}
    """Settings of the recipe that made it."""
    scores: dict[str, float] = {}
    """Scores, by 'set/metric'; the README says how they were measured."""

    @property
    def margin_px(self) -> int:
        """Margin around what is kept of the network's output, pixels: its reach, in whole strides."""
        return round_up(self.reach_px, self.stride)

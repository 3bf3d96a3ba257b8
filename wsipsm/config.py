"""Options of a run and of the paper's engine, checked at birth."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsipsm.errors import UsageError
from wsipsm.keys import QuPathFrame, Stain
from wsipsm.markers.marker import NAME_PATTERN
from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.text import JsonObject

if TYPE_CHECKING:
    from wsipsm.region import RoiRules


class FixedStain(BaseModel):
    """Stain vectors and DAB cut that hold for several slides, so that their indices can be compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """Name of the reference: a slide, or how many slides of a cohort."""
    hematoxylin: tuple[float, float, float]
    """Optical density of hematoxylin in red, green and blue; unit length."""
    dab: tuple[float, float, float]
    """Optical density of DAB in red, green and blue; unit length."""
    dab_cut_od: float = Field(gt=0, lt=2)
    """Mean DAB OD from which a nucleus counts as positive."""
    notes: tuple[str, ...] = ()
    """What of it fell back to a fixed value, and why."""


class RunOptions(BaseModel):
    """Options that a user may choose for a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    """Name of a shipped model or path of weights; None: chosen by the stain that the slide shows."""
    marker: str = Field(DEFAULT_MARKER.key, pattern=NAME_PATTERN)
    """Nuclear marker that DAB shows; bands are given for those of `wsipsm.markers.known` alone."""
    mpp: float | None = None
    """Level-0 pixel size, um/px, in place of the file's. Checked where the slide is opened."""
    on_pixel_size: Literal["flag", "refuse"] = "flag"
    """What becomes of a slide whose nuclei do not have the size of nuclei at its pixel size."""
    image: int | None = Field(None, ge=1)
    """Number of the image in the file that is the slide, from 1; None: the largest pyramid."""
    roi: Path | None = None
    """GeoJSON of the region to score; None: all tissue."""
    qupath_frame: QuPathFrame = QuPathFrame.CROPPED
    """What QuPath shows of a slide with an empty canvas around it: where the ROI was drawn, and what GeoJSON is for."""
    roi_class: tuple[str, ...] | None = None
    """Classes of the annotations that count; None: tumour, and every plain one where there is none."""
    exclude_class: tuple[str, ...] | None = None
    """Classes of the annotations that are cut out; None: `wsipsm.region.roles.EXCLUDE_CLASSES`."""
    tma_cores: bool = False
    """Whether TMA cores of the GeoJSON are areas like annotations."""
    absent_class_is_error: bool = True
    """Whether each of these classes must be in the GeoJSON; those of a cohort's slides need not hold all."""
    workers: int | None = Field(None, ge=0)
    """Worker processes; 0 works in this process, None takes what the machine or job grants."""
    scheduler: str | None = None
    """Address of a running Dask scheduler; None starts a local cluster."""
    overwrite: bool = False
    """Redo a finished run. Unfinished runs are continued, and other options replace old results, without it."""
    block_px: int | None = Field(None, ge=64, le=16384)
    """Side of a block's core, working pixels; None: chosen by the slide and the memory that there is."""
    tile_px: int | None = Field(None, ge=32, le=8192)
    """Side of the square the network sees at once without its margin, working pixels; None: chosen with the block's."""
    seed: int = 0
    """Seed of the sample of tissue pixels that the stain profile is fitted on."""
    backend: str = "auto"
    """What runs the network: one of ``keys.BACKENDS``."""
    stain: FixedStain | None = None
    """Stains and DAB cut of a reference; None: fitted on each slide."""

    def roi_rules(self) -> RoiRules:
        """Give which annotations of a region of interest count."""
        from wsipsm.region import RoiRules

        return RoiRules(self.roi_class, self.exclude_class, self.tma_cores, self.absent_class_is_error)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PretextSection(_Section):
    """Pretext task of the activation network (Eq. 1, 2; Table 3)."""

    task: Literal["similarity", "contrast", "rotation", "simsiam", "imagenet", "none"] = "similarity"
    """The names of :class:`wsipsm.psm.pretext.Pretext`."""
    network: str = "res2net101_26w_4s"
    """A CNN of timm, or torchvision:resnet18 and its like."""
    embedding_size: int = Field(128, ge=1, le=4096)
    epochs: float = Field(100, gt=0)
    steps: int | None = Field(None, ge=0)
    """Number of optimiser steps, in place of epochs; the budget scales it."""
    batch: int = Field(4, ge=2, le=256)
    crop_px: int = Field(512, ge=32, le=2048)
    learning_rate: float = Field(1e-4, gt=0)
    margin: float = Field(10.0, ge=0)
    weights: Path | None = None
    """Safetensors that training starts from; imagenet needs them."""


class ActivationSection(_Section):
    """Self-activation map (Eq. 3, 4; Fig. 3)."""

    stage: int = Field(1, ge=1, le=4)
    weights: Literal["image", "set"] = "set"
    """Source of the gradients that weigh the feature maps: each image's own, as in the paper, or the mean over the
    set. A map's sign is arbitrary and is chosen for the image or the set alike, so that the map rises with darkness."""
    rectified: bool = False
    """ReLU of Eq. 3 on each block's sum. Without it maps are cut at their lowest percentile."""


class ClusterSection(_Section):
    """Fusion and semantic clustering (Eq. 5, 6)."""

    beta: float = Field(2.5, ge=0)
    image: Literal["rgb", "stains"] = "rgb"
    """What beta weighs: the raw image, or its stains (H&E)."""
    sigma_px: float = Field(0.0, ge=0, le=20)
    """Standard deviation of a Gaussian over the fused map, pixels; the paper names none."""
    clusters: int = Field(3, ge=2, le=16)
    fitted: Literal["image", "set"] = "image"
    """Frequency of the fit: once an image, where each is from another slide, or once for all of a slide or set."""
    min_area_px: int = Field(200, ge=0)
    """Smaller parts of the pseudo mask are dropped."""
    max_hole_px: int = Field(64, ge=0)
    """Smaller holes of the pseudo mask are filled."""
    opening_px: int = Field(0, ge=0, le=20)
    """Radius of an opening that parts threads from nuclei; the paper has none."""


class NetworkSection(_Section):
    """Training of a ResNet-34 encoder-decoder."""

    epochs: float = Field(100, gt=0)
    steps: int | None = Field(None, ge=1)
    """Number of optimiser steps, in place of epochs; the budget scales it."""
    batch: int = Field(4, ge=1, le=256)
    crop_px: int = Field(512, ge=32, le=2048)
    learning_rate: float = Field(1e-4, gt=0)
    augment: bool = False
    """Turns, mirrors and stain jitter; the paper names none."""
    encoder_weights: Path | None = None
    """Safetensors of torchvision's ResNet-34 that the encoder starts from, as the published code does from ImageNet's;
    None: random weights."""


class DetectionSection(NetworkSection):
    """Settings of the detection (Eq. 7)."""

    radius_px: float = Field(10.0, ge=1, le=200)
    """Radius of the neighbourhood in which a point is the highest, pixels."""
    sigma_px: float = Field(3.0, ge=0, le=50)
    """Standard deviation of the Gaussian that smooths the scores before that, pixels."""
    min_score: float = Field(0.5, ge=0, le=1)


class SegmentationSection(NetworkSection):
    """Settings of the segmentation (Eq. 8)."""

    point_weight: float = Field(0.5, ge=0)
    """Lambda: weight of points and Voronoi edges against the pseudo mask's background."""
    balanced: bool = False
    """Whether points and edges weigh alike, however many pixels they have; the paper does not."""
    point_radius_px: int = Field(2, ge=0, le=20)
    cut: Literal["half", "mask"] = "half"
    """Nuclear is what scores above one half, as in the paper, or as many of an image's pixels as its pseudo mask has:
    a network taught by a few pixels at points scores few above one half. Changing it trains nothing anew."""
    instances: Literal["components", "points", "watershed"] = "components"
    """Nuclei are connected parts, as in the paper, or parts divided from the detected points, or by their shape.
    Changing it trains nothing anew."""


class PaperOptions(_Section):
    """Every hyperparameter of the paper's engine; defaults are the paper's for MoNuSeg where it states them."""

    stain: Stain = Stain.HE
    pretext: PretextSection = PretextSection()
    activation: ActivationSection = ActivationSection()
    clusters: ClusterSection = ClusterSection()
    detection: DetectionSection = DetectionSection()
    segmentation: SegmentationSection = SegmentationSection()
    seed: int = Field(0, ge=0)
    budget: float = Field(1.0, gt=0, le=100)
    """Share of the epochs that are trained."""


def read_toml(path: Path, option: str, example: str) -> JsonObject:
    """Read a settings file as it is; what its keys mean is checked by who asked for it.

    Parameters
    ----------
    path
        Path of the file.
    option
        Option that named the file, for errors.
    example
        Where a user sees what such a file holds, for errors.

    Raises
    ------
    UsageError
        When the file is unreadable or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); TOML is needed. Check {option}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}; valid TOML is needed. See {example}.") from error


def paper_defaults(stain: Stain) -> dict[str, object]:
    """Give the settings of the paper for a stain: MoNuSeg's for H&E, BCData's for IHC."""
    shared: dict[str, object] = {"stain": stain, "activation": {"weights": "image", "rectified": True}}
    return shared if stain == Stain.HE else shared | {"clusters": {"beta": 4.0, "fitted": "set"}}


def read_paper_options(path: Path | None, stain: Stain | None = None, **changes: Any) -> PaperOptions:
    """Read the engine's options from a TOML file; every error names the file, the key and the value.

    Parameters
    ----------
    path
        None: the paper's settings for the stain.
    stain
        What the images are stained with; a file made for another stain is refused. None: H&E, or what the file says.
    changes
        Options of the command line, which go before the file's.

    Raises
    ------
    UsageError
        When the file is unreadable, no TOML, or holds an unknown key or an impossible value.
    """
    if path is None:
        values = paper_defaults(stain or Stain.HE)
    else:
        values = read_toml(path, "--config", "pipelines/paper_monuseg.toml")
    if stain is not None:
        values.setdefault("stain", stain)
    try:
        options = PaperOptions.model_validate({**values, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if key in changes:
            raise UsageError(f"--{key} {changes[key]}: refused; {first['msg'].lower()}. See --help.") from error
        raise UsageError(
            f"{path}: {key} = {first.get('input')!r}: {first['msg']}; see pipelines/paper_monuseg.toml for every key."
        ) from error
    if stain is not None and options.stain != stain:
        raise UsageError(f"{path}: stain = '{options.stain}': the images are {stain}; settings for {stain} are needed.")
    return options

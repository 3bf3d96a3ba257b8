"""Options of a run and of the paper's engine, validated when they are made."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsipsm.errors import UsageError
from wsipsm.keys import DEVICE_PATTERN, QuPathFrame, Stain
from wsipsm.markers.marker import NAME_PATTERN
from wsipsm.markers.registry import DEFAULT_MARKER
from wsipsm.models.inference import Inference, choose_inference
from wsipsm.text import JsonObject

if TYPE_CHECKING:
    from wsipsm.region import RoiRules
    from wsipsm.stain import StainProfile


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
    """Which of these values are a fixed default because they could not be fitted, and why."""

    def replace_in(self, profile: StainProfile) -> StainProfile:
        """Put these stains and this cut in the place of a slide's own.

        The slide's glass stays, and a profile of H&E is returned unchanged.
        """
        if profile.stain is not Stain.IHC:
            return profile
        return replace(
            profile,
            hematoxylin=self.hematoxylin,
            counterstain=self.dab,
            dab_cut_od=self.dab_cut_od,
            notes=(*profile.glass_notes, *(f"{self.source}: {note}" for note in self.notes)),
            cut_from=f"fixed, from {self.source}",
        )


class RunOptions(BaseModel):
    """Options that a user may choose for a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    """Name of a shipped model or path of weights; None: the shipped model for the stain that the slide shows."""
    marker: str = Field(DEFAULT_MARKER.key, pattern=NAME_PATTERN)
    """Nuclear marker that DAB shows. Only markers of `wsipsm.markers.known` can have bands."""
    mpp: float | None = None
    """Level-0 pixel size, um/px, instead of the file's; it is checked when the slide is opened. None: the file's."""
    on_pixel_size: Literal["flag", "refuse"] = "flag"
    """Whether a slide whose nuclei are too small or too large for its pixel size gets a flag or is refused."""
    image: int | None = Field(None, ge=1)
    """Which image of the file to use as the slide, counted from 1; None: the largest pyramid."""
    roi: Path | None = None
    """GeoJSON of the region to score; None: all tissue."""
    qupath_frame: QuPathFrame = QuPathFrame.CROPPED
    """Which part QuPath shows of a slide with an empty canvas around it; ROI and written GeoJSON are in this frame."""
    roi_class: tuple[str, ...] | None = None
    """Classes of the annotations that count; None: tumour, or, where there is none, all that are not cut out; these
    must then be of one class."""
    exclude_class: tuple[str, ...] | None = None
    """Classes of the annotations that are cut out; None: `wsipsm.region.roles.EXCLUDE_CLASSES`."""
    tma_cores: bool = False
    """Whether TMA cores of the GeoJSON count as annotations do."""
    absent_class_is_error: bool = True
    """Whether the GeoJSON must have each class of `roi_class` and `exclude_class`; a cohort's files need not."""
    workers: int | None = Field(None, ge=0)
    """Worker processes; 0 works in this process, None takes what the machine or job grants."""
    scheduler: str | None = None
    """Address of a running Dask scheduler; None starts a local cluster."""
    overwrite: bool = False
    """Whether a finished run is computed again. An unfinished run is continued, and results of other options are
    replaced, in either case."""
    block_px: int | None = Field(None, ge=64, le=16384)
    """Side of a block's core, working pixels; None: chosen by the slide's size and the free memory."""
    tile_px: int | None = Field(None, ge=32, le=8192)
    """Side of a tile without its halo, working pixels; None: chosen together with `block_px`."""
    seed: int = 0
    """Seed of the sample of tissue pixels that the stain profile is fitted on."""
    backend: str = "auto"
    """Backend that runs the network, one of ``keys.BACKENDS``."""
    device: str = Field("auto", pattern=rf"^({DEVICE_PATTERN})$")
    """Device that runs the network."""
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Number format of the network, one of ``keys.PRECISIONS``."""
    inference: Inference | None = None
    """Backend, device and number format as chosen by these three, once for a run or cohort; None before the choice."""
    stain: FixedStain | None = None
    """Stains and DAB cut of a reference; None: fitted on each slide."""

    profile: bool = False
    """Whether the results get a trace of when each step ran on which worker."""

    def how_to_infer(self, elsewhere: bool = False) -> Inference:
        """Give what runs the network, chosen now where that was not done before.

        Parameters
        ----------
        elsewhere
            Whether the work is done on other machines although no scheduler is named yet.

        Raises
        ------
        ModelError
            When it is not there.
        """
        here = self.scheduler is None and not elsewhere
        return self.inference or choose_inference(self.backend, self.device, self.precision, here)

    def with_inference(self, elsewhere: bool = False) -> RunOptions:
        """Choose what runs the network, for good; see :meth:`how_to_infer`."""
        return self.model_copy(update={"inference": self.how_to_infer(elsewhere)})

    def roi_rules(self) -> RoiRules:
        """Return the rules that decide which annotations of a region of interest count."""
        from wsipsm.region import RoiRules

        return RoiRules(self.roi_class, self.exclude_class, self.tma_cores, self.absent_class_is_error)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PretextSection(_Section):
    """Pretext task of the activation network (Eq. 1, 2; Table 3)."""

    task: Literal["similarity", "contrast", "rotation", "simsiam", "imagenet", "none"] = "similarity"
    """One of the names of :class:`wsipsm.psm.pretext.Pretext`."""
    network: str = "res2net101_26w_4s"
    """Name of a CNN of timm, or of torchvision with a prefix, such as ``torchvision:resnet18``."""
    embedding_size: int = Field(128, ge=1, le=4096)
    epochs: float = Field(100, gt=0)
    steps: int | None = Field(None, ge=0)
    """Number of optimiser steps, in place of epochs; the budget scales it."""
    batch: int = Field(4, ge=2, le=256)
    crop_px: int = Field(512, ge=32, le=2048)
    learning_rate: float = Field(1e-4, gt=0)
    margin: float = Field(10.0, ge=0)
    weights: Path | None = None
    """Safetensors file that training starts from; the task ``imagenet`` needs one."""


class ActivationSection(_Section):
    """Self-activation map (Eq. 3, 4; Fig. 3)."""

    stage: int = Field(1, ge=1, le=4)
    weights: Literal["image", "set"] = "set"
    """Source of the gradients that weigh the feature maps: each image's own, as in the paper, or the mean over the
    set. A map's sign is arbitrary; it is chosen for each image, or once for the set, so that the map rises with
    darkness."""
    rectified: bool = False
    """Whether the ReLU of Eq. 3 is applied to each block's sum. Otherwise maps are cut at their lowest percentile."""


class ClusterSection(_Section):
    """Fusion and semantic clustering (Eq. 5, 6)."""

    beta: float = Field(2.5, ge=0)
    image: Literal["rgb", "stains"] = "rgb"
    """What beta weighs: the raw image, or its stain densities (H&E only)."""
    sigma_px: float = Field(0.0, ge=0, le=20)
    """Standard deviation of a Gaussian that smooths the fused map, pixels; the paper names no such step."""
    clusters: int = Field(3, ge=2, le=16)
    fitted: Literal["image", "set"] = "image"
    """How often clusters are fitted: for each image, which suits images of different slides, or once for a slide or
    set."""
    min_area_px: int = Field(200, ge=0)
    """Smallest area of a part of the pseudo mask that is kept, pixels."""
    max_hole_px: int = Field(64, ge=0)
    """Largest area of a hole of the pseudo mask that is filled, pixels."""
    opening_px: int = Field(0, ge=0, le=20)
    """Radius in pixels of a morphological opening that cuts threads off nuclei; the paper has no such step."""


class NetworkSection(_Section):
    """Training of a ResNet-34 encoder-decoder."""

    epochs: float = Field(100, gt=0)
    steps: int | None = Field(None, ge=1)
    """Number of optimiser steps, in place of epochs; the budget scales it."""
    batch: int = Field(4, ge=1, le=256)
    crop_px: int = Field(512, ge=32, le=2048)
    learning_rate: float = Field(1e-4, gt=0)
    augment: bool = False
    """Whether patches are turned, mirrored and varied in stain; the paper names no augmentation."""
    encoder_weights: Path | None = None
    """Safetensors file of torchvision's ResNet-34 that the encoder starts from (the published code starts from
    ImageNet weights); None: random weights."""


class DetectionSection(NetworkSection):
    """Settings of the detection (Eq. 7)."""

    radius_px: float = Field(10.0, ge=1, le=200)
    """Radius in pixels of the neighbourhood in which a point must have the highest score."""
    sigma_px: float = Field(3.0, ge=0, le=50)
    """Standard deviation in pixels of the Gaussian that smooths the scores before points are searched."""
    min_score: float = Field(0.5, ge=0, le=1)


class SegmentationSection(NetworkSection):
    """Settings of the segmentation (Eq. 8)."""

    point_weight: float = Field(0.5, ge=0)
    """Lambda: weight of points and Voronoi edges against the pseudo mask's background."""
    balanced: bool = False
    """Whether points and edges have equal weight, however many pixels they have; in the paper they have not."""
    point_radius_px: int = Field(2, ge=0, le=20)
    cut: Literal["half", "mask"] = "half"
    """Which pixels are nuclear: those that score above one half, as in the paper (``half``), or the highest-scoring
    ones, as many as the image's pseudo mask has (``mask``), since a network trained on few pixels scores few above one
    half. A change of this setting repeats no training."""
    instances: Literal["components", "points", "watershed"] = "components"
    """How nuclei are separated: as connected parts, as in the paper (``components``), by a division from the detected
    points (``points``), or by shape (``watershed``). A change of this setting repeats no training."""


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
    """Factor on the number of epochs or steps; 1 trains all of them."""


def read_toml(path: Path, option: str, example: str) -> JsonObject:
    """Read a settings file; the caller checks its keys and values.

    Parameters
    ----------
    path
        Path of the file.
    option
        Option that named the file, for errors.
    example
        Path of a file of this kind that a user can look at, for errors.

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
    """Return the paper's settings for a stain, as values for `PaperOptions`: MoNuSeg's for H&E, BCData's for IHC."""
    shared: dict[str, object] = {"stain": stain, "activation": {"weights": "image", "rectified": True}}
    return shared if stain == Stain.HE else shared | {"clusters": {"beta": 4.0, "fitted": "set"}}


def read_paper_options(path: Path | None, stain: Stain | None = None, **changes: Any) -> PaperOptions:
    """Read the engine's options from a TOML file; every error names the file, the key and the value.

    Parameters
    ----------
    path
        Path of the file; None: the paper's settings for the stain.
    stain
        Stain of the images; a file made for another stain is refused. None: the file's stain, or H&E without one.
    changes
        Options of the command line, which override the file's.

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

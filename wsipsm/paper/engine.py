"""The paper's engine, from unlabelled images to a detector and a segmenter (Fig. 1 of the paper).

Pretext (Eq. 1, 2) -> self-activation maps (Eq. 3, 4) -> fused map and clusters (Eq. 5, 6) -> pseudo masks -> detector
and its points (Eq. 7) -> Voronoi labels and segmenter (Eq. 8). The engine uses pixels alone, and no labels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.config import NetworkSection, PaperOptions, PretextSection
from wsipsm.errors import UsageError
from wsipsm.export.loss_curve import draw_losses
from wsipsm.keys import Stain
from wsipsm.models.resnet_unet import STRIDE, ResnetUnet
from wsipsm.paper.pixel import PixelOptions, TrainingExample, score_pixels, train_pixels
from wsipsm.psm.activation import (
    FeatureWeights,
    MapScale,
    activation_weights,
    central_patch,
    fit_map_scale,
    map_sign,
    self_activation_map,
)
from wsipsm.psm.backbone import ActivationNetwork
from wsipsm.psm.points import divide_by_points, find_maxima, voronoi_label
from wsipsm.psm.pretext import Pretext
from wsipsm.psm.recurrence import divide_touching
from wsipsm.psm.semantic import NUCLEUS, POSITIVE, Fusion, SemanticClusters, clean_classes, fit_clusters
from wsipsm.rundir import digest, output_error
from wsipsm.stain import fit_stain_profile, optical_density
from wsipsm.training.checkpoint import digest_arrays
from wsipsm.training.device import find_compute
from wsipsm.training.fit import LOG_SUFFIX
from wsipsm.training.losses import detection_loss, segmentation_loss
from wsipsm.training.pretext_training import PretextLog, PretextOptions, train_pretext

OPENING_PX = 2
"""Radius of the opening of masks that are divided by their shape, pixels."""
_HALF = 0.5
_PATCH_PX = 256
_MAX_PATCHES = 32
_EVERY_PIXEL = 7
Announce: TypeAlias = Callable[[str], None]
"""A function that is called with a line of text."""
Progress: TypeAlias = Callable[[str, int, int, float], None]
"""A function that is called with the part of the chain, the step, the number of steps and the loss."""


@dataclass(frozen=True, slots=True)
class PaperMaps:
    """The parts that turn an image into a self-activation map, a fused map and a pseudo mask."""

    options: PaperOptions
    network: ActivationNetwork
    weights: FeatureWeights
    """Weights of the feature maps, for the set; empty when each image has its own."""
    sign: float
    """Sign of the set's maps, 1 or -1, with which they are rectified; without rectification it is not used."""
    scale: MapScale
    clusters: SemanticClusters | None
    """Clusters of the set; None: they are fitted to each image."""

    def activation(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the self-activation map in 0..1, rising with darkness, shape (h, w)."""
        return self.scale.apply(_signed_map(self.network, self.weights, self.sign, rgb, self.options))

    def clusters_of(self, rgb: NDArray[np.uint8], activation: NDArray[np.float32]) -> SemanticClusters:
        """Return the clusters that apply to an image."""
        return self.clusters or _fit_clusters([rgb], [activation], self.options)

    def pseudo_mask(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Compute the pseudo mask: classes of :mod:`wsipsm.psm.semantic`, cleaned, shape (h, w)."""
        return self.classify(rgb)[0]

    def classify(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], str]:
        """Compute the pseudo mask of an image, and a note on classes that no cluster has, else an empty text."""
        activation = self.activation(rgb)
        clusters = self.clusters_of(rgb, activation)
        return self.mask_of(rgb, activation, clusters), clusters.note

    def mask_of(
        self, rgb: NDArray[np.uint8], activation: NDArray[np.float32], clusters: SemanticClusters
    ) -> NDArray[np.uint8]:
        """Compute the pseudo mask of an image whose activation and clusters are known already."""
        section = self.options.clusters
        classes = clusters.apply(activation, rgb)
        return clean_classes(classes, section.min_area_px, section.max_hole_px, section.opening_px)


@dataclass(frozen=True, slots=True)
class PaperEngine:
    """The trained engine: maps, detector and segmenter."""

    maps: PaperMaps
    log: PretextLog
    detector: ResnetUnet
    segmenter: ResnetUnet | None
    """Network of the segmentation; None where only detection was trained, as always on IHC."""

    def scores(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the detector's score of background and of each class of nuclei, shape (classes, h, w)."""
        return score_pixels(self.detector, rgb)

    def points_in(self, scores: NDArray[np.float32]) -> dict[int, NDArray[np.float64]]:
        """Find the points (x, y) of each class of nuclei in scores (Eq. 7); NUCLEUS, and POSITIVE on IHC."""
        return _find_points(scores, self.maps.options)

    def points(self, rgb: NDArray[np.uint8]) -> dict[int, NDArray[np.float64]]:
        """Find the points of an image; see :meth:`points_in`."""
        return self.points_in(self.scores(rgb))

    def segment(
        self,
        rgb: NDArray[np.uint8],
        points: NDArray[np.float64] | None = None,
        pseudo_mask: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.int32]:
        """Compute the label image of an image's nuclei (Eq. 8), shape (h, w), int32.

        Parameters
        ----------
        rgb
            Image of shape (h, w, 3), uint8.
        points
            Detected points of the image, where they are already known; used when ``instances`` is "points".
        pseudo_mask
            Pseudo mask of the image, where it is already known; used when ``cut`` is "mask".

        Raises
        ------
        UsageError
            When the engine was trained for detection only.
        """
        if self.segmenter is None:
            raise UsageError("segmentation: the engine was trained for detection only. Use points.")
        settings = self.maps.options.segmentation
        nucleus = score_pixels(self.segmenter, rgb)[1]
        cut = _HALF
        if settings.cut == "mask":
            known = self.maps.pseudo_mask(rgb) if pseudo_mask is None else pseudo_mask
            cut = float(np.quantile(nucleus, 1 - (known > 0).mean()))
        mask = nucleus > cut
        if settings.instances == "points":
            return divide_by_points(mask, self.points(rgb)[NUCLEUS] if points is None else points)
        if settings.instances == "watershed":
            return divide_touching(mask, OPENING_PX)
        return np.asarray(ndimage.label(mask)[0], np.int32)


def train_paper(
    images: Sequence[NDArray[np.uint8]],
    options: PaperOptions,
    keep: Path | None,
    announce: Announce,
    progress: Progress,
    *,
    segmenting: bool = True,
) -> PaperEngine:
    """Train the whole engine.

    Parameters
    ----------
    images
        RGB, each of shape (height, width, 3), uint8; of any sizes.
    options
        Settings of the engine.
    keep
        Folder in which checkpoints and logs are stored, in a subfolder for these images and settings; a training that
        was killed is continued from them. None: nothing is stored.
    announce
        Function that is called with a line of text at each step of the chain.
    progress
        Function that is called with the stage's name, the step, the number of steps and the loss.
    segmenting
        Whether a segmenter is trained too; on IHC none is.

    Raises
    ------
    UsageError
        When there is no image, or one is too small, or none shows a nucleus.
    ModelError
        When a checkpoint in the folder is of another training.
    """
    maps, log = train_maps(images, options, keep, announce, progress)
    masks = []
    for number, rgb in enumerate(images, start=1):
        mask, note = maps.classify(rgb)
        masks.append(mask)
        line = f"pseudo masks {number}/{len(images)}: {np.mean(mask > 0):.0%} of the image is nuclear"
        announce(f"{line}; {note}" if note else line)
    if not any(mask.any() for mask in masks):
        raise UsageError("psm: no image shows a nuclear cluster; tissue with nuclei is needed. Check its stain.")
    identity = _identity(images, options)
    keep = keep and _own_folder(keep, identity)
    detector = train_pixels(
        [TrainingExample(rgb, (mask,)) for rgb, mask in zip(images, masks, strict=True)],
        2 if options.stain == Stain.HE else 3,
        detection_loss,
        _pixel_options(options.detection, options, len(images)),
        partial(progress, "detector"),
        keep and keep / "detector",
        identity,
    )
    if options.stain == Stain.IHC or not segmenting:
        _draw_curves(keep)
        return PaperEngine(maps, log, detector, None)
    examples = []
    for number, (rgb, mask) in enumerate(zip(images, masks, strict=True), start=1):
        points = _find_points(score_pixels(detector, rgb), options)[NUCLEUS]
        announce(f"points {number}/{len(images)}: {len(points)} nuclei")
        voronoi = voronoi_label(points, mask.shape, options.segmentation.point_radius_px)
        examples.append(TrainingExample(rgb, (mask, voronoi)))
    segmenter = train_pixels(
        examples,
        2,
        partial(
            segmentation_loss,
            point_weight=options.segmentation.point_weight,
            balanced=options.segmentation.balanced,
        ),
        _pixel_options(options.segmentation, options, len(images)),
        partial(progress, "segmenter"),
        keep and keep / "segmenter",
        identity,
    )
    _draw_curves(keep)
    return PaperEngine(maps, log, detector, segmenter)


def train_maps(
    images: Sequence[NDArray[np.uint8]],
    options: PaperOptions,
    keep: Path | None,
    announce: Announce,
    progress: Progress,
) -> tuple[PaperMaps, PretextLog]:
    """Train the activation network, and fit weights, scale and clusters to the images; see :func:`train_paper`."""
    if not images:
        raise UsageError("psm: there is no image to learn from; at least one is needed. Check the folder.")
    smallest = min(min(rgb.shape[:2]) for rgb in images)
    if smallest < STRIDE:
        raise UsageError(
            f"psm: an image has a side of {smallest} px; at least {STRIDE} px are needed. Take it out, or work at a "
            "smaller pixel size."
        )
    if options.clusters.image == "stains" and options.stain != Stain.HE:
        raise UsageError('clusters.image = "stains": given for IHC; it is made for H&E. Choose "rgb".')
    if smallest < max(options.pretext.crop_px, options.detection.crop_px):
        announce(f"the smallest image has a side of {smallest} px: crops of all images will be no larger")
    section = options.pretext
    pretext = PretextOptions(
        steps=_steps(section, options, len(images)),
        batch=section.batch,
        crop_px=section.crop_px,
        learning_rate=section.learning_rate,
        seed=options.seed,
        pretext=Pretext(section.task),
        network=section.network,
        embedding_size=section.embedding_size,
        margin=section.margin,
        weights=section.weights,
    )
    keep = keep and _own_folder(keep, _identity(images, options))
    network, log = train_pretext(images, pretext, partial(progress, "pretext"), keep and keep / "pretext")
    announce(_pretext_text(pretext, log))
    return fit_maps(network, images, options), log


def fit_maps(network: ActivationNetwork, images: Sequence[NDArray[np.uint8]], options: PaperOptions) -> PaperMaps:
    """Fit feature weights, sign and scale of the maps, and clusters where the set shares them."""
    chosen = images[:: math.ceil(len(images) / _MAX_PATCHES)]
    section = options.activation
    weights: FeatureWeights = ()
    sign = 1.0
    if section.weights == "set":
        patches = [central_patch(rgb, _PATCH_PX) for rgb in chosen]
        weights = activation_weights(network, patches, section.stage)
    if weights and section.rectified:  # in all other cases the scale includes the sign
        plain = [self_activation_map(network, weights, rgb, section.stage) for rgb in chosen]
        sign = map_sign(_sampled(plain), _sampled([_darkness(rgb) for rgb in chosen]))
    raw = [_signed_map(network, weights, sign, rgb, options) for rgb in chosen]
    scale = fit_map_scale(raw, [_darkness(rgb) for rgb in chosen])
    clusters = None
    if options.clusters.fitted == "set":
        clusters = _fit_clusters(chosen, [scale.apply(plane) for plane in raw], options)
    return PaperMaps(options, network, weights, sign, scale, clusters)


def _signed_map(
    network: ActivationNetwork, weights: FeatureWeights, sign: float, rgb: NDArray[np.uint8], options: PaperOptions
) -> NDArray[np.float32]:
    """Compute a map before scaling; the sign is the set's, or the image's own where it has weights of its own."""
    section = options.activation
    if weights:
        return self_activation_map(network, weights, rgb, section.stage, sign if section.rectified else None)
    own = activation_weights(network, [rgb], section.stage)
    plain = self_activation_map(network, own, rgb, section.stage)
    sign = map_sign(_sampled([plain]), _sampled([_darkness(rgb)]))
    if section.rectified:
        return self_activation_map(network, own, rgb, section.stage, sign)
    return np.asarray(sign * plain, dtype=np.float32)


def _darkness(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return optical_density(rgb, (255.0, 255.0, 255.0))[..., 0]


def _sampled(planes: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([plane[::_EVERY_PIXEL, ::_EVERY_PIXEL].ravel() for plane in planes])


def _fit_clusters(
    images: Sequence[NDArray[np.uint8]], activations: Sequence[NDArray[np.float32]], options: PaperOptions
) -> SemanticClusters:
    pixels = np.concatenate([rgb.reshape(-1, 3)[::_EVERY_PIXEL] for rgb in images])
    profile = fit_stain_profile(pixels, options.stain, options.seed)
    section = options.clusters
    fusion = Fusion(profile, section.beta, section.image == "stains", section.sigma_px)
    return fit_clusters(images, activations, fusion, options.stain, options.seed, section.clusters)


def _find_points(scores: NDArray[np.float32], options: PaperOptions) -> dict[int, NDArray[np.float64]]:
    section = options.detection
    kinds = (NUCLEUS,) if options.stain == Stain.HE else (NUCLEUS, POSITIVE)
    return {kind: find_maxima(scores[kind], section.radius_px, section.min_score, section.sigma_px) for kind in kinds}


def _pixel_options(section: NetworkSection, options: PaperOptions, n_images: int) -> PixelOptions:
    steps = _steps(section, options, n_images)
    return PixelOptions(
        steps,
        section.batch,
        section.crop_px,
        section.learning_rate,
        options.seed,
        section.augment,
        section.encoder_weights,
    )


def _steps(section: PretextSection | NetworkSection, options: PaperOptions, n_images: int) -> int:
    if section.steps is not None:
        return max(min(1, section.steps), round(section.steps * options.budget))
    return max(1, round(section.epochs * math.ceil(n_images / section.batch) * options.budget))


def _own_folder(keep: Path, identity: str) -> Path:
    """Make the folder of one training, so that a training with other settings does not touch its checkpoints."""
    folder = keep / identity[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def _draw_curves(keep: Path | None) -> None:
    """Plot the losses of the logs in a folder."""
    if keep is None:
        return
    logs = {name: keep / f"{name}{LOG_SUFFIX}" for name in ("pretext", "detector", "segmenter")}
    found = {name: _read_losses(path) for name, path in logs.items() if path.exists()}
    if found:
        draw_losses(keep / "losses.png", found)


def _read_losses(path: Path) -> list[float]:
    with path.open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def _identity(images: Sequence[NDArray[np.uint8]], options: PaperOptions) -> str:
    """Compute the hash of the pixels and settings that shape a training; its checkpoints belong to this hash."""
    settings = options.model_dump(mode="json", exclude={"segmentation": {"cut", "instances"}})
    return digest({"pixels": digest_arrays(images), "options": settings})


def _pretext_text(options: PretextOptions, log: PretextLog) -> str:
    if not log.losses:
        return f"pretext {options.pretext}: not trained, embedding spread {log.spread:.3g}"
    state = "COLLAPSED, its maps say little" if log.collapsed else f"embedding spread {log.spread:.3g}"
    losses = f"loss {log.losses[0]:.3g} to {log.losses[-1]:.3g}"
    return f"pretext {options.pretext}: {len(log.losses)} steps, {losses}, {state}; {find_compute().description}"

"""The student's training on random crops of pseudo-labelled images, with a moving average of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor, nn

from wsipsm.models.smooth_batch import smooth_batch
from wsipsm.models.unet import NucleusUnet
from wsipsm.psm.pseudo_label import PseudoLabel, normalised_distance
from wsipsm.training.augment import AugmentOptions, compress, crop_scaled, jitter_stains, turn
from wsipsm.training.bounds import CHECKED, Batch, CropPx, Positive, Share, Sigma, Steps
from wsipsm.training.fit import BatchSource, FitOptions, Progress, averaged_plan, fit
from wsipsm.training.losses import ROBUSTNESS, student_loss
from wsipsm.training.paste import Canvas, Cutout, PasteOptions, paste_nuclei, to_density, to_rgb


@checked_dataclass(frozen=True, slots=True, config=CHECKED)
class StudentOptions:
    """Settings of the student's training."""

    steps: Steps = 600
    batch: Batch = 6
    crop_px: CropPx = 256
    learning_rate: Positive = 2e-3
    seed: int = 0
    input_sigma_px: Sigma = 0.0
    """Sigma of the smoothing of the input, pixels, which becomes that of the model card."""
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    paste: PasteOptions = field(default_factory=PasteOptions)
    """Settings of pasting nuclei into images that have cutouts."""
    robustness: Share = ROBUSTNESS
    """Exponent q of the generalised cross-entropy on nucleus and positive."""


@dataclass(frozen=True, slots=True)
class PseudoLabelledImage:
    """An image with its pseudo labels."""

    rgb: NDArray[np.uint8]
    label: PseudoLabel
    cutouts: tuple[Cutout, ...] = ()
    """Nuclei of this image that may be pasted into its crops."""


_Batch: TypeAlias = tuple[Tensor, list[Tensor]]


def train_student(
    labelled: Sequence[PseudoLabelledImage],
    n_outputs: int,
    options: StudentOptions,
    start: dict[str, Tensor] | None = None,
    progress: Progress | None = None,
    keep: Path | None = None,
    identity: str = "",
) -> NucleusUnet:
    """Train the network on pseudo labels.

    Parameters
    ----------
    labelled
        Images with their pseudo labels.
    n_outputs
        Number of output channels: 2 for H&E, 3 for IHC.
    options
        Settings; two runs on the same CPU with the same seed give the same weights.
    start
        Weights to start from, by name; those whose shape fits are taken, the others stay random.
    progress
        Function that is called with the step, the number of steps and the loss.
    keep
        Path of checkpoint and log, without suffix; None: nothing is stored.
    identity
        Hash of all that shapes the images and their pseudo labels; a checkpoint of others is not continued.

    Returns
    -------
    The network with the averaged weights, in evaluation mode.

    Raises
    ------
    WsipsmError
        When the loss is not finite.
    ModelError
        When the checkpoint is of another training.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = NucleusUnet(n_outputs)
    _start_from(network, start or {})
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def make_batch(source: BatchSource) -> _Batch:
        rgb, *targets = _draw_batch(labelled, options, source)
        rgb = smooth_batch(jitter_stains(rgb, options.augment, source.generator()), options.input_sigma_px)
        return rgb.contiguous(memory_format=torch.channels_last), targets

    def loss(trained: nn.Module, batch: _Batch, device: torch.device) -> Tensor:
        rgb, targets = batch
        nucleus, distance, positive = (target.to(device) for target in targets)
        return student_loss(trained(rgb.to(device)).float(), nucleus, distance, positive, options.robustness)

    plan = averaged_plan(network, make_batch, loss, options.learning_rate, options.steps)
    fit(plan, FitOptions(options.steps, options.seed, keep, f"{options} {n_outputs} {identity}"), progress)
    return network.cpu()


def _start_from(network: NucleusUnet, start: dict[str, Tensor]) -> None:
    own = network.state_dict()
    fitting = {name: value for name, value in start.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict({**own, **fitting})


def _draw_batch(
    labelled: Sequence[PseudoLabelledImage], options: StudentOptions, source: BatchSource
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = source.rng
    crops = [
        _draw_crop(labelled[int(rng.integers(len(labelled)))], options, rng) for _ in range(source.share(options.batch))
    ]
    rgb, nucleus, distance, positive = (np.stack(planes) for planes in zip(*crops, strict=True))
    return (
        torch.from_numpy(rgb).permute(0, 3, 1, 2).float(),
        torch.from_numpy(nucleus),
        torch.from_numpy(distance),
        torch.from_numpy(positive),
    )


def _draw_crop(
    labelled: PseudoLabelledImage, options: StudentOptions, rng: np.random.Generator
) -> list[NDArray[np.generic]]:
    window, soft = crop_scaled(labelled.rgb.shape, options.crop_px, options.augment, rng)
    size = (options.crop_px, options.crop_px)
    scale = options.crop_px / (window[0].stop - window[0].start)
    rgb = np.asarray(cv2.resize(labelled.rgb[window], size, interpolation=soft), np.uint8)
    nearest = partial(cv2.resize, dsize=size, interpolation=cv2.INTER_NEAREST_EXACT)
    nucleus = np.asarray(nearest(labelled.label.nucleus[window]), np.uint8)
    instances = np.asarray(nearest(labelled.label.instances[window]), np.int32)
    positive = np.asarray(nearest(labelled.label.positive[window]), np.uint8)
    if labelled.cutouts:
        canvas = Canvas(to_density(rgb), nucleus, instances, positive)
        paste_nuclei(canvas, labelled.cutouts, scale, options.paste, rng)
        rgb = to_rgb(canvas.od)
    planes: list[NDArray[np.generic]] = [
        compress(rgb, options.augment, rng),
        nucleus,
        normalised_distance(instances),
        positive,
    ]
    return [np.ascontiguousarray(p) for p in turn(planes, int(rng.integers(4)), bool(rng.random() < 0.5))]

"""Prior self-activation maps: what a self-supervised network's shallow layers respond to (Eq. 3, 4).

Chen et al., "Exploring Unsupervised Cell Recognition with Prior Self-activation Maps", MICCAI 2023.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wsipsm.models.padding import pad_reflected
from wsipsm.psm.backbone import ActivationNetwork

FeatureWeights: TypeAlias = tuple[Tensor, ...]
"""One unit vector for each block of a stage."""
_BORDER_PX = 32
"""Rim at stage 1 in which the network's zero padding shows; images are reflected by it and cropped again. Each stage
further halves the resolution, so it doubles."""


def activation_weights(
    network: ActivationNetwork, patches: Sequence[NDArray[np.uint8]], stage: int = 1
) -> FeatureWeights:
    """Compute the weight of every feature map of a stage (Eq. 4): the spatial mean of the gradient of z by it.

    With one patch these are the paper's weights of that image. Over several they are averaged and then fixed: with a
    nearly random network the sign of single images' weights differs from image to image (measured: the map's AUC for
    nuclei ran from 0.10 to 0.87), and tiles of one slide would not make the map of the slide. Set-wide weights give
    one sign, no seams, and need no gradient later.

    Parameters
    ----------
    network
        Network in evaluation mode, on any device.
    patches
        RGB, each of shape (height, width, 3), uint8.
    stage
        1 to 4.

    Returns
    -------
    The weights, fixed.
    """
    totals: list[Tensor] = []
    for patch in patches:
        features, embedding = network(_as_batch([patch], network), stage)
        gradients = torch.autograd.grad(embedding.sum(), features)
        means = [gradient.mean(dim=(0, 2, 3)) for gradient in gradients]
        totals = means if not totals else [total + mean for total, mean in zip(totals, means, strict=True)]
    return tuple(total / total.norm().clamp_min(1e-12) for total in totals)


def self_activation_map(
    network: ActivationNetwork,
    weights: FeatureWeights,
    rgb: NDArray[np.uint8],
    stage: int = 1,
    rectified_sign: float | None = None,
) -> NDArray[np.float32]:
    """Map of one image; see :func:`self_activation_maps`."""
    return next(self_activation_maps(network, weights, [rgb], stage, rectified_sign=rectified_sign))


def self_activation_maps(
    network: ActivationNetwork,
    weights: FeatureWeights,
    images: Sequence[NDArray[np.uint8]],
    stage: int = 1,
    batch: int = 1,
    rectified_sign: float | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Compute the weighted sum of a stage's feature maps (Eq. 3), averaged over its blocks, before scaling.

    Parameters
    ----------
    network
        Network in evaluation mode, on any device; nothing behind the stage is run and no graph is kept.
    weights
        Weights of the same stage, as :func:`activation_weights` returns them.
    images
        Each of shape (height, width, 3), uint8, of any size; neighbours of one size share a batch.
    stage
        1 to 4.
    batch
        Images at once, at most.
    rectified_sign
        1 or -1: the sum of each block is given this sign and then rectified, the ReLU of Eq. 3. None: it is left as it
        is, of either sign.

    Yields
    ------
    Array of shape (height, width), float32; :func:`map_sign` and :class:`MapScale` set sign and scale.
    """
    for shape, group in groupby(images, key=lambda image: image.shape):
        same = list(group)
        for start in range(0, len(same), batch):
            maps = _weighted_sum(
                network, weights, _as_batch(same[start : start + batch], network), stage, rectified_sign
            )
            for plane in maps.cpu().numpy():
                yield np.ascontiguousarray(plane[: shape[0], : shape[1]], dtype=np.float32)


def _weighted_sum(
    network: ActivationNetwork, weights: FeatureWeights, rgb: Tensor, stage: int, rectified_sign: float | None
) -> Tensor:
    height, width = rgb.shape[2:]
    left, right, top, bottom = _padding(height, width, stage)
    with torch.inference_mode():
        image = pad_reflected(rgb, left, right, top, bottom)
        total = torch.zeros(len(rgb), 1, *image.shape[2:], device=rgb.device)
        for maps, weight in zip(network.features(image, stage), weights, strict=True):
            weighted = (weight[None, :, None, None] * maps).sum(dim=1, keepdim=True)
            if rectified_sign is not None:
                weighted = functional.relu(rectified_sign * weighted)
            total += functional.interpolate(weighted, size=total.shape[2:], mode="bilinear", align_corners=False)
    return total[:, 0, top : top + height, left : left + width] / len(weights)


@dataclass(frozen=True, slots=True)
class MapScale:
    """Sign and scale that the maps of a set or slide share.

    Per-image extremes would make the same tissue differ from image to image, and from tile to tile. Maps that were not
    rectified are cut at their lowest percentile instead of at zero, where a ReLU of a nearly random network would take
    half of them away.
    """

    sign: float
    low: float
    high: float

    def apply(self, activation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give a map of :func:`self_activation_maps` in 0..1, rising with darkness."""
        span = max(self.high - self.low, 1e-12)
        scaled = np.clip((self.sign * activation - self.low) / span, 0.0, 1.0)
        return np.asarray(scaled, dtype=np.float32)


def map_sign(values: NDArray[np.float32], darkness: NDArray[np.float32]) -> float:
    """Sign, 1 or -1, with which map values rise with darkness; arrays of one shape, 1 where either is flat."""
    flat = np.ptp(values) == 0 or np.ptp(darkness) == 0
    return 1.0 if flat or np.corrcoef(values.ravel(), darkness.ravel())[0, 1] >= 0 else -1.0


def fit_map_scale(maps: Sequence[NDArray[np.float32]], darkness: Sequence[NDArray[np.float32]]) -> MapScale:
    """Find the sign and scale of a set of maps.

    The sign is the one with which the maps rise with darkness: the sign of a map of a nearly random network is
    arbitrary, and a ReLU of the wrong sign leaves nothing.

    Parameters
    ----------
    maps
        Maps as :func:`self_activation_maps` returns them, each of shape (height, width).
    darkness
        An optical density for each, same shapes.
    """
    step = 7  # every 49th pixel is enough for a correlation and two percentiles
    values = np.concatenate([m[::step, ::step].ravel() for m in maps])
    dark = np.concatenate([d[::step, ::step].ravel() for d in darkness])
    sign = map_sign(values, dark)
    low, high = np.percentile(sign * values, [1.0, 99.5])
    return MapScale(sign, float(low), float(high))


def orient_maps(
    maps: Sequence[NDArray[np.float32]], darkness: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Scale the maps of a set; see :func:`fit_map_scale` and :class:`MapScale`."""
    scale = fit_map_scale(maps, darkness)
    return [scale.apply(activation) for activation in maps]


def central_patch(rgb: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Crop the middle of an image, at most ``side_px`` wide and high."""
    height, width = rgb.shape[:2]
    y, x = max(0, (height - side_px) // 2), max(0, (width - side_px) // 2)
    return rgb[y : y + side_px, x : x + side_px]


def _as_batch(images: Sequence[NDArray[np.uint8]], network: ActivationNetwork) -> Tensor:
    device = next(network.parameters()).device
    stacked = torch.from_numpy(np.stack([np.ascontiguousarray(image) for image in images]))
    return stacked.to(device).permute(0, 3, 1, 2).float()


def _padding(height: int, width: int, stage: int) -> tuple[int, int, int, int]:
    """Compute left, right, top and bottom rims: whole strides of the stage, so that maps and pixels stay aligned."""
    return (*_rims(width, stage), *_rims(height, stage))


def _rims(side: int, stage: int) -> tuple[int, int]:
    stride = 2 ** (stage + 1)
    border = _BORDER_PX * 2 ** (stage - 1)
    fill = -side % stride
    # A side can be reflected by less than its length only.
    before = min(border, (side - 1) // stride * stride)
    after = fill + min(border, max(0, side - 1 - fill) // stride * stride)
    return before, after

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
"""One unit vector of feature weights, shape (channels,), for each block of a stage."""
_BORDER_PX = 32
"""Width of the rim in which the network's zero padding shows at stage 1, pixels. Images are extended by it with their
reflection, and maps are cropped again. Each further stage halves the resolution, so the rim doubles."""


def activation_weights(
    network: ActivationNetwork, patches: Sequence[NDArray[np.uint8]], stage: int = 1
) -> FeatureWeights:
    """Compute the weight of every feature map of a stage (Eq. 4): the spatial mean of the gradient of z by it.

    With one patch these are the paper's weights of that image. Over several patches they are averaged and then fixed.
    With a nearly random network the sign of the weights differs from image to image (the map's AUC for nuclei was
    measured as 0.10 to 0.87), so the tiles of one slide would not fit together. Weights of a whole set give one sign
    and no seams, and maps need no gradient then.

    Parameters
    ----------
    network
        Network in evaluation mode, on any device.
    patches
        RGB, each of shape (height, width, 3), uint8.
    stage
        Stage of the network, 1 to 4.

    Returns
    -------
    One unit vector for each block of the stage.
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
    """Compute the map of one image, shape (height, width), float32; see :func:`self_activation_maps`."""
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
        Network in evaluation mode, on any device; later stages are not run, and no graph is kept.
    weights
        Weights of the same stage, as :func:`activation_weights` returns them.
    images
        RGB, each of shape (height, width, 3), uint8, of any size; consecutive images of one size share a batch.
    stage
        Stage of the network, 1 to 4.
    batch
        Largest number of images in a batch.
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

    With the extremes of each image the same tissue would differ from image to image, and from tile to tile. Maps that
    were not rectified are cut at their lowest percentile and not at zero, where the ReLU of a nearly random network
    would remove half of them.
    """

    sign: float
    """Sign, 1 or -1, with which maps rise with darkness."""
    low: float
    high: float
    """Values, after the sign, that become 0 and 1."""

    def apply(self, activation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale a map of :func:`self_activation_maps` to 0..1, rising with darkness; same shape, float32."""
        span = max(self.high - self.low, 1e-12)
        scaled = np.clip((self.sign * activation - self.low) / span, 0.0, 1.0)
        return np.asarray(scaled, dtype=np.float32)


def map_sign(values: NDArray[np.float32], darkness: NDArray[np.float32]) -> float:
    """Find the sign, 1 or -1, with which map values rise with darkness; it is 1 where either array is constant."""
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
        Optical density of each image, of the same shapes.
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
    """Fit sign and scale to the maps of a set and apply them; see :func:`fit_map_scale` and :class:`MapScale`."""
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
    # Reflection can extend a side by less than its own length only.
    before = min(border, (side - 1) // stride * stride)
    after = fill + min(border, max(0, side - 1 - fill) // stride * stride)
    return before, after

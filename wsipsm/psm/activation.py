"""Prior self-activation maps: what a self-supervised network's shallow layer responds to.

Chen et al., "Exploring Unsupervised Cell Recognition with Prior Self-activation Maps", MICCAI 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from wsipsm.models.vision import import_torchvision

EMBEDDING_SIZE = 128
_BORDER_PX = 32
"""Rim in which the network's zero padding shows; images are reflected by it and cropped again."""


class ActivationNetwork(nn.Module):
    """ResNet-18 with random weights: feature maps of its first stage, and an embedding z of the image.

    The paper uses Res2Net-101. A map needs the first stage and the gradient that reaches it, for which the
    smaller network does on a CPU.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        models = import_torchvision("models")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = models.resnet18(weights=None)
            self.embed = nn.Linear(self.trunk.fc.in_features, EMBEDDING_SIZE)

    def shallow(self, rgb: Tensor) -> list[Tensor]:
        """Map RGB in 0..255, shape (n, 3, h, w), to the feature maps of every block of the first stage."""
        trunk = self.trunk
        # One scale of input for the pretext and for the map: the published code trained on 0..255 and mapped 0..1.
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(rgb / 127.5 - 1.0))))
        features = []
        for block in trunk.layer1:
            x = block(x)
            features.append(x)
        return features

    def forward(self, rgb: Tensor) -> tuple[list[Tensor], Tensor]:
        """Map RGB in 0..255, shape (n, 3, h, w), to the first stage's feature maps and z of shape (n, 128)."""
        features = self.shallow(rgb)
        trunk = self.trunk
        deep = trunk.layer4(trunk.layer3(trunk.layer2(features[-1])))
        return features, self.embed(deep.mean(dim=(2, 3)))


def activation_weights(network: ActivationNetwork, patches: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
    """Weight of every shallow feature map (Eq. 4): the spatial mean of the gradient of z with respect to it.

    The weights are averaged over patches of the whole set and then fixed. The paper takes them image by image;
    with a nearly random network their sign then differs from image to image (measured: the map's AUC for
    nuclei ran from 0.10 to 0.87), while set-wide weights give one sign, no seams, and need no gradient later.

    Parameters
    ----------
    network
        Trained by :func:`wsipsm.psm.pretext.train_similarity`, in evaluation mode.
    patches
        RGB, each of shape (height, width, 3), uint8.

    Returns
    -------
    One unit vector for each block of the first stage.
    """
    totals: list[Tensor] = []
    for patch in patches:
        features, embedding = network(_as_batch(patch))
        gradients = torch.autograd.grad(embedding.sum(), features)
        means = [gradient.mean(dim=(0, 2, 3)) for gradient in gradients]
        totals = means if not totals else [total + mean for total, mean in zip(totals, means, strict=True)]
    return [total / total.norm().clamp_min(1e-12) for total in totals]


def self_activation_map(
    network: ActivationNetwork, weights: Sequence[Tensor], rgb: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Weighted sum of the shallow feature maps (Eq. 3), averaged over blocks, before sign and scale.

    Parameters
    ----------
    network
        In evaluation mode.
    weights
        From :func:`activation_weights`.
    rgb
        Shape (height, width, 3), uint8.

    Returns
    -------
    Array of shape (height, width), float32, of any sign and scale; :func:`orient_maps` settles both for a set.
    """
    height, width = rgb.shape[:2]
    with torch.no_grad():
        image = functional.pad(_as_batch(rgb), _padding(height, width), mode="reflect")
        total = torch.zeros(1, 1, *image.shape[2:])
        for maps, weight in zip(network.shallow(image), weights, strict=True):
            weighted = (weight[None, :, None, None] * maps).sum(dim=1, keepdim=True)
            total += functional.interpolate(weighted, size=total.shape[2:], mode="bilinear", align_corners=False)
    inner = total[0, 0, _BORDER_PX : _BORDER_PX + height, _BORDER_PX : _BORDER_PX + width] / len(weights)
    return np.ascontiguousarray(inner.numpy(), dtype=np.float32)


def orient_maps(
    maps: Sequence[NDArray[np.float32]], darkness: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Give a set of maps one sign and one scale, then the ReLU of Eq. 3.

    Both are those of the whole set: per-image extremes would make the same tissue differ from image to image
    (and from tile to tile). The sign is the one with which the maps rise with darkness: the sign of a map of a
    nearly random network is arbitrary, and a ReLU of the wrong sign leaves nothing.

    Parameters
    ----------
    maps
        From :func:`self_activation_map`, each of shape (height, width).
    darkness
        An optical density for each, same shapes.

    Returns
    -------
    Maps in 0..1.
    """
    step = 7  # every 49th pixel settles a correlation and two percentiles
    values = np.concatenate([m[::step, ::step].ravel() for m in maps])
    dark = np.concatenate([d[::step, ::step].ravel() for d in darkness])
    sign = 1.0 if np.corrcoef(values, dark)[0, 1] >= 0 else -1.0
    low, high = np.percentile(sign * values, [1.0, 99.5])
    span = max(float(high - low), 1e-12)
    return [np.clip((sign * m - low) / span, 0.0, 1.0).astype(np.float32) for m in maps]


def _as_batch(rgb: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float()


def _padding(height: int, width: int) -> tuple[int, int, int, int]:
    # The first stage has stride 4: padding to a multiple of it keeps maps and pixels aligned.
    return _BORDER_PX, _BORDER_PX + -width % 4, _BORDER_PX, _BORDER_PX + -height % 4

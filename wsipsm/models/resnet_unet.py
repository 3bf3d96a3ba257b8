"""The network of the paper's detector and segmenter: an encoder-decoder on ResNet-34 with one map for each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsipsm.models.vision import import_torchvision

STRIDE = 32
_DECODER = ((512 + 256, 256), (256 + 128, 128), (128 + 64, 64), (64 + 64, 64))


class ResnetUnet(nn.Module):
    """A ResNet-34 encoder and a decoder with skip connections, which give logits at full resolution.

    Parameters
    ----------
    n_classes
        Number of classes: the background and each class of nuclei.
    seed
        Seed of the random weights. The paper starts from ImageNet's; where those are available, load them into
        ``encoder``.
    """

    def __init__(self, n_classes: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = import_torchvision("models").resnet34(weights=None)
            self.encoder.fc = nn.Identity()
            self.decoder = nn.ModuleList(_convolutions(inputs, outputs) for inputs, outputs in _DECODER)
            self.last = _convolutions(64, 32)
            self.head = nn.Conv2d(32, n_classes, 1)

    def forward(self, rgb: Tensor) -> Tensor:
        """Map RGB in 0..255, shape (n, 3, h, w) with sides that are multiples of 32, to logits (n, classes, h, w)."""
        net = self.encoder
        half = net.relu(net.bn1(net.conv1(rgb / 127.5 - 1.0)))
        quarter = net.layer1(net.maxpool(half))
        eighth = net.layer2(quarter)
        sixteenth = net.layer3(eighth)
        y = net.layer4(sixteenth)
        for block, skip in zip(self.decoder, (sixteenth, eighth, quarter, half), strict=True):
            y = block(torch.cat([_doubled(y), skip], dim=1))
        logits: Tensor = self.head(self.last(_doubled(y)))
        return logits


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )

"""The nucleus network: a shallow EfficientNet-Lite0 encoder with a light decoder at half resolution.

The encoder stops at stride 16 (the first block of the 112-channel stage). No layer depends on a whole image: there is
no squeeze-and-excite, and batch norm uses stored statistics. So the network has a finite reach, and its output at a
pixel does not depend on where a tile was cut. Lite0 is that of Tan & Le 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

ENCODER_STRIDE = 16
_BN_EPS = 1e-3


@dataclass(frozen=True, slots=True)
class _Stage:
    expand: int
    channels: int
    kernel: int
    stride: int


# Blocks 0 to 8 of EfficientNet-Lite0, in order.
_BLOCKS = (
    _Stage(1, 16, 3, 1),
    _Stage(6, 24, 3, 2),
    _Stage(6, 24, 3, 1),
    _Stage(6, 40, 5, 2),
    _Stage(6, 40, 5, 1),
    _Stage(6, 80, 3, 2),
    _Stage(6, 80, 3, 1),
    _Stage(6, 80, 3, 1),
    _Stage(6, 112, 5, 1),
)
_STEM_CHANNELS = 32
_SKIP_AFTER = (0, 2, 4)
"""Blocks whose output is a skip connection, at strides 2, 4 and 8."""
_DECODER_CHANNELS = (64, 40, 24)
HEAD_STRIDE = 2
"""Stride of the head's maps: image pixels for each of their pixels, in both directions."""
_RIM = 2
"""Pixels of a decoder map that are kept around what is asked for. Interpolation makes four pixels of the next map of
them, of which the interpolation itself and the convolution behind it each spoil one, so that two good ones are left."""


def _same_pad(x: Tensor, kernel: int, stride: int) -> Tensor:
    # This is TensorFlow's SAME padding for even sizes, with which the ImageNet weights of Lite0 were trained.
    total = kernel - stride
    if total == 0:  # torch would copy the map
        return x
    before = total // 2
    return functional.pad(x, (before, total - before, before, total - before))


def _cropped(x: Tensor, n: int) -> Tensor:
    return x[:, :, n:-n, n:-n] if n else x


class _Conv(nn.Module):
    """A convolution, batch norm and, where ``activate`` is set, ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.activate = kernel, stride, activate
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=_BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(_same_pad(x, self.kernel, self.stride)))
        return functional.relu6(x) if self.activate else x


class _InvertedResidual(nn.Module):
    """A block that expands by 1x1, filters each channel and projects by 1x1 (Sandler et al. 2018)."""

    def __init__(self, inputs: int, stage: _Stage) -> None:
        super().__init__()
        hidden = inputs * stage.expand
        layers = [] if stage.expand == 1 else [_Conv(inputs, hidden, 1)]
        layers.append(_Conv(hidden, hidden, stage.kernel, stride=stage.stride, groups=hidden))
        layers.append(_Conv(hidden, stage.channels, 1, activate=False))
        self.layers = nn.Sequential(*layers)
        self.residual = stage.stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class Encoder(nn.Module):
    """The first nine blocks of EfficientNet-Lite0; they give maps at strides 2, 4, 8 and 16."""

    channels = (16, 24, 40, 112)
    """Number of channels of each of the four maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM_CHANNELS, 3, stride=2)
        blocks, channels = [], _STEM_CHANNELS
        for stage in _BLOCKS:
            blocks.append(_InvertedResidual(channels, stage))
            channels = stage.channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map an image of shape (n, 3, h, w), scaled to -1..1, to four feature maps, finest first."""
        features = []
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _SKIP_AFTER:
                features.append(x)
        return [*features, x]


class NucleusUnet(nn.Module):
    """A network that maps an image to logits at full resolution, one channel for each output.

    Parameters
    ----------
    n_outputs
        Number of output channels: nucleus, distance, and positive where a marker is scored.
    fine
        Whether a second head adds a value of its own to each of the four pixels under a pixel of the first head's grid
        (pixel shuffle, Shi et al. 2016): at coarse pixel sizes an outline is finer than that grid.
    """

    def __init__(self, n_outputs: int, fine: bool = False) -> None:
        super().__init__()
        self.encoder = Encoder()
        channels = Encoder.channels[-1]
        decoder = []
        for skip, outputs in zip(reversed(Encoder.channels[:-1]), _DECODER_CHANNELS, strict=True):
            decoder.append(_Conv(channels + skip, outputs, 3))
            channels = outputs
        self.decoder = nn.ModuleList(decoder)
        self.head = nn.Conv2d(channels, n_outputs, 1)
        self.detail = nn.Conv2d(channels, n_outputs * HEAD_STRIDE**2, 1) if fine else None

    def maps(self, rgb: Tensor) -> list[Tensor]:
        """Map RGB as in :meth:`forward` to the encoder's four maps and then the decoder's three."""
        encoded = self._encode(rgb)
        return [*encoded, *self._decode(encoded, margin_px=0)]

    def forward(self, rgb: Tensor, margin_px: int = 0) -> Tensor:
        """Map RGB in 0..255, shape (n, 3, h, w) with h and w multiples of 16, to logits (n, outputs, h, w).

        With a margin, the logits are those within it, of shape (n, outputs, h - 2 * margin_px, w - 2 * margin_px), and
        the decoder does not work on the margin. A margin is a multiple of 16 of at least 32. Where it is less than the
        network's reach, the outer logits depend on the image's border.

        Raises
        ------
        ValueError
            When the margin is another.
        """
        if margin_px % ENCODER_STRIDE or (margin_px and margin_px < _RIM * ENCODER_STRIDE):
            raise ValueError(f"margin_px={margin_px}: 0, or a multiple of {ENCODER_STRIDE} of at least 32 is needed.")
        y = self._decode(self._encode(rgb), margin_px)[-1]
        logits = functional.interpolate(
            self.head(y), scale_factor=float(HEAD_STRIDE), mode="bilinear", align_corners=False
        )
        if self.detail is not None:
            logits = logits + functional.pixel_shuffle(self.detail(y), HEAD_STRIDE)
        return _cropped(logits, HEAD_STRIDE * _RIM) if margin_px else logits

    def _encode(self, rgb: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.encoder(rgb / 127.5 - 1.0)
        return maps

    def _decode(self, encoded: Sequence[Tensor], margin_px: int) -> list[Tensor]:
        """Map the encoder's maps to the decoder's, each of what lies within the margin and of a rim around it."""
        rim, stride = _RIM if margin_px else 0, ENCODER_STRIDE
        *skips, y = encoded
        y, maps = _cropped(y, margin_px // stride - rim), []
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            stride //= 2
            y = functional.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = _cropped(block(torch.cat([y, _cropped(skip, margin_px // stride - 2 * rim)], dim=1)), rim)
            maps.append(y)
        return maps


def refine_head(network: NucleusUnet) -> NucleusUnet:
    """Copy a network and give it a second, fine head, which adds nothing yet."""
    fine = NucleusUnet(network.head.out_channels, fine=True)
    assert fine.detail is not None
    for parameter in fine.detail.parameters():
        nn.init.zeros_(parameter)
    fine.load_state_dict({**fine.state_dict(), **network.state_dict()})
    return fine.train(network.training)

"""References for the speed of blocks: lower bounds of the time, HoVer-Net, and a method without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.reading import find_stored
from benchmarks.speed_bench import MPP, Skipped, mm2
from wsipsm.benchmark.classical import dab_cut, detect_ihc, segment_he
from wsipsm.models.card import ModelCard
from wsipsm.models.vision import import_torchvision
from wsipsm.models.weights import build_network
from wsipsm.slide.open import open_slide

MATRIX_SIDE = 2048
COUNTED_PX = 256
"""Side of the image on which multiplications are counted."""
HOVERNET_PX, HOVERNET_KEPT_PX = 256, 164
"""Sides in pixels of the input and of the output of HoVer-Net's fast mode."""
NUCLEUS_UM = 7.5
"""Diameter of a typical nucleus, for the method without a network."""

Work = tuple[Callable[[], object], float]
"""Some work, and the factor from its seconds to seconds per mm2."""


def decoding(slide: Path) -> Work:
    """Decode all tiles of a slide's full resolution by libjpeg-turbo, from memory."""
    with open_slide(slide, identify=False) as opened:
        size = opened.info.size
    stored = find_stored(slide, size)
    if stored is None:
        raise Skipped("the slide's tiles cannot be given to the decoder")
    return stored.decode, 1 / mm2(size.area, MPP)


def multiplying(card: ModelCard, weights: Path) -> Work:
    """Multiply two large square matrices, as often as the network multiplies for one mm2 seen once."""
    import torch

    torch.set_num_threads(1)
    left = torch.rand(MATRIX_SIDE, MATRIX_SIDE)
    per_mm2 = count_macs(card, weights) / mm2(COUNTED_PX**2, card.mpp)
    return lambda: left @ left, per_mm2 / MATRIX_SIDE**3


def count_macs(
    card: ModelCard, weights: Path, size_px: tuple[int, int] = (COUNTED_PX, COUNTED_PX), margin_px: int = 0
) -> int:
    """Count a network's multiply-accumulates for an image of some height and width, of its convolutions alone."""
    import torch
    from torch import nn

    network = build_network(card, weights).to("meta")  # shapes are enough, nothing is computed
    macs = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.empty(1, 3, *size_px, device="meta"), margin_px)
    return macs


def hovernet() -> Work:
    """Run HoVer-Net's fast mode with random weights on one patch, in one thread."""
    try:
        import torch

        import_torchvision("models")  # tiatoolbox needs one that can be imported
        from tiatoolbox.models.architecture.hovernet import HoVerNet
    except (ImportError, RuntimeError) as error:
        raise Skipped(f"tiatoolbox cannot be imported ({error})") from error
    torch.set_num_threads(1)
    network = HoVerNet(num_types=None, mode="fast").eval()
    patch = torch.rand(1, 3, HOVERNET_PX, HOVERNET_PX) * 255

    def run() -> None:
        with torch.inference_mode():
            network(patch)

    return run, 1 / mm2(HOVERNET_KEPT_PX**2, MPP)


def classical(stain: str, rgb: NDArray[np.uint8], mpp: float) -> Work:
    """Find nuclei of an image in memory by thresholds and watershed."""
    factor = 1 / mm2(rgb.shape[0] * rgb.shape[1], mpp)
    if stain == "he":
        return lambda: segment_he(rgb), factor
    cut = dab_cut([rgb])
    return lambda: detect_ihc(rgb, NUCLEUS_UM / mpp, cut), factor

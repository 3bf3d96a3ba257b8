"""A network in a few lines, a slide to run it on, and a way to put it where a run meets its network.

``install`` replaces the two seams of the stages; ``dask_setup`` does the same in workers, which load this file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsipsm.keys import Stain
from wsipsm.models.card import DecodeSettings, ModelCard
from wsipsm.models.inference import Inference

MPP = 0.5
HERE = str(Path(__file__).resolve())
_BLUR = 2
_PEAK = 5

CARD = ModelCard(
    name="stand-in",
    stain=Stain.IHC,
    mpp=MPP,
    stride=16,
    reach_px=_BLUR + _PEAK,
    outputs=("nucleus", "distance"),
    decode=DecodeSettings(min_area_um2=4.0, max_area_um2=250.0),
    sha256="0" * 64,
)


class DarknessPredictor:
    """Dark is nucleus; sums of whole numbers, so that a pixel's score does not depend on where it was cut."""

    card = CARD
    backend = "stand-in"
    margin_px = 0

    def predict(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        delay = os.environ.get("WSIPSM_STAND_IN_DELAY_S")
        if delay:
            import time

            time.sleep(float(delay))
        darkness = (255 - rgb.min(axis=2)).astype(np.float32)
        mean = cv2.filter2D(darkness, cv2.CV_32F, np.ones((2 * _BLUR + 1,) * 2, np.float32)) / (2 * _BLUR + 1) ** 2
        nucleus = np.clip((mean - 60) / 60, 0, 1)
        inside = (nucleus > 0.5).astype(np.float32)
        distance = cv2.filter2D(inside, cv2.CV_32F, np.ones((2 * _PEAK + 1,) * 2, np.float32)) / (2 * _PEAK + 1) ** 2
        return np.stack([nucleus, distance]).astype(np.float32)

    def predict_many(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        return map(self.predict, images)


def load_stand_in(weights: str, card: ModelCard, inference: Inference, threads: int) -> DarknessPredictor:
    return DarknessPredictor()


class NoDescriber:
    """No ruler of the pixel size is fitted for the stand-in: the check of the picture says so, and reads nothing."""

    card = CARD


def load_no_describer(weights: str, card: ModelCard) -> NoDescriber:
    return NoDescriber()


def resolve_stand_in(name: str) -> tuple[Path, ModelCard]:
    return Path("stand-in.safetensors"), CARD


PLACES = (
    ("wsipsm.stages.block", "load_predictor", load_stand_in),
    ("wsipsm.quality.picture_size", "load_describer", load_no_describer),
    ("wsipsm.stages.plan", "resolve_model", resolve_stand_in),
    ("wsipsm.stages.prepare", "resolve_model", resolve_stand_in),
)
"""Module, name, and what stands there in place of a model."""


def install() -> None:
    """Put the stand-in in place, for good: for processes of their own."""
    for module, name, stand_in in PLACES:
        setattr(import_module(module), name, stand_in)


async def dask_setup(worker: Any) -> None:
    install()


def draw_nuclei(width: int, height: int, seed: int = 0, density: float = 1.0) -> NDArray[np.uint8]:
    """Draw blue and brown nuclei at 0.5 um/px on pale tissue, many of them touching, shape (height, width, 3)."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), (238, 234, 236), np.uint8)
    noise = rng.integers(-4, 5, (height, width, 1))
    n = int(width * height / 900 * density)
    for _ in range(n):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(5, 11)), int(rng.integers(5, 11)))
        colour = (110, 74, 50) if rng.random() < 0.3 else (88, 98, 156)
        cv2.ellipse(image, centre, axes, float(rng.integers(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def draw_slide(path: Path, width: int, height: int, seed: int = 0, density: float = 1.0) -> Path:
    """Write drawn nuclei as an image that opens as a slide of one level."""
    Image.fromarray(draw_nuclei(width, height, seed, density)).save(path)
    return path

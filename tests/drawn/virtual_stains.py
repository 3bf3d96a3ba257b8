"""Other stains and faults drawn on the pixels of a hematoxylin-DAB picture, by arithmetic on optical density."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsipsm.demo.draw import draw_array

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float64]
LAMP = 245.0


def _unit(*values: float) -> Floats:
    vector = np.array(values)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float64)


HEMATOXYLIN = _unit(0.650, 0.704, 0.286)
DAB = _unit(0.268, 0.570, 0.776)
CHROMOGENS = {
    "aec": _unit(0.274, 0.680, 0.680),
    "fast red": _unit(0.214, 0.851, 0.478),
    "vip": _unit(0.450, 0.800, 0.400),
    "silver": _unit(1, 1, 1),
}
GREENS = {"HRP green": _unit(0.80, 0.30, 0.52), "bright green": _unit(0.70, 0.25, 0.67)}
"""Green chromogens, by eye."""
BLUES = {"BCIP/NBT": _unit(0.72, 0.62, 0.30), "Vector Blue": _unit(0.80, 0.55, 0.22)}
COUNTERSTAINS = {"methyl green": _unit(0.980, 0.144, 0.133), "nuclear fast red": _unit(0.250, 0.850, 0.450)}
MELANIN = ((45, 30, 22), (60, 40, 25), (30, 20, 15), (80, 50, 30))
HEMOSIDERIN = ((180, 130, 50), (150, 95, 30))
TINTS = ((1, 0.97, 0.9), (1, 0.9, 0.7), (0.85, 0.95, 1), (0.8, 1, 0.85), (1, 0.85, 0.6), (1, 0.9, 0.95))


def drawn(seed: int = 0, size: int = 640, positive_fraction: float = 0.27) -> Rgb:
    """Draw a picture of known nuclei at 0.5 um/px, shape (size, size, 3)."""
    n = int(2500 * (size * 2) ** 2 / (4000 * 3000))
    rgb, _ = draw_array(seed=seed, size=(size * 2, size * 2), n_nuclei=n, positive_fraction=positive_fraction)
    return np.asarray(cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def unmix(rgb: Rgb, glass: tuple[float, float, float] = (LAMP,) * 3) -> tuple[Floats, Floats]:
    """Amounts of hematoxylin and DAB by Ruifrok's vectors, shape (h, w), at least 0."""
    od = -np.log10((rgb.astype(np.float64) + 1) / (np.array(glass) + 1))
    residual = np.cross(HEMATOXYLIN, DAB)
    amounts = od @ np.linalg.inv(np.stack([HEMATOXYLIN, DAB, residual / np.linalg.norm(residual)]))
    return np.clip(amounts[..., 0], 0, None), np.clip(amounts[..., 1], 0, None)


def compose(first: Floats, second: Floats, first_hue: Floats = HEMATOXYLIN, second_hue: Floats = DAB) -> Rgb:
    """Picture of two stains by their amounts."""
    od = first[..., None] * first_hue + second[..., None] * second_hue
    return np.clip((LAMP + 1) * 10**-od - 1, 0, 255).round().astype(np.uint8)


def with_strength(rgb: Rgb, hematoxylin: float = 1.0, dab: float = 1.0) -> Rgb:
    """Make stains paler or darker; what is neither of them stays."""
    glass = np.percentile(rgb.reshape(-1, 3), 98, axis=0)
    first, second = unmix(rgb, (float(glass[0]), float(glass[1]), float(glass[2])))
    change = (hematoxylin - 1) * first[..., None] * HEMATOXYLIN + (dab - 1) * second[..., None] * DAB
    return np.clip((rgb.astype(np.float64) + 1) * 10**-change - 1, 0, 255).round().astype(np.uint8)


def with_chromogen(rgb: Rgb, hue: Floats, strength: float = 1.0) -> Rgb:
    """Put another chromogen in place of DAB."""
    first, second = unmix(rgb)
    return compose(first, second * strength, second_hue=hue)


def with_stains(rgb: Rgb, counterstain: Floats, chromogen: Floats) -> Rgb:
    """Put others in place of both stains."""
    return compose(*unmix(rgb), counterstain, chromogen)


def with_counterstain(rgb: Rgb, hue: Floats | None) -> Rgb:
    """Put another counterstain in place of hematoxylin, or none."""
    first, second = unmix(rgb)
    return compose(first * (hue is not None), second, HEMATOXYLIN if hue is None else hue)


def with_pigment(
    rgb: Rgb, colour: tuple[int, int, int], n: int, radius_px: tuple[float, float], seed: int = 0, blur_px: float = 0.0
) -> Rgb:
    """Scatter clumps of pigment, ellipses of any turn."""
    rng, out = np.random.default_rng(seed), rgb.copy()
    for _ in range(n):
        centre = (int(rng.integers(0, rgb.shape[1])), int(rng.integers(0, rgb.shape[0])))
        axes = (max(1, round(rng.uniform(*radius_px))), max(1, round(rng.uniform(*radius_px))))
        cv2.ellipse(out, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(out, (0, 0), blur_px) if blur_px else out, dtype=np.uint8)


def grey(rgb: Rgb, contrast: float = 1.0) -> Rgb:
    """Picture of a camera without colour."""
    level = rgb.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    level = np.clip(235 + (level - 235) * contrast, 0, 255).round()
    return np.repeat(level[..., None], 3, axis=2).astype(np.uint8)


def tinted(rgb: Rgb, tint: tuple[float, float, float]) -> Rgb:
    return np.asarray(np.clip(rgb * np.array(tint), 0, 255).round(), dtype=np.uint8)


def hazy(rgb: Rgb, share: float) -> Rgb:
    return np.asarray(np.clip(rgb * (1 - share) + share * 240, 0, 255).round(), dtype=np.uint8)


def as_jpeg(rgb: Rgb, quality: int) -> Rgb:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))

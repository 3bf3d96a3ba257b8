"""A comparison, without labels, of a new model with the one that it started from, on images kept from training.

Agreement cannot show which of two models is right. But it shows the usual signs of a failed training: many more or
fewer nuclei, larger or smaller ones, other ones than before, or nuclei that are not found again in the resized or
rotated image.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wsipsm.instances.decode import decode_instances
from wsipsm.metrics.segmentation import measure_overlap
from wsipsm.models.card import ModelCard
from wsipsm.models.unet import NucleusUnet
from wsipsm.training.device import find_compute
from wsipsm.training.recipe import WORKING_MPP
from wsipsm.training.rounds import score_at_scale
from wsipsm.training.sources import SourceImage

MATCH_IOU = 0.5
"""IoU above which two nuclei are the same."""
MAX_COMPARED, CENTRE_PX = 8, 1024
"""Largest number of images that are compared, and largest side of the part of each, pixels. With these a comparison
takes minutes, where a training takes an hour."""
_VIEWS = ((0.7, 0), (1.4, 0), (1.0, 1))
"""Scale and quarter turns at which a nucleus must be found again."""

# The bounds are chosen, not fitted. Two seeds of one recipe differ by far less, so that a warning means something.
COUNT_BOUNDS = (2 / 3, 3 / 2)
"""Bounds of the number of nuclei, that of the new model over that of the start."""
AREA_BOUNDS = (4 / 5, 5 / 4)
"""Bounds of the median area, that of the new model over that of the start.

Nuclei whose outlines all lie a pixel too far out are a seventh larger, which costs 0.01 AJI (docs/accuracy.md). A
failed training made them 1.26 times as large (docs/reliability.md).
"""
MIN_FOUND_AGAIN = 0.5
"""Smallest share of either model's nuclei that the other must find too."""
MAX_RECURRENCE_LOSS = 0.05
"""Largest decrease of the share of nuclei that a model finds again at other scales and turned."""
FEW_COMPARED = 5
"""Number of images below which a comparison without doubts proves little: on two images a loss of 0.05 AJI did not
show."""
BOUNDS_NOTE = "The bounds are chosen, not fitted"


@dataclass(frozen=True, slots=True)
class Split:
    """Images to train on, and images kept for the comparison."""

    trained: list[SourceImage]
    held_back: list[SourceImage]
    note: str

    @property
    def compared(self) -> list[NDArray[np.uint8]]:
        """Pixels to compare models on, shape (h, w, 3) each: of images kept from training, else of trained ones."""
        chosen = self.held_back or self.trained
        every = math.ceil(len(chosen) / MAX_COMPARED)
        return [_centre(one.image.rgb) for one in chosen[::every]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Nuclei of a new model and of its start on the same images."""

    start: str
    """Name of the model that the new one is compared with."""
    n_images: int
    held_back: bool
    """Whether the images were kept from training."""
    n_start: int
    n_new: int
    n_matched: int
    """Number of pairs of a nucleus of either model with an IoU above 0.5."""
    area_start_um2: float
    area_new_um2: float
    """Median area of each model's nuclei, um2; 0 where there are none."""
    recurrence_start: float
    recurrence_new: float
    """Share of a model's own nuclei that it finds again at other scales and turned, 0..1."""

    @property
    def count_ratio(self) -> float:
        """Number of the new model's nuclei over that of the start's; infinite when only the start found none."""
        return _ratio(self.n_new, self.n_start)

    @property
    def area_ratio(self) -> float:
        """Median area of the new model's nuclei over that of the start's."""
        return _ratio(self.area_new_um2, self.area_start_um2)

    @property
    def found_again(self) -> tuple[float, float]:
        """Share of the start's nuclei that the new model finds, and of the new model's that the start finds."""
        return self.n_matched / max(self.n_start, 1), self.n_matched / max(self.n_new, 1)

    def doubts(self) -> list[str]:
        """List what is out of bounds, in plain words; empty when nothing is."""
        if not self.n_new:
            return ["it finds no nucleus"]
        doubts = []
        if not COUNT_BOUNDS[0] <= self.count_ratio <= COUNT_BOUNDS[1]:
            doubts.append(f"it finds {self.n_new} nuclei where {self.start} finds {self.n_start}")
        if self.n_start and not AREA_BOUNDS[0] <= self.area_ratio <= AREA_BOUNDS[1]:
            doubts.append(f"their median area is {self.area_ratio:.2f} times as large")
        if self.n_start and min(self.found_again) < MIN_FOUND_AGAIN:
            doubts.append(f"only {min(self.found_again):.0%} of the nuclei are the same")
        if self.recurrence_new < self.recurrence_start - MAX_RECURRENCE_LOSS:
            doubts.append(
                f"{self.recurrence_new:.0%} of its nuclei are found again at other scales and turned, not "
                f"{self.recurrence_start:.0%}"
            )
        return doubts

    def lines(self) -> list[str]:
        """Write a short report, a list of lines; the last line is a warning where anything is out of bounds."""
        of_start, of_new = self.found_again
        area, area_before = self.area_new_um2, self.area_start_um2
        again, again_before = self.recurrence_new, self.recurrence_start
        kept = "kept from training" if self.held_back else "that it was TRAINED ON, as none was held back"
        images = "1 image" if self.n_images == 1 else f"{self.n_images} images"
        before = self.start
        lines = [
            f"Compared with {before}, without labels, on {images} {kept}:",
            f"  nuclei: {self.n_new} (x {self.count_ratio:.2f}); {before}: {self.n_start}",
            f"  median area: {area:.1f} um2 (x {self.area_ratio:.2f}); {before}: {area_before:.1f}",
            f"  the same at IoU {MATCH_IOU:g}: {of_new:.0%} of its nuclei; {of_start:.0%} of those of {before}",
            f"  found again at other scales and turned: {again:.0%}; {before}: {again_before:.0%}",
            "This shows whether it finds more, larger or other nuclei than the one before, or fewer of them again.",
            "It cannot show which of the two is right: that takes labels, or a comparison of both on a slide.",
        ]
        if self.n_images < FEW_COMPARED:
            lines.append(
                f"{images} {'is' if self.n_images == 1 else 'are'} few: a model that is worse "
                "on other slides can look sound here. Give more images, or keep the one before."
            )
        doubts = self.doubts()
        if doubts:
            lines.append(f"WARNING: {'; '.join(doubts)}. {BOUNDS_NOTE}: look at its nuclei before you use it.")
        return lines

    def record(self) -> dict[str, str | int | float | bool]:
        """Return the comparison as entries of a model card's training record."""
        return {
            "compared_with": self.start,
            "compared_images": self.n_images,
            "compared_on_held_back": self.held_back,
            "compared_nuclei": self.n_new,
            "compared_nuclei_start": self.n_start,
            "compared_nuclei_matched": self.n_matched,
            "compared_median_area_um2": round(self.area_new_um2, 2),
            "compared_median_area_um2_start": round(self.area_start_um2, 2),
            "compared_recurrence": round(self.recurrence_new, 4),
            "compared_recurrence_start": round(self.recurrence_start, 4),
            "compared_doubts": "; ".join(self.doubts()),
        }


def hold_back(images: Sequence[SourceImage], every: int) -> Split:
    """Keep some images from training: every Nth file, or every Nth patch where there are fewer than N files.

    Parameters
    ----------
    images
        All images, in order.
    every
        The number N; 0 keeps no image from training.

    Returns
    -------
    The images to train on and those kept, with a line of text on them.
    """
    if not every:
        return Split(list(images), [], "no image is held back, as the recipe asks")
    files = list(dict.fromkeys(one.file for one in images))
    if len(files) >= every:
        held_files = set(files[every - 1 :: every])
        held_back = [one for one in images if one.file in held_files]
        note = f"{len(held_files)} of {len(files)} files are held back to compare the model on"
    else:
        held_back = list(images[every - 1 :: every])
        note = (
            f"{len(held_back)} of {len(images)} patches are held back to compare the model on; "
            "they are of the same slides"
        )
    if not held_back:
        note = f"{len(images)} images are too few to hold one back: the model is compared on what it was trained on"
    kept = {id(one) for one in held_back}
    return Split([one for one in images if id(one) not in kept], held_back, note)


def compare_models(
    start: tuple[NucleusUnet, ModelCard],
    new: tuple[NucleusUnet, ModelCard],
    images: Sequence[NDArray[np.uint8]],
    held_back: bool,
) -> Comparison:
    """Find the nuclei of two models in the same images.

    Parameters
    ----------
    start, new
        Networks in evaluation mode, and their cards.
    images
        Images at 0.25 um/px, at least one, shape (h, w, 3), uint8.
    held_back
        Whether the images were kept from training.

    Returns
    -------
    Numbers and areas of the nuclei, and how many are the same.
    """
    finders = [_Finder(copy.deepcopy(network).to(find_compute().device), card) for network, card in (start, new)]
    areas: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    n_matched, n_again = 0, [0, 0]
    for rgb in images:
        found = [finder.find(rgb) for finder in finders]
        overlap = measure_overlap(*found)
        n_matched += int(np.count_nonzero(overlap.iou > MATCH_IOU))
        areas[0].append(overlap.truth_area)
        areas[1].append(overlap.predicted_area)
        for k, (finder, labels) in enumerate(zip(finders, found, strict=True)):
            n_again[k] += sum(_n_matched(labels, finder.find(rgb, *view)) for view in _VIEWS)
    first, second = (np.concatenate(part) for part in areas)
    return Comparison(
        start=start[1].name,
        n_images=len(images),
        held_back=held_back,
        n_start=first.size,
        n_new=second.size,
        n_matched=n_matched,
        area_start_um2=_median_um2(first),
        area_new_um2=_median_um2(second),
        recurrence_start=n_again[0] / max(1, first.size * len(_VIEWS)),
        recurrence_new=n_again[1] / max(1, second.size * len(_VIEWS)),
    )


@dataclass(frozen=True, slots=True)
class _Finder:
    network: NucleusUnet
    card: ModelCard

    def find(self, rgb: NDArray[np.uint8], scale: float = 1.0, turns: int = 0) -> NDArray[np.int32]:
        """Find the nuclei in a resized and rotated copy of an image; the label image has the image's own shape."""
        height, width = rgb.shape[:2]
        coarser = self.card.mpp / WORKING_MPP
        size = (round(width / coarser), round(height / coarser))
        seen = rgb if coarser == 1 else cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        turned = np.ascontiguousarray(np.rot90(seen, turns), np.uint8)
        scores = score_at_scale(self.network, turned, scale, self.card.input_sigma_px)
        back = np.ascontiguousarray(np.rot90(scores, -turns, (1, 2)))
        labels = decode_instances(back, self.card.outputs, self.card.decode, self.card.mpp)
        return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.int32)


def _n_matched(labels: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    return int(np.count_nonzero(measure_overlap(labels, other).iou > MATCH_IOU))


def _median_um2(areas_px: NDArray[np.int64]) -> float:
    return float(np.median(areas_px)) * WORKING_MPP**2 if areas_px.size else 0.0


def _ratio(new: float, start: float) -> float:
    if start:
        return new / start
    return math.inf if new else 1.0


def _centre(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    y, x = max(0, height - CENTRE_PX) // 2, max(0, width - CENTRE_PX) // 2
    return rgb[y : y + CENTRE_PX, x : x + CENTRE_PX]

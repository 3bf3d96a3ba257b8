"""Labelled images to score on. Nothing in ``wsipsm`` reads these labels; they never reach training.

Layout and origin of each set stand in the data folder's README. Points are in pixels, corner convention.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsipsm.geometry import Size

NO_POINTS: NDArray[np.float64] = np.empty((0, 2))


@dataclass(frozen=True)
class LabelledImage:
    """An image with a label image as its truth."""

    name: str
    path: Path
    rgb: NDArray[np.uint8]
    truth: NDArray[np.int32]

    @property
    def size(self) -> Size:
        """Of the image."""
        return Size(self.truth.shape[1], self.truth.shape[0])


@dataclass(frozen=True)
class PointImage:
    """An image with points as its truth."""

    name: str
    path: Path
    rgb: NDArray[np.uint8]
    positive: NDArray[np.float64]
    negative: NDArray[np.float64]
    ignore: NDArray[np.float64] = field(default_factory=NO_POINTS.copy)
    """Objects that are neither right nor wrong: predictions on them are dropped before scoring."""
    mask: NDArray[np.bool_] | None = None
    """Where to score; everywhere when None."""


@dataclass(frozen=True)
class PointSet:
    """How a set of point-labelled images is read and scored."""

    name: str
    folder: str
    radius_px: float
    diameter_px: float
    """Measured median diameter of a positive nucleus."""
    mpp: float
    """Pixel size assumed, um/px: no source documents one."""
    mpp_reason: str
    read: Callable[[Path], Iterator[PointImage]]


MONUSEG_MPP = 0.25


def monuseg_images(data: Path) -> Iterator[LabelledImage]:
    """MoNuSeg training images with the organisers' labels."""
    folder = data / "monuseg" / "train"
    for path in sorted((folder / "images").glob("*.tif")):
        truth = np.asarray(Image.open(folder / "labels_png" / f"{path.stem}.png")).astype(np.int32)
        yield LabelledImage(path.stem, path, read_rgb(path), truth)


def bcdata_images(data: Path) -> Iterator[PointImage]:
    """BCData test sample."""
    folder = data / "ki67" / "bcdata"
    for path in sorted((folder / "images" / "test").glob("*.png"), key=lambda p: int(p.stem)):
        points = {}
        for kind in ("positive", "negative"):
            with h5py.File(folder / "annotations" / "test" / kind / f"{path.stem}.h5") as file:
                # Whole pixel indices, x first; their centres are half a pixel on.
                points[kind] = np.asarray(file["coordinates"], float).reshape(-1, 2) + 0.5
        yield PointImage(path.stem, path, read_rgb(path), points["positive"], points["negative"])


def shidc_images(data: Path) -> Iterator[PointImage]:
    """SHIDC-B-Ki-67 sample; lymphocytes are to be ignored."""
    for path in sorted((data / "ki67" / "shidc").glob("*.jpg")):
        rows = json.loads(path.with_suffix(".json").read_text())
        points = {
            label: np.array([(r["x"] + 0.5, r["y"] + 0.5) for r in rows if r["label_id"] == label]).reshape(-1, 2)
            for label in (1, 2, 3)
        }
        yield PointImage(path.stem, path, read_rgb(path), points[1], points[2], points[3])


def dcis_images(data: Path) -> Iterator[PointImage]:
    """DCIS regions at half scale; labels end at the tumour mask."""
    for path in sorted((data / "ki67" / "dcis").glob("*.jpg")):
        with path.with_suffix(".csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        points = {
            kind: np.array([(float(r["x"]), float(r["y"])) for r in rows if r["class"] == kind]).reshape(-1, 2)
            for kind in ("positive", "negative")
        }
        mask = np.asarray(Image.open(path.with_name(f"{path.stem}_tumour.png"))) > 0
        yield PointImage(path.stem, path, read_rgb(path), points["positive"], points["negative"], mask=mask)


POINT_SETS = {
    "bcdata": PointSet("BCData", "bcdata", 10, 30, 0.25, "positive nucleus 30 px = 7.5 um", bcdata_images),
    "shidc": PointSet("SHIDC-B-Ki-67", "shidc", 16, 54, 0.15, "positive nucleus 54 px = 8.1 um", shidc_images),
    "dcis": PointSet("DCIS, half scale", "dcis", 5, 13, 0.6, "positive nucleus 13 px = 7.8 um", dcis_images),
}


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Pixels of a plain image file, (height, width, 3)."""
    return np.asarray(Image.open(path).convert("RGB"))

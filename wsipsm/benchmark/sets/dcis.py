"""Reads DCIS regions at half scale: ``<name>.jpg``, ``<name>.csv`` and ``<name>_tumour.png``.

Nuclei are labelled only inside the tumour mask.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsipsm.benchmark.images import PointImage, PointSet, check_pairs, list_files, read_mask
from wsipsm.errors import UsageError

KINDS = ("positive", "negative")


def dcis_images(folder: Path) -> list[PointImage]:
    """Find the images and read their points.

    Raises
    ------
    UsageError
        When an image, a table or a mask is missing, or a table cannot be used.
    """
    images, tables = list_files(folder, (".jpg",)), list_files(folder, (".csv",))
    masks = {stem.removesuffix("_tumour"): path for stem, path in list_files(folder, (".png",)).items()}
    check_pairs(folder, images, tables, ".csv")
    check_pairs(folder, images, masks, "_tumour.png")
    found = []
    for name, path in images.items():
        points = read_points(tables[name])
        mask = partial(read_mask, masks[name])
        found.append(PointImage(name, path, points["positive"], points["negative"], read_mask=mask))
    return found


def read_points(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the points of one image by class, shape (n, 2), from a CSV with x, y (corner convention) and class.

    Raises
    ------
    UsageError
        When a column is missing, a position is no number or a class is unknown.
    """
    points: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                points[row["class"]].append((float(row["x"]), float(row["y"])))
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UsageError(
            f"{path}: {error}; columns x, y and class ({' or '.join(KINDS)}) are needed. Download it again."
        ) from error
    return {kind: np.array(xy, np.float64).reshape(-1, 2) for kind, xy in points.items()}


DCIS = PointSet("DCIS, half scale", 5, 13, 0.6, "positive nucleus 13 px = 7.8 um", dcis_images)

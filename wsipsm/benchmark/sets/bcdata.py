"""Reads BCData as downloaded: ``images/<split>/<id>.png``, ``annotations/<split>/{positive,negative}/<id>.h5``."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from wsipsm.benchmark.images import PointImage, PointSet, check_pairs, list_files, notes_on_points, read_size
from wsipsm.errors import UsageError

DATASET = "coordinates"
_KINDS = ("positive", "negative")


def bcdata_images(folder: Path, split: str = "test") -> list[PointImage]:
    """Find the images of a split and read their points.

    Raises
    ------
    UsageError
        When a folder, an image or an annotation is missing, or an annotation cannot be used.
    """
    images = list_files(folder / "images" / split, (".png",))
    files = {kind: list_files(folder / "annotations" / split / kind, (".h5",)) for kind in _KINDS}
    for kind in _KINDS:
        check_pairs(folder / "images" / split, images, files[kind], f"{kind} .h5")
    found = []
    for name, path in images.items():
        points = {kind: read_coordinates(files[kind][name]) for kind in _KINDS}
        size = read_size(path)
        notes = tuple(note for kind in _KINDS for note in notes_on_points(files[kind][name], points[kind], size))
        found.append(PointImage(name, path, points["positive"], points["negative"], notes=notes))
    return found


def read_coordinates(path: Path) -> NDArray[np.float64]:
    """Read the points of one class of one image.

    The file holds whole pixel indices, x before y. Half a pixel is added, so that they become pixel centres in the
    corner convention.

    Returns
    -------
    Points (x, y), float64, shape (n, 2).

    Raises
    ------
    UsageError
        When the file is no HDF5, lacks ``coordinates``, or holds something other than points there.
    """
    try:
        with h5py.File(path, "r") as file:
            if DATASET not in file:
                there = ", ".join(file) or "nothing"
                raise UsageError(f"{path}: holds {there}; a dataset {DATASET!r} is needed. Download it again.")
            node = file[DATASET]
            if not isinstance(node, h5py.Dataset) or not np.issubdtype(node.dtype, np.number):
                raise UsageError(f"{path}: {DATASET!r} holds no numbers; points (n, 2) are needed.")
            values = np.asarray(node[()])
    except OSError as error:
        raise UsageError(f"{path}: no HDF5 file that can be read ({error}); download it again.") from error
    if values.size == 0:
        return np.empty((0, 2))
    if values.ndim != 2 or values.shape[1] != 2:
        raise UsageError(f"{path}: {DATASET!r} has shape {values.shape}; (n, 2), x before y, is needed.")
    points: NDArray[np.float64] = values.astype(np.float64) + 0.5
    if not np.isfinite(points).all():
        raise UsageError(f"{path}: {DATASET!r} holds values that are no numbers; pixel positions are needed.")
    return points


BCDATA = PointSet("BCData", 10, 30, 0.25, "positive nucleus 30 px = 7.5 um", bcdata_images)

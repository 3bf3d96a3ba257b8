"""Reads SHIDC-B-Ki-67 as downloaded: ``<name>.jpg`` and ``<name>.json`` side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from wsipsm.benchmark.images import PointImage, PointSet, check_pairs, list_files, notes_on_points, read_size
from wsipsm.errors import UsageError

LABELS = {1: "positive", 2: "negative", 3: "lymphocyte"}


def shidc_images(folder: Path) -> list[PointImage]:
    """Find the images and read their points; lymphocytes become objects to ignore.

    Raises
    ------
    UsageError
        When an image or an annotation is missing, or an annotation cannot be used.
    """
    images, files = list_files(folder, (".jpg", ".jpeg")), list_files(folder, (".json",))
    check_pairs(folder, images, files, ".json")
    found = []
    for name, path in images.items():
        points = read_points(files[name])
        notes = notes_on_points(files[name], np.concatenate(list(points.values())), read_size(path))
        found.append(PointImage(name, path, points["positive"], points["negative"], points["lymphocyte"], notes=notes))
    return found


def read_points(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the points of one image by class, from a list of objects with ``x``, ``y`` and ``label_id``.

    Positions are whole pixel indices. Half a pixel is added, so that they become pixel centres in the corner
    convention.

    Returns
    -------
    Points (x, y) of each class, shape (n, 2); a class without points has shape (0, 2).

    Raises
    ------
    UsageError
        When the file is no such list, or a label is none of 1 positive, 2 negative, 3 lymphocyte.
    """
    try:
        rows = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UsageError(
            f"{path}: no JSON ({error}); the set's own annotation is needed. Download it again."
        ) from error
    if not isinstance(rows, list):
        raise UsageError(f"{path}: holds a {type(rows).__name__}; a list of points is needed. Download it again.")
    points: dict[str, list[tuple[float, float]]] = {kind: [] for kind in LABELS.values()}
    for index, row in enumerate(rows):
        kind, x, y = _point(path, index, row)
        points[kind].append((x + 0.5, y + 0.5))
    return {kind: np.array(xy, np.float64).reshape(-1, 2) for kind, xy in points.items()}


def _point(path: Path, index: int, row: Any) -> tuple[str, float, float]:
    keys = ("x", "y", "label_id")
    if not isinstance(row, dict) or any(type(row.get(key)) not in (int, float) for key in keys):
        raise UsageError(f"{path}: point {index} is {row!r:.100}; numbers x, y and label_id are needed.")
    if row["label_id"] not in LABELS:
        known = ", ".join(f"{label} ({kind})" for label, kind in LABELS.items())
        raise UsageError(
            f"{path}: point {index} has label_id {row['label_id']}; one of {known} is needed. Is it another set?"
        )
    return LABELS[row["label_id"]], float(row["x"]), float(row["y"])


SHIDC = PointSet("SHIDC-B-Ki-67", 16, 54, 0.15, "positive nucleus 54 px = 8.1 um", shidc_images)

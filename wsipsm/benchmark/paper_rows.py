"""Trains the paper's engine on the pixels of a set, and makes its steps methods to score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsipsm.benchmark.bench import BenchImage, Method, OpenSet
from wsipsm.benchmark.classical import Points
from wsipsm.benchmark.images import LabelledImage, PointImage, list_files, read_rgb
from wsipsm.benchmark.scoring import centroids
from wsipsm.config import PaperOptions
from wsipsm.errors import UsageError
from wsipsm.paper.engine import OPENING_PX, Announce, PaperEngine, Progress, train_paper
from wsipsm.psm.points import divide_by_points
from wsipsm.psm.recurrence import divide_touching
from wsipsm.psm.semantic import NUCLEUS, POSITIVE
from wsipsm.slide.formats import PLAIN, TIFF, single_suffixes

_HALF = 0.5
"""Background score of the detector below which a pixel is nuclear."""
_SUFFIXES = (*single_suffixes(TIFF), *single_suffixes(PLAIN))


def train_methods(
    opened: OpenSet,
    options: PaperOptions,
    keep: Path,
    announce: Announce,
    progress: Progress,
    train_on: Path | None = None,
) -> list[Method]:
    """Train the paper's engine on images, without annotations, and return its steps as methods to score.

    Parameters
    ----------
    opened
        Set of images that `wsipsm.benchmark.bench.open_set` returned.
    options
        Settings for the set's stain.
    keep
        Folder for checkpoints and logs.
    announce, progress
        The same as in :func:`wsipsm.paper.engine.train_paper`.
    train_on
        Folder of the images to train on; None: the scored images.

    Raises
    ------
    UsageError
        When the folder holds no image, or one that cannot be used.
    """
    pixels = [replace(image).rgb for image in opened.images] if train_on is None else _read_folder(train_on)
    engine = train_paper(pixels, options, keep, announce, progress)
    about = _settings_text(options, engine, train_on, len(pixels))
    steps = _Steps(engine)
    return _label_methods(steps, about) if opened.points is None else _point_methods(steps, about)


@dataclass(frozen=True, slots=True)
class _Results:
    """The engine's intermediate results of one image."""

    path: Path
    mask: NDArray[np.uint8]
    """Pseudo mask of classes, shape (h, w)."""
    scores: NDArray[np.float32]
    """Scores of the detector, shape (classes, h, w)."""
    points: dict[int, NDArray[np.float64]]
    """Detected points (x, y), corner convention, shape (n, 2), by class."""


class _Steps:
    """The engine's results of the last image, which all methods share."""

    def __init__(self, engine: PaperEngine) -> None:
        self.engine = engine
        self._last: _Results | None = None

    def of(self, image: BenchImage) -> _Results:
        """Return the results of an image; they are computed if they are not those of the last one."""
        if self._last is None or image.path != self._last.path:
            scores = self.engine.scores(image.rgb)
            mask = self.engine.maps.pseudo_mask(image.rgb)
            self._last = _Results(image.path, mask, scores, self.engine.points_in(scores))
        return self._last


def _label_methods(steps: _Steps, about: str) -> list[Method]:
    def mask(image: LabelledImage) -> NDArray[np.int32]:
        return _components(steps.of(image).mask > 0)

    def divided(image: LabelledImage) -> NDArray[np.int32]:
        return divide_touching(steps.of(image).mask > 0, OPENING_PX)

    def detected(image: LabelledImage) -> NDArray[np.int32]:
        made = steps.of(image)
        return divide_by_points(made.mask > 0, made.points[NUCLEUS])

    def scored(image: LabelledImage) -> NDArray[np.int32]:
        return divide_touching(steps.of(image).scores[0] < _HALF, OPENING_PX)

    def segmented(image: LabelledImage) -> NDArray[np.int32]:
        made = steps.of(image)
        return steps.engine.segment(image.rgb, made.points[NUCLEUS], made.mask)

    return [
        Method("psm pseudo mask", mask, lambda: about),
        Method("psm pseudo mask, watershed", divided),
        Method("psm pseudo mask, divided by detection", detected),
        Method("psm detection, its map, watershed", scored),
        Method("psm segmentation", segmented),
    ]


def _point_methods(steps: _Steps, about: str) -> list[Method]:
    def mask(image: PointImage) -> Points:
        classes = steps.of(image).mask
        positive, negative = (centroids(divide_touching(classes == kind, OPENING_PX)) for kind in (POSITIVE, NUCLEUS))
        return positive, negative

    def detected(image: PointImage) -> Points:
        points = steps.of(image).points
        return points[POSITIVE], points[NUCLEUS]

    return [Method("psm pseudo mask, watershed", mask, lambda: about), Method("psm detection", detected)]


def _components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.asarray(ndimage.label(mask)[0], np.int32)


def _read_folder(folder: Path) -> list[NDArray[np.uint8]]:
    files = list_files(folder, _SUFFIXES)
    if not files:
        raise UsageError(f"--train-on {folder}: holds no image; {', '.join(_SUFFIXES)} are read. Check the path.")
    return [read_rgb(path) for path in files.values()]


def _settings_text(options: PaperOptions, engine: PaperEngine, train_on: Path | None, n_images: int) -> str:
    collapsed = ", collapsed" if engine.log.collapsed else ""
    settings = "; ".join(
        f"{name}: " + ", ".join(f"{key} {value}" for key, value in section.items() if value is not None)
        for name, section in options.model_dump(mode="json").items()
        if isinstance(section, dict)
    )
    whose = "these images' pixels alone" if train_on is None else f"the pixels of {n_images} images of {train_on} alone"
    also = "; every image is also one that was trained on" if train_on is None else ""
    return (
        f"psm rows: trained on {whose}, pretext {len(engine.log.losses)} steps{collapsed}{also}. "
        f"Budget {options.budget:g}, seed {options.seed}. {settings}."
    )

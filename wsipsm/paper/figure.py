"""The paper's figure for one slide or image, with every step of the chain on the same pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsipsm.config import PaperOptions, read_paper_options
from wsipsm.export.psm_figure import PsmPicture, draw_psm
from wsipsm.keys import Stain
from wsipsm.paper.engine import Announce, PaperMaps, Progress, fit_maps, train_maps, train_paper
from wsipsm.psm.activation import central_patch
from wsipsm.psm.points import find_maxima, voronoi_label
from wsipsm.psm.semantic import NUCLEUS, POSITIVE
from wsipsm.rundir import output_error
from wsipsm.training.patches import draw_patches

_SHOWN_PX = 512
_STAGES = (1, 2, 3, 4)
_MASK_SCORE = 0.35


@dataclass(frozen=True, slots=True)
class PsmResult:
    """The path of the figure, and what it shows."""

    picture: str
    stain: Stain
    n_points: int
    nuclear_share: float
    """Share of the shown pixels that are nuclear in the pseudo mask, 0..1."""
    collapsed: bool
    """Whether the embedding collapsed in the pretext training, so that the maps mean little."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PsmChoice:
    """Options that a user may choose for the figure."""

    config: Path | None = None
    """Settings file; None: the paper's settings for the stain, with short trainings."""
    network: str | None = None
    seed: int | None = None
    stain: Stain | None = None
    """Stain of the slide; None: the one found from its colours."""
    trained: bool = False
    """Whether a detector is trained for the points; else they are maxima of the smoothed pseudo mask."""

    def options(self, stain: Stain | None) -> PaperOptions:
        """Make the settings for a slide of a stain; None: the stain is not known yet."""
        changes = {} if self.seed is None else {"seed": self.seed}
        options = read_paper_options(self.config, stain, **changes)
        if self.config is None:
            pretext = options.pretext.model_copy(update={"steps": 25, "crop_px": 128})
            detection = options.detection.model_copy(update={"steps": 100, "crop_px": 128})
            clusters = options.clusters.model_copy(update={"fitted": "set"})  # patches of one slide
            changed = {"pretext": pretext, "detection": detection, "clusters": clusters}
            options = options.model_copy(update=changed)
        if self.network is not None:
            pretext = options.pretext.model_copy(update={"network": self.network})
            options = options.model_copy(update={"pretext": pretext})
        return options


def show_psm(
    path: Path,
    out: Path,
    choice: PsmChoice,
    *,
    mpp: float | None,
    working_mpp: float,
    announce: Announce,
    progress: Progress,
) -> PsmResult:
    """Train the activation network on a slide's own pixels, and draw each step of the chain on a part of the slide.

    Parameters
    ----------
    path
        Path of a slide or image.
    out
        Folder for the picture and the checkpoints, both in a subfolder with the slide's name.
    choice
        Options of the figure.
    mpp
        Pixel size where the file states none, um/px.
    working_mpp
        Pixel size that the slide is read at, um/px.
    announce, progress
        The same as in :func:`wsipsm.paper.engine.train_paper`.

    Raises
    ------
    SlideError, UsageError
        When the slide cannot be used, or a package is missing.
    OutputError
        When the picture cannot be written.
    """
    seed = choice.options(choice.stain).seed  # before any work: settings may be refused
    drawn = draw_patches(path, mpp, choice.stain, seed, working_mpp)
    options = choice.options(choice.stain or drawn.decision.stain)
    images = [image.rgb for image in drawn.images]
    announce(f"{path.name}: {options.stain.value}, {len(images)} patches of tissue at {working_mpp:g} um/px")
    folder = out / path.stem
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    rgb = central_patch(images[0], _SHOWN_PX)
    if choice.trained:
        engine = train_paper(images, options, folder / "training", announce, progress, segmenting=False)
        return _draw(path, folder, rgb, engine.maps, images, engine.points(rgb), engine.log.collapsed)
    maps, log = train_maps(images, options, folder / "training", announce, progress)
    return _draw(path, folder, rgb, maps, images, None, log.collapsed)


def _draw(
    path: Path,
    folder: Path,
    rgb: NDArray[np.uint8],
    maps: PaperMaps,
    images: list[NDArray[np.uint8]],
    detected: dict[int, NDArray[np.float64]] | None,
    collapsed: bool,
) -> PsmResult:
    options = maps.options
    activation = maps.activation(rgb)
    stages = [_at_stage(maps, images, stage).activation(rgb) for stage in _STAGES]
    clusters = maps.clusters_of(rgb, activation)
    fused = clusters.fusion.fuse(activation, rgb)
    classes = maps.mask_of(rgb, activation, clusters)
    points = _mask_points(classes, options) if detected is None else detected
    all_points = np.concatenate(list(points.values()))
    target = folder / "psm.png"
    draw_psm(
        target,
        PsmPicture(
            title=f"{path.name}: prior self-activation maps, {options.pretext.network}, {options.pretext.task}",
            rgb=rgb,
            stages=stages,
            fused=fused,
            clusters=clusters.nearest(fused),
            classes=classes,
            points=points,
            voronoi=voronoi_label(all_points, classes.shape, options.segmentation.point_radius_px),
            beta=options.clusters.beta,
            caption="points: maxima of the detector's score map"
            if detected is not None
            else "points: maxima of the smoothed pseudo mask; a trained detector's with --train",
        ),
    )
    notes = tuple(note for note in (clusters.note,) if note)
    return PsmResult(str(target), options.stain, len(all_points), float((classes > 0).mean()), collapsed, notes)


def _at_stage(maps: PaperMaps, images: list[NDArray[np.uint8]], stage: int) -> PaperMaps:
    if stage == maps.options.activation.stage:
        return maps
    section = maps.options.activation.model_copy(update={"stage": stage})
    return fit_maps(maps.network, images, maps.options.model_copy(update={"activation": section}))


def _mask_points(classes: NDArray[np.uint8], options: PaperOptions) -> dict[int, NDArray[np.float64]]:
    section = options.detection
    kinds = (NUCLEUS,) if options.stain == Stain.HE else (NUCLEUS, POSITIVE)
    return {
        kind: find_maxima((classes == kind).astype(np.float32), section.radius_px, _MASK_SCORE, section.sigma_px)
        for kind in kinds
    }
